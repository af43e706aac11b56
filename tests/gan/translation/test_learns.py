"""The whole step, repeated: a translator learns where disease is from one label per image."""

import functools

import jax
import numpy as np
from sklearn.metrics import roc_auc_score

from gan.models import translator
from gan.translation import apply, domains, steps
from gan.translation.losses import Weights
from gan.translation.state import TranslatorSpec, init_state
from nn import optimiser

_BATCH, _STEPS = 8, 240


def _drawn(seed, count):
    """Blurred noise, every second image with a brighter square somewhere; labels; the squares."""
    rng = np.random.default_rng(seed)
    images = rng.uniform(-1, 0.2, (count, 4, 4, 1)).repeat(4, 1).repeat(4, 2)
    images += rng.normal(0, 0.05, images.shape)
    squares = np.zeros((count, 16, 16), bool)
    for i in range(1, count, 2):
        row, column = rng.integers(1, 12, 2)
        squares[i, row : row + 4, column : column + 4] = True
    images[..., 0] += 0.8 * squares
    labels = np.arange(count, dtype=np.int32) % 2
    return np.clip(images, -1, 1).astype(np.float32), labels, squares


def test_a_square_that_is_the_disease_is_found():
    spec = TranslatorSpec(
        translator=translator.Translator(8, 1, "clip"),
        discriminator=translator.Discriminator(1, 8),
        g_tx=optimiser.adam(1e-3, 0.5, 0.999),
        d_tx=optimiser.adam(1e-3, 0.5, 0.999),
        domains=domains.healthy(["healthy", "square"], "healthy"),
        weights=Weights(penalty=10.0, domain=10.0, cycle=50.0, identity=50.0),
        targets="other",
        n_critic=1,
    )
    images, labels, _ = _drawn(0, 1024)
    state = init_state(spec, images.shape[1:], jax.random.key(0))
    step = jax.jit(functools.partial(steps.train_step, spec=spec), donate_argnums=0)
    rng = np.random.default_rng(2)
    for _ in range(_STEPS):
        pairs = 2 * rng.integers(0, len(images) // 2, _BATCH // 2)
        rows = np.concatenate([pairs, pairs + 1])
        state, _ = step(state, {"image": images[rows], "label": labels[rows]}, jax.random.key(3))

    unseen, labels, squares = _drawn(1, 200)
    to_healthy = np.zeros((len(unseen), 1), np.float32)
    healthy = apply.translate(spec.translator, state.ema_params, unseen, to_healthy)
    maps = apply.difference(unseen, healthy)
    assert roc_auc_score(labels, maps.mean((1, 2))) > 0.9
    assert roc_auc_score(labels, maps.max((1, 2))) > 0.8
    assert maps[squares].mean() > 4 * maps[~squares].mean()
    # What was too bright becomes darker.
    assert (healthy - unseen)[..., 0][squares].mean() < -0.1
