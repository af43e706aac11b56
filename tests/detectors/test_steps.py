"""Losses by hand, and steps that do not depend on how a batch is divided."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from detectors import losses, steps
from detectors.models.vae import VAE, Latent
from nn import optimiser
from nn.gradient import Gradient


class Given(nn.Module):
    """Returns its parameter, whatever it is given."""

    what: str = "single"

    def __call__(self, x, keys=None):
        value = self.get_variable("params", "value")
        if self.what == "latent":
            return value, Latent(*(self.get_variable("params", n) for n in ("mean", "log")))
        return value


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_reconstruction_by_hand(rng):
    x, made = rng.uniform(-1, 1, (2, 3, 4, 4, 2))
    loss, metrics = losses.Reconstruction()(Given(), {"value": made}, {"image": x})
    assert loss == pytest.approx(np.abs(x - made).mean())
    assert metrics == {"loss": loss}


def test_divergence_is_that_of_samples(rng):
    x, made = rng.uniform(-1, 1, (2, 2, 4, 4, 1))
    mean, log = rng.normal(size=(2, 2, 3)) * 0.7
    params = {"value": made, "mean": mean, "log": log}
    loss, metrics = losses.Variational(0.5)(Given("latent"), params, {"image": x, "key": None})
    deviation = np.exp(log / 2)
    z = mean + deviation * rng.normal(size=(400_000, 2, 3))
    own = -(((z - mean) / deviation) ** 2) / 2 - np.log(deviation)
    expected = (own + z**2 / 2).sum(-1).mean()
    assert metrics["kl"] == pytest.approx(expected, rel=0.01)
    assert metrics["reconstruction"] == pytest.approx(np.abs(x - made).mean())
    assert loss == pytest.approx(metrics["reconstruction"] + 0.5 * metrics["kl"] / 16)


def test_segmentation_by_hand(rng):
    logits = rng.normal(size=(3, 5, 4)) * 3
    mask = rng.random((3, 5, 4)) < 0.3
    mask[1] = False
    rows = {"image": np.zeros((3, 5, 4, 1)), "mask": mask}
    loss, metrics = losses.Segmentation()(Given(), {"value": jnp.asarray(logits)}, rows)
    p = 1 / (1 + np.exp(-logits))
    entropy = -np.where(mask, np.log(p), np.log(1 - p)).mean()
    overlaps = [
        (2 * (a * m).sum() + 1) / (a.sum() + m.sum() + 1) for a, m in zip(p, mask, strict=True)
    ]
    dice = 1 - np.mean(overlaps)
    assert metrics["cross_entropy"] == pytest.approx(entropy, rel=1e-5)
    assert metrics["dice"] == pytest.approx(dice, rel=1e-5)
    assert loss == pytest.approx(entropy + dice, rel=1e-5)


def test_a_step_does_not_depend_on_how_its_rows_are_divided(rng):
    batch = {"image": jnp.asarray(rng.uniform(-1, 1, (4, 8, 8, 1)), jnp.float32)}
    made = []
    for accumulate in (1, 2):
        spec = steps.DetectorSpec(
            VAE(4, 4), losses.Variational(0.1), optimiser.adam(1e-3, 0.9, 0.999),
            Gradient(accumulate),
        )  # fmt: skip
        init = functools.partial(steps.init_state, image_shape=(8, 8, 1), spec=spec)
        state = jax.jit(init)(jax.random.key(0))
        step = jax.jit(functools.partial(steps.train_step, spec=spec))
        after, first = step(state, batch, jax.random.key(1))
        _, second = step(after, batch, jax.random.key(1))
        made.append((first, second))
    (first, second), others = made
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3), (first, second), others)
    assert set(first) == {"loss", "reconstruction", "kl", "grad_norm"}
    assert first["loss"] != second["loss"]
