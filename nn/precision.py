"""Mixed precision: layers multiply in a smaller type, and everything else stays in float32.

A layer's `dtype` is the type of the two factors of its products and of what it returns; None leaves
them as they are. Parameters, and so optimiser states and averages, statistics of normalisations,
logits, losses and penalties are float32 whatever it is.
"""

import jax
import jax.numpy as jnp

Dtype = jnp.dtype | None
# Configuration name to a network's `dtype`.
DTYPES = {"float32": None, "bfloat16": jnp.dtype(jnp.bfloat16)}


def cast(dtype: Dtype, *arrays: jax.Array) -> tuple[jax.Array, ...]:
    """The arrays in `dtype`, or as they are for None."""
    return arrays if dtype is None else tuple(array.astype(dtype) for array in arrays)


def widen(x: jax.Array) -> jax.Array:
    """A bfloat16 array in float32; wider ones as they are."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
