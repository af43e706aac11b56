"""Our side: states, batches, compiled steps, and the random numbers they draw."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.train_step import rows
from gan import state as gan_state
from gan import steps as gan_steps
from gan.models import MODELS
from gan.steps import Use
from nn import optimiser
from nn.precision import Dtype
from nn.resnet import ResNet
from vrn import classifier, traces

CLASSIFIER_RATE = 1e-3
WEIGHT_DECAY = 1e-3
EMA_DECAY = 0.999


@dataclasses.dataclass(frozen=True)
class Reduction:
    """`ClassifierSpec.prepare`: the VRN's smaller images, without its random blur and noise."""

    size: int

    def __call__(self, images: jax.Array, key: jax.Array | None) -> jax.Array:
        """Reduces images [B, H, W, C] to [B, size, size, C]."""
        del key
        return traces.remove_traces(images, self.size)


@dataclasses.dataclass(frozen=True)
class Work:
    """A row's networks, first state and batch.

    Attributes:
        row: the row.
        spec: `GanSpec` or `ClassifierSpec`.
        state: before the first step.
        batch: 'image' and 'label', the same at every step.
        key: of all steps.
        losses: names of the losses among the metrics.
    """

    row: rows.Row
    spec: Any
    state: Any
    batch: dict[str, jax.Array]
    key: jax.Array
    losses: tuple[str, ...]

    @property
    def settings(self) -> rows.Gan | rows.Classifier:
        """The settings of the row's kind."""
        return (rows.GANS | rows.CLASSIFIERS)[self.row.kind]


def build(row: rows.Row, dtype: Dtype = None) -> Work:
    """Networks, initial state and a batch of noise for a row.

    Args:
        row: the row.
        dtype: of the networks' products, see `nn.precision`.
    """
    keys = jax.random.split(jax.random.key(0), 3)
    if row.kind in rows.GANS:
        settings = rows.GANS[row.kind]
        spec = _gan_spec(row, settings, dtype)
        state = gan_state.init_state(spec, keys[1])
        classes, losses = rows.CLASSES, ("d_loss", "penalty", "g_loss")
        count = row.batch * settings.n_critic
    else:
        settings = rows.CLASSIFIERS[row.kind]
        spec = _classifier_spec(row, settings, dtype)
        shape = (row.size, row.size, rows.CHANNELS)
        init = jax.jit(functools.partial(classifier.init_state, image_shape=shape, spec=spec))
        state = init(keys[1])
        classes, losses, count = settings.classes, ("loss",), row.batch
    shape = (count, row.size, row.size, rows.CHANNELS)
    batch = {
        "image": jax.random.uniform(keys[0], shape, minval=-1),
        "label": jnp.arange(count) % classes,
    }
    return Work(row, spec, state, batch, keys[2], losses)


def _gan_spec(row: rows.Row, settings: rows.Gan, dtype: Dtype) -> gan_state.GanSpec:
    family = MODELS[settings.model]
    shape = (row.size, rows.CHANNELS, row.width, rows.CLASSES)
    options = {"spectral": True} if settings.spectral else {}
    adam = optimiser.adam(settings.learning_rate, settings.b1, settings.b2)
    return gan_state.GanSpec(
        family.Generator(*shape, z_dim=rows.LATENT, dtype=dtype),
        family.Discriminator(*shape, **options, dtype=dtype),
        adam,
        adam,
        loss=settings.loss,
        penalty=settings.penalty,
        penalty_weight=settings.penalty_weight,
        n_critic=settings.n_critic,
        ema_decay=EMA_DECAY,
    )


def _classifier_spec(
    row: rows.Row, settings: rows.Classifier, dtype: Dtype
) -> classifier.ClassifierSpec:
    size = row.size // settings.reduction
    stem = "imagenet" if size >= settings.imagenet_from else "small"
    return classifier.ClassifierSpec(
        ResNet(settings.classes, settings.depth, row.width, stem, dtype),
        optimiser.adamw(CLASSIFIER_RATE, weight_decay=WEIGHT_DECAY),
        settings.classes,
        prepare=Reduction(size) if settings.reduction > 1 else classifier.unprepared,
    )


def train_step(work: Work) -> Callable:
    """The row's step `(state, batch, key) -> (state, metrics)`, compiled, donating the state."""
    module = gan_steps if work.row.kind in rows.GANS else classifier
    return jax.jit(functools.partial(module.train_step, spec=work.spec), donate_argnums=0)


class Side:
    """Takes our steps one after the other from the initial state."""

    def __init__(self, work: Work):
        self.work = work
        self.state = jax.tree.map(jnp.copy, work.state)
        self.compiled = train_step(work).lower(self.state, work.batch, work.key).compile()

    def take(self) -> dict[str, jax.Array]:
        """Starts the next step and returns its metrics."""
        self.state, metrics = self.compiled(self.state, self.work.batch, self.work.key)
        return metrics

    def wait(self) -> None:
        """Until all steps are done."""
        jax.block_until_ready(self.state)


def draws(work: Work, step: int) -> dict[str, Any]:
    """The random numbers of our step number `step`, for PyTorch to use.

    Returns:
        For a GAN 'd_latents' [n_critic, B, Z], 'mix' [n_critic, B, 1, 1, 1] and 'g_latents' [B, Z];
        nothing for a classifier, whose step draws nothing here.
    """
    if work.row.kind in rows.CLASSIFIERS:
        return {}
    count, updates = work.row.batch, work.spec.n_critic
    key = jax.random.fold_in(work.key, step)
    d_key = jax.random.fold_in(key, Use.DISCRIMINATOR)
    each = [jax.random.fold_in(d_key, index) for index in range(updates)]
    normal = functools.partial(jax.random.normal, shape=(count, rows.LATENT))
    uniform = functools.partial(jax.random.uniform, shape=(count, 1, 1, 1))
    g_key = jax.random.fold_in(key, Use.GENERATOR)
    return {
        "d_latents": np.stack([normal(jax.random.fold_in(k, Use.LATENT)) for k in each]),
        "mix": np.stack([uniform(jax.random.fold_in(k, Use.MIX)) for k in each]),
        "g_latents": np.asarray(normal(jax.random.fold_in(g_key, Use.LATENT))),
    }
