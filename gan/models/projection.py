"""The class term of a projection discriminator."""

import jax


def class_term(features: jax.Array, embedding: jax.Array, labels: jax.Array) -> jax.Array:
    """v_label . f for every image (Miyato and Koyama 2018, equation 3).

    Args:
        features: f, [B, F].
        embedding: v, [num_classes, F].
        labels: [B] int32; -1 is unknown.

    Returns:
        [B]; 0 for unknown labels, whose zero row switches the term and its gradient off.
    """
    chosen = jax.nn.one_hot(labels, len(embedding), dtype=features.dtype) @ embedding
    return (chosen * features).sum(-1)
