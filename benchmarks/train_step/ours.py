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
from gan.models import translator as networks
from gan.translation import domains
from gan.translation import state as translator_state
from gan.translation import steps as translator_steps
from nn import optimiser
from nn.precision import Dtype
from nn.resnet import ResNet
from vrn import classifier, traces

CLASSIFIER_RATE = 1e-3
WEIGHT_DECAY = 1e-3
EMA_DECAY = 0.999
_TRANSLATOR_LOSSES = ("d_loss", "d_domain", "penalty", "g_loss")


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
        spec: `GanSpec`, `TranslatorSpec` or `ClassifierSpec`.
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
    def settings(self) -> rows.Gan | rows.Translator | rows.Classifier:
        """The settings of the row's kind."""
        return (rows.GANS | rows.TRANSLATORS | rows.CLASSIFIERS)[self.row.kind]


def build(row: rows.Row, dtype: Dtype = None) -> Work:
    """Networks, initial state and a batch of noise for a row.

    Args:
        row: the row.
        dtype: of the networks' products, see `nn.precision`.
    """
    keys = jax.random.split(jax.random.key(0), 3)
    shape = (row.size, row.size, rows.CHANNELS)
    if row.kind in rows.GANS:
        settings = rows.GANS[row.kind]
        spec = _gan_spec(row, settings, dtype)
        state = gan_state.init_state(spec, keys[1])
        classes, losses = rows.CLASSES, ("d_loss", "penalty", "g_loss")
        count = row.batch * settings.n_critic
    elif row.kind in rows.TRANSLATORS:
        settings = rows.TRANSLATORS[row.kind]
        spec = _translator_spec(row, settings, dtype)
        state = translator_state.init_state(spec, shape, keys[1])
        classes, losses = len(spec.domains.names), _TRANSLATOR_LOSSES
        count = row.batch * settings.n_critic
    else:
        settings = rows.CLASSIFIERS[row.kind]
        spec = _classifier_spec(row, settings, dtype)
        init = jax.jit(functools.partial(classifier.init_state, image_shape=shape, spec=spec))
        state = init(keys[1])
        classes, losses, count = settings.classes, ("loss",), row.batch
    batch = {
        "image": jax.random.uniform(keys[0], (count, *shape), minval=-1),
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


def _translator_spec(
    row: rows.Row, settings: rows.Translator, dtype: Dtype
) -> translator_state.TranslatorSpec:
    between = domains.healthy(("healthy", "diseased"), "healthy")
    adam = optimiser.adam(settings.learning_rate, settings.b1, settings.b2)
    return translator_state.TranslatorSpec(
        networks.Translator(row.width, settings.blocks, dtype=dtype),
        networks.Discriminator(between.code_size, row.width, dtype=dtype),
        adam,
        adam,
        between,
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
    if work.row.kind in rows.GANS:
        step = gan_steps.train_step
    elif work.row.kind in rows.TRANSLATORS:
        step = translator_steps.train_step
    else:
        step = classifier.train_step
    return jax.jit(functools.partial(step, spec=work.spec), donate_argnums=0)


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
        for a translator 'mix', and which row's domain each image is translated to: 'd_order'
        [n_critic, B] and 'g_order' [B]; nothing for a classifier, whose step draws nothing here.
    """
    if work.row.kind in rows.CLASSIFIERS:
        return {}
    use = gan_steps.Use if work.row.kind in rows.GANS else translator_steps.Use
    count, key = work.row.batch, jax.random.fold_in(work.key, step)
    d_key = jax.random.fold_in(key, use.DISCRIMINATOR)
    each = [jax.random.fold_in(d_key, index) for index in range(work.spec.n_critic)]
    uniform = functools.partial(jax.random.uniform, shape=(count, 1, 1, 1))
    mix = np.stack([uniform(jax.random.fold_in(k, use.MIX)) for k in each])
    if work.row.kind in rows.TRANSLATORS:
        order = lambda key: jax.random.permutation(jax.random.fold_in(key, use.TARGET), count)  # noqa: E731
        g_key = jax.random.fold_in(key, use.TRANSLATOR)
        return {
            "d_order": np.stack([order(k) for k in each]),
            "mix": mix,
            "g_order": np.asarray(order(g_key)),
        }
    normal = functools.partial(jax.random.normal, shape=(count, rows.LATENT))
    g_key = jax.random.fold_in(key, use.GENERATOR)
    return {
        "d_latents": np.stack([normal(jax.random.fold_in(k, use.LATENT)) for k in each]),
        "mix": mix,
        "g_latents": np.asarray(normal(jax.random.fold_in(g_key, use.LATENT))),
    }
