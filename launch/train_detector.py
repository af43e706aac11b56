"""Trains a network that a translator is compared with in finding disease.

python -m launch.train_detector --maps=unet --config=configs/phantom_translate.py \
    --workdir=runs/phantom

--maps=autoencoder and --maps=vae learn to make healthy training images again, gradcam is a
classifier of healthy and diseased ones, and unet learns from masks where disease is. All get the
steps of --config.detector.steps; launch.evaluate with the same --maps judges what they find.
"""

import pathlib
from collections.abc import Callable
from typing import Any

import ml_collections
import numpy as np
from absl import flags

from data.errors import UserError
from launch import cli, detectors, distributed, models, pictures, prepare, rng, stage
from launch import mesh as mesh_lib

flags.declare_key_flag("maps")
# Settings that not all detectors read, and which do.
_READ_BY = {
    "augment": ("gradcam", "unet"),
    "healthy_augment": ("autoencoder", "vae"),
    "width": ("vae", "gradcam", "unet"),
    "depth": ("gradcam",),
    "stem": ("gradcam",),
    "latent": ("vae",),
    "kl_weight": ("vae",),
}
_PER_SIDE = 4  # healthy images of a sheet, and diseased ones


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path, overwrite: bool) -> pathlib.Path:
    """Trains until `config.detector.steps`; goes on from the newest checkpoint."""
    name = detectors.MAPS.value
    if name not in stage.DETECTORS:
        how = {"translator": "launch.train_translator trains it", "linear": "it is not trained"}
        raise UserError(f"--maps={name}: {how[name]}; give {', '.join(stage.DETECTORS)}")
    given = config.detector
    mesh_lib.arranged(config, "detector")  # refuses before anything is discarded
    detector = detectors.Detector(config, workdir, name)
    begun = stage.begin(
        workdir, f"detectors/{name}", _settings(config, name), needs=("data",), overwrite=overwrite
    )
    if begun is None:
        return workdir / "detectors" / name
    params = detector.trainer.train(
        detector.parts(),
        begun.folder,
        name=name,
        seed=rng.fold(config.seed, "detector", name),
        steps=given.steps,
        augment=detector.augment,
        strength=1.0,
        tensorboard=config.tensorboard,
        hook=_sheets(config, workdir, detector, begun.folder / "samples"),
    )
    begun.finish(checkpoint_digest=models.tree_digest(params))
    return begun.folder


def _settings(config: ml_collections.ConfigDict, name: str) -> dict[str, Any]:
    """What the detector depends on."""
    given = config.detector.to_dict()
    given = {field: v for field, v in given.items() if name in _READ_BY.get(field, (name,))}
    own = {"autoencoder": ("width", "blocks"), "vae": ()}.get(name, ("match_heights",))
    translator = {field: config.translator[field] for field in ("domains", "healthy", *own)}
    return {"detector": given, "translator": translator, "seed": config.seed}


def _sheets(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    detector: detectors.Detector,
    folder: pathlib.Path,
) -> Callable[[int, Any], None]:
    """Returns a hook that draws a sheet of the same validation images at intervals."""
    val = prepare.open_split(workdir, "val")
    diseased = detectors.is_diseased(config, val)
    rows = np.concatenate([np.flatnonzero(diseased == side)[:_PER_SIDE] for side in (False, True)])
    images = val.read(rows)
    masks = prepare.masks_of(workdir, "val", val)
    truth = None if masks is None else masks.read_raw(rows)[..., 0] > 0

    def hook(step: int, current: Any) -> None:
        due = step % config.detector.sample_every == 0 or step == config.detector.steps
        if due and distributed.is_main():
            folder.mkdir(exist_ok=True)
            found = detector.find(mesh_lib.local(current.params), images)
            pictures.save_png(folder / f"{step:07d}.png", sheet(images, found, truth))

    return hook


def sheet(images: np.ndarray, found: detectors.Found, masks: np.ndarray | None) -> np.ndarray:
    """Draws a row for each image: itself, what was made of it if anything was, map and mask.

    Maps are white at the largest value of the sheet. Of volumes the middle slice is shown.

    Args:
      images: [N, *S, C] in [-1, 1].
      found: of these images.
      masks: bool [N, *S], or None.

    Returns:
      A uint8 picture [H, W, 1 or 3].
    """
    columns = [images] if found.healthy is None else [images, found.healthy]
    shades = [found.maps / max(float(found.maps.max()), 1e-12)]
    shades += [] if masks is None else [masks]
    columns += [np.broadcast_to(2.0 * shade[..., None] - 1, images.shape) for shade in shades]
    tiles = np.stack(columns, axis=1).reshape(-1, *images.shape[1:])  # of [N, columns, *S, C]
    tiles = tiles[:, tiles.shape[1] // 2] if tiles.ndim == 5 else tiles
    return pictures.sheet(tiles, len(columns))


if __name__ == "__main__":
    cli.start(run)
