"""Trains the class-conditional GAN on the real training images, labelled and unlabelled.

python -m launch.train_gan --config=configs/digits.py --workdir=runs/digits
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh

from data import loader
from gan import sample, state, steps
from launch import cli, distributed, loop, models, pictures, prepare, rng, stage
from launch import mesh as mesh_lib
from launch.checkpoint import open_last


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path, overwrite: bool) -> pathlib.Path:
    """Trains until `config.gan.steps`; goes on from the newest checkpoint."""
    settings = {"gan": config.gan.to_dict(), "seed": config.seed}
    mesh, gradient = mesh_lib.arranged(config, "gan")  # refuses before anything is discarded
    begun = stage.begin(workdir, "gan", settings, needs=("data",), overwrite=overwrite)
    if begun is None:
        return workdir / "gan"
    spec = dataclasses.replace(models.gan_spec(config, workdir), gradient=gradient)
    source = loader.BatchSource(
        _parts(config, workdir),
        seed=rng.fold(config.seed, "gan", "loader"),
        interleave=config.gan.n_critic,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    trained = loop.train(
        step=mesh_lib.jit_step(functools.partial(steps.train_step, spec=spec), mesh),
        state=init(config, spec, mesh),
        loader=loader.make_loader(source, prefetch=config.data.prefetch),
        key=rng.key(config.seed, "gan", "steps"),
        mesh=mesh,
        steps=config.gan.steps,
        folder=begun.folder,
        name="GAN",
        log_every=config.gan.log_every,
        checkpoint_every=config.gan.checkpoint_every,
        rules=config.train,
        tensorboard=config.tensorboard,
        hook=_sheets(config, spec, begun.folder / "samples"),
    )
    begun.finish(checkpoint_digest=models.tree_digest(mesh_lib.local(trained.ema_params)))
    return begun.folder


def init(config: ml_collections.ConfigDict, spec: state.GanSpec, mesh: Mesh) -> state.GanState:
    """Returns the initial state, replicated over the mesh."""
    make = jax.jit(
        functools.partial(state.init_state, spec), out_shardings=mesh_lib.replicated(mesh)
    )
    return make(rng.key(config.seed, "gan", "init"))


def restore(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, step: int | None = None
) -> tuple[state.GanSpec, state.GanState]:
    """Opens the trained GAN of a work directory, on one device of each process.

    Args:
      config: experiment.
      workdir: work directory.
      step: of an earlier checkpoint that was kept; by default the last.
    """
    stage.require(workdir, "gan")
    spec = models.gan_spec(config, workdir)
    shapes = jax.eval_shape(functools.partial(state.init_state, spec), jax.random.key(0))
    mesh = mesh_lib.make_mesh(config.model_devices)
    trained = open_last(workdir / "gan", mesh_lib.abstract(shapes, mesh), step)
    return spec, mesh_lib.local(trained)


def _parts(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> list[loader.Part]:
    """Half of every batch is unlabelled where there are such images.

    The parts are repeated for each discriminator update of a step, so each sees the same mixture.
    """
    labelled = prepare.open_split(workdir, "train")
    batch = config.gan.batch
    if config.data.unlabelled == 0:
        parts = [loader.Part(labelled, batch)]
    else:
        unlabelled = prepare.open_split(workdir, "unlabelled")
        half = batch // 2
        parts = [loader.Part(labelled, batch - half), loader.Part(unlabelled, half, balanced=False)]
    return parts * config.gan.n_critic


def _sheets(
    config: ml_collections.ConfigDict, spec: state.GanSpec, folder: pathlib.Path
) -> Callable[[int, Any], None]:
    """Returns a hook that draws the same 8 latents of every class at intervals."""
    columns = 8
    classes = spec.generator.num_classes
    seeds = jnp.arange(columns * classes, dtype=jnp.uint32)
    labels = jnp.repeat(jnp.arange(classes), columns)
    draw = jax.jit(lambda params: sample.generate(spec.generator, params, seeds, labels))

    def hook(step: int, current: Any) -> None:
        due = step % config.gan.sample_every == 0 or step == config.gan.steps
        if due and distributed.is_main():
            images = np.asarray(draw(mesh_lib.local(current.ema_params)))
            folder.mkdir(exist_ok=True)
            name = folder / f"{step:07d}.png"
            pictures.save_png(name, pictures.sheet(images, columns))

    return hook


if __name__ == "__main__":
    cli.start(run)
