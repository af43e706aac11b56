"""Trains a translator between domains, Fixed-Point GAN or StarGAN, on the real training images.

python -m launch.train_translator --config=configs/phantom_translate.py --workdir=runs/phantom
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from data import loader
from data.records import Records
from gan.state import GanState
from gan.translation import apply, steps
from gan.translation.domains import Domains
from gan.translation.state import TranslatorSpec, init_state
from launch import cli, distributed, heights, loop, models, pictures, prepare, rng, stage
from launch import mesh as mesh_lib
from launch.checkpoint import open_last

# Of a sheet: rows for each domain, most domains, and rows where domains are combined attributes.
_PER_DOMAIN, _MOST_DOMAINS, _ROWS = 2, 8, 8


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path, overwrite: bool) -> pathlib.Path:
    """Trains until `config.translator.steps`; goes on from the newest checkpoint."""
    given = config.translator
    settings = {"translator": given.to_dict(), "seed": config.seed}
    # What can't be trained is refused before anything is discarded.
    mesh, gradient = mesh_lib.arranged(config, "translator")
    real = prepare.open_split(workdir, "train")
    spec = models.translator_spec(config, real.class_names)
    spec = dataclasses.replace(spec, gradient=gradient)
    source = loader.BatchSource(
        parts(given, workdir, real, spec.domains) * given.n_critic,
        seed=rng.fold(config.seed, "translator", "loader"),
        augment=tuple(given.augment),
        interleave=given.n_critic,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    _shapes(spec, real)
    begun = stage.begin(workdir, "translator", settings, needs=("data",), overwrite=overwrite)
    if begun is None:
        return workdir / "translator"
    trained = loop.train(
        step=mesh_lib.jit_step(functools.partial(steps.train_step, spec=spec), mesh),
        state=_init(config, spec, real, mesh),
        loader=loader.make_loader(source, prefetch=config.data.prefetch),
        key=rng.key(config.seed, "translator", "steps"),
        mesh=mesh,
        steps=given.steps,
        folder=begun.folder,
        name="translator",
        log_every=given.log_every,
        checkpoint_every=given.checkpoint_every,
        rules=config.train,
        tensorboard=config.tensorboard,
        hook=_sheets(config, spec, begun.folder / "samples", prepare.open_split(workdir, "val")),
    )
    begun.finish(checkpoint_digest=models.tree_digest(mesh_lib.local(trained.ema_params)))
    return begun.folder


def restore(
    config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> tuple[TranslatorSpec, GanState]:
    """Opens the trained translator of a work directory, on one device of each process."""
    stage.require(workdir, "translator")
    real = prepare.open_split(workdir, "train")
    spec = models.translator_spec(config, real.class_names)
    mesh = mesh_lib.make_mesh(config.model_devices)
    trained = open_last(workdir / "translator", mesh_lib.abstract(_shapes(spec, real), mesh))
    return spec, mesh_lib.local(trained)


def parts(
    given: ml_collections.ConfigDict, workdir: pathlib.Path, real: Records, domains: Domains
) -> list[loader.Part]:
    """Domains alike in every batch, and classes within them; attributes as often as they come."""
    if given.domains != "healthy":
        return [loader.Part(real, given.batch, balanced=given.domains == "classes")]
    diseased = np.asarray(domains.of_class)[real.labels] == 1
    alike = heights.of_healthy(workdir, real, diseased, given.match_heights)
    half = given.batch // 2
    return [
        loader.Part(real.subset(~diseased), given.batch - half, matched=alike),
        loader.Part(real.subset(diseased), half),
    ]


def _shapes(spec: TranslatorSpec, real: Records) -> GanState:
    """Shapes of the state.

    Raises:
      UserError: the networks can't take images of this size.
    """
    init = functools.partial(init_state, spec, real.image_shape)
    return models.shapes(init, jax.random.key(0))


def _init(
    config: ml_collections.ConfigDict, spec: TranslatorSpec, real: Records, mesh: Mesh
) -> GanState:
    """The initial state, replicated over the mesh."""
    make = jax.jit(
        functools.partial(init_state, spec, real.image_shape),
        out_shardings=mesh_lib.replicated(mesh),
    )
    return make(rng.key(config.seed, "translator", "init"))


def _sheets(
    config: ml_collections.ConfigDict, spec: TranslatorSpec, folder: pathlib.Path, val: Records
) -> Callable[[int, Any], None]:
    """Returns a hook that draws a sheet of the same validation images at intervals."""
    domains = np.asarray(spec.domains.of_class)[val.labels]
    first = [np.flatnonzero(domains == d)[:_PER_DOMAIN] for d in range(_MOST_DOMAINS)]
    rows = np.arange(len(val))[:_ROWS] if spec.domains.combined else np.concatenate(first)
    images, own = val.read(rows), domains[rows]
    healthy = config.translator.healthy

    def hook(step: int, current: Any) -> None:
        due = step % config.translator.sample_every == 0 or step == config.translator.steps
        if due and distributed.is_main():
            folder.mkdir(exist_ok=True)
            picture = sheet(spec, mesh_lib.local(current.ema_params), images, own, healthy)
            pictures.save_png(folder / f"{step:07d}.png", picture)

    return hook


def sheet(
    spec: TranslatorSpec, params: Any, images: np.ndarray, own: np.ndarray, healthy: str
) -> np.ndarray:
    """Draws a row for each image: itself, in its own domain, in others, and a map.

    The others are each domain, of many the first 8; where domains are combinations of attributes,
    the image's own with one attribute changed, each in turn. The map is |G(x, c) - x|, black where
    nothing changed and white where it is 2, with c the healthy domain or, where there is none, that
    of the first of the others. Of volumes the middle slice is shown.

    Args:
      spec: of the translator.
      params: of it.
      images: [N, *S, C] in [-1, 1].
      own: their domains, int [N].
      healthy: name of the domain without disease, or of none.

    Returns:
      A uint8 picture [H, W, 1 or 3].
    """
    names, codes = spec.domains.names, np.asarray(spec.domains.codes, np.float32)
    others = _others(spec.domains, own)
    mapped = np.full_like(own, names.index(healthy)) if healthy in names else others[0]
    *made, changed = (
        apply.translate(spec.translator, params, images, codes[to]) for to in (own, *others, mapped)
    )
    change = apply.difference(images, changed)[..., None] - 1
    columns = [images, *made, np.broadcast_to(change, images.shape)]
    tiles = np.stack(columns, axis=1)  # [N, columns, *S, C]
    tiles = tiles.reshape(-1, *images.shape[1:])
    tiles = tiles[:, tiles.shape[1] // 2] if tiles.ndim == 5 else tiles
    return pictures.sheet(tiles, len(columns))


def _others(domains: Domains, own: np.ndarray) -> list[np.ndarray]:
    """For each further column of a sheet the domains [N] of images whose own are `own` [N]."""
    if domains.combined:
        return [own ^ (1 << bit) for bit in range(domains.code_size)]
    return [np.full_like(own, domain) for domain in range(len(domains.names))[:_MOST_DOMAINS]]


if __name__ == "__main__":
    cli.start(run)
