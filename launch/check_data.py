"""Shows what training makes of the prepared images, to be looked at before hours are spent on it.

python -m launch.check_data --config=configs/digits.py --workdir=runs/digits --augment
"""

import pathlib

import ml_collections
from absl import flags

from data.augment import NAMES
from data.errors import UserError
from data.loader import BatchSource, Part
from launch import cli, distributed, pictures, prepare

AUGMENT = flags.DEFINE_bool(
    "augment", False, "Write WORKDIR/data_check/augment.png: training images as they are, and "
    "under every augmentation alone at strength 1, whether config.data.augment has it or not.",
)  # fmt: skip
_COLUMNS = 8


@distributed.main_only
def run(config: ml_collections.ConfigDict, workdir: pathlib.Path, overwrite: bool) -> pathlib.Path:
    """Writes the picture anew, whatever was there."""
    del overwrite
    if not AUGMENT.value:
        raise UserError("there is nothing to check; pass --augment")
    parts = [Part(prepare.open_split(workdir, "train"), _COLUMNS)]
    channels = parts[0].records.image_shape[-1]
    names = [name for name in NAMES if name != "colour" or channels == 3]
    rows = {"as they are": BatchSource(parts, seed=config.seed)[0]["image"]}
    for name in names:
        rows[name] = BatchSource(parts, seed=config.seed, augment=(name,))[0]["image"]
    folder = workdir / "data_check"
    folder.mkdir(exist_ok=True)
    pictures.save_png(folder / "augment.png", pictures.named_rows(rows))
    return folder / "augment.png"


if __name__ == "__main__":
    cli.start(run)
