"""Adam on one vector does what Adam on every parameter does."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from nn import optimiser


def gradient(step: int) -> dict:
    keys = jax.random.split(jax.random.key(step), 3)
    shapes = ((3, 3, 2, 4), (4,), ())
    return {
        f"layer{i}": jax.random.normal(k, s)
        for i, (k, s) in enumerate(zip(keys, shapes, strict=True))
    }


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (optimiser.adam(1e-2, 0.5, 0.9), optax.adam(1e-2, 0.5, 0.9)),
        (
            optimiser.adamw(optax.linear_schedule(0, 1e-2, 4), weight_decay=0.1),
            optax.adamw(optax.linear_schedule(0, 1e-2, 4), weight_decay=0.1),
        ),
    ],
    ids=["adam", "adamw"],
)
def test_updates_are_those_of_every_parameter_by_itself(ours, theirs):
    results = []
    for tx in (ours, theirs):
        params = jax.tree.map(lambda g: jnp.ones_like(g) + g, gradient(99))
        state = tx.init(params)
        for step in range(5):
            updates, state = tx.update(gradient(step), state, params)
            params = optax.apply_updates(params, updates)
        results.append(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), *results)


def test_moments_are_one_vector():
    params = gradient(0)
    moments = optax.tree_utils.tree_get(optimiser.adam(1e-3, 0.9, 0.999).init(params), "mu")
    assert moments.shape == (3 * 3 * 2 * 4 + 4 + 1,)
