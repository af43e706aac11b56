"""What makes the images of pools: the GAN, of noise, or the translator, of real images.

`config.generate.generator` says which; it is the name of the stage that trains it, too.
"""

import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from gan import sample
from launch import origins, stage, stream, train_gan, train_translator

PROGRAMS = {"gan": train_gan, "translator": train_translator}  # that train one

# Parameters, images [B, H, W, C] and labels [B] to logits [B] of how real they are.
Discriminator = Callable[[Any, jax.Array, jax.Array], jax.Array]


def checkpoint_digest(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> str:
    """Digest of the parameters of the trained generator."""
    return stage.require(workdir, config.generate.generator)["facts"]["checkpoint_digest"]


def sources(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> origins.Sources | None:
    """The real images that the generator makes its images of; None where it makes them of noise."""
    return origins.of(config, workdir) if config.generate.generator == "translator" else None


def settings(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """What the images of a pool depend on beside the trained generator."""
    if config.generate.generator == "gan":
        return {}
    # generate.repeats is a limit alone: raised, it lets a pool grow and leaves its images.
    used_again = {"augment": tuple(config.data.augment)}
    return {"generator": config.generate.generator, "sources": used_again}


def open_generator(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, dtype: np.dtype
) -> stream.Forward:
    """The averaged generator: `(seeds, labels) -> (images, finite)`, always at the full batch.

    The devices quantise, so that no more than the stored pixels is fetched: images
    `[B, H, W, C]` of `dtype`, and `[B]` whether all pixels were finite before.
    """
    if config.generate.generator == "gan":
        spec, trained = train_gan.restore(config, workdir)

        def make(params: Any, drawn: tuple[jax.Array, jax.Array]) -> jax.Array:
            return sample.generate(spec.generator, params, *drawn)

        inputs = {}
    else:
        spec, trained = train_translator.restore(config, workdir)

        def make(params: Any, given: tuple[jax.Array, jax.Array]) -> jax.Array:
            return spec.translator.apply({"params": params}, *given)

        inputs = {"inputs": origins.of(config, workdir).inputs}

    def draw(params: Any, given: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        images = make(params, given)
        # A sum of numbers in [-1, 1] is finite if all are, and is found several times faster.
        return sample.quantise(images, dtype), jnp.isfinite(images.sum((1, 2, 3)))

    return stream.Forward(draw, trained.ema_params, config.generate.batch, **inputs)


def open_discriminator(
    config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> tuple[Discriminator, Any]:
    """The discriminator that the generator was trained against, and its parameters.

    The translator's says how real patches are, not of which class; their mean is taken.
    """
    if config.generate.generator == "gan":
        spec, trained = train_gan.restore(config, workdir)

        def judge(params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
            return spec.discriminator.apply({"params": params}, images, labels)
    else:
        spec, trained = train_translator.restore(config, workdir)

        def judge(params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
            del labels
            realness, _ = spec.discriminator.apply({"params": params}, images)
            return realness.mean(range(1, realness.ndim))

    return judge, trained.d_params
