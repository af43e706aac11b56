"""Adam on all parameters of a network as one vector.

A residual network has a hundred small parameters, and Adam takes several operations for each: on
CPU starting them takes longer than computing them. The moments are vectors too, in the order of
`jax.tree.leaves`.
"""

import optax


def adam(
    learning_rate: optax.ScalarOrSchedule, b1: float, b2: float
) -> optax.GradientTransformation:
    """Adam (Kingma and Ba 2015, algorithm 1)."""
    return optax.flatten(optax.adam(learning_rate, b1, b2))


def adamw(
    learning_rate: optax.ScalarOrSchedule, weight_decay: float
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay of every parameter (Loshchilov and Hutter 2019)."""
    return optax.flatten(optax.adamw(learning_rate, weight_decay=weight_decay))
