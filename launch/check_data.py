"""Looks at images before hours are spent on them: at a source, or at what training makes of it.

python -m launch.check_data --source=folder:PATH
python -m launch.check_data --config=configs/digits.py --workdir=runs/digits --augment
"""

import pathlib
import re
from typing import Any

import ml_collections
import numpy as np
from absl import flags

from data import tables
from data.augment import NAMES
from data.check import findings, suggest, survey
from data.check.facts import middle
from data.errors import UserError
from data.loader import BatchSource, Part
from launch import cli, data_page, distributed, pictures, prepare

SOURCE = flags.DEFINE_string(
    "source", "", "Look at this source (tfds:NAME, or npz:, folder:, video:, dicom: or nifti:PATH) "
    "and write data_check/index.html, check.json and config.py. --config.data.labels, axis and so "
    "on count for it; --config and --workdir may be left out.",
)  # fmt: skip
AUGMENT = flags.DEFINE_bool(
    "augment", False, "Write WORKDIR/data_check/augment.png: training images as they are, and "
    "under every augmentation alone at strength 1, whether config.data.augment has it or not.",
)  # fmt: skip
_COLUMNS = 8
_LISTED = 10_000  # pairs in check.json


@distributed.main_only
def run(
    config: ml_collections.ConfigDict, workdir: pathlib.Path | None, overwrite: bool
) -> pathlib.Path:
    """Writes what was asked for anew, whatever was there."""
    del overwrite
    if SOURCE.value:
        return look(SOURCE.value, config.data, workdir)
    if not AUGMENT.value:
        raise UserError("there is nothing to check; pass --source=folder:PATH or --augment")
    if workdir is None:
        raise UserError("--workdir is missing; --augment shows the images that were prepared there")
    return augmented(config, workdir)


def look(spec: str, data: ml_collections.ConfigDict, workdir: pathlib.Path | None) -> pathlib.Path:
    """Writes `WORKDIR/data_check` about a source; returns the path of its page.

    Args:
      spec: as for `config.data.source`.
      data: section of the configuration; how the source is read.
      workdir: `runs/NAME`, after the source, where it is None.
    """
    kind, _, where = spec.partition(":")
    if kind not in ("tfds", "npz", "folder", "video", "dicom", "nifti") or not where:
        raise UserError(
            f"--source={spec} is none of tfds:NAME, npz:PATH, folder:PATH, video:PATH, "
            "dicom:PATH and nifti:PATH."
        )
    name = re.sub(r"\W+", "_", pathlib.PurePath(where).stem).strip("_").lower() or "images"
    options = prepare.source_options(data)
    seen = survey.survey(spec, data_dir=data.data_dir or prepare.tfds_folder(), options=options)
    doubles = findings.doubles(seen)
    sentences = findings.findings(seen, doubles, data.max_unreadable)
    text = suggest.config(seen, options, name)
    folder = (workdir or pathlib.Path("runs") / name) / "data_check"
    groups = data_page.subgroups(seen)
    tables.write_json(folder / "check.json", _numbers(seen, doubles, sentences, groups))
    for file, content in (
        ("config.py", text),
        ("index.html", data_page.render(seen, doubles, sentences, groups, text)),
    ):
        with tables.atomic_file(folder / file) as aside:
            aside.write_text(content, encoding="utf-8")
    _tell(seen, sentences)
    cli.say(f"a configuration to begin with: {folder / 'config.py'}")
    return folder / "index.html"


def _tell(seen: survey.Survey, sentences: list[findings.Finding]) -> None:
    """Prints the counts and the findings."""
    counts = data_page.counts(seen)
    width = max(len(name) for name in counts["rows"])
    cli.say(" ".join([" " * width, *(f"{split:>9}" for split in counts["splits"])]))
    for name, cells in counts["rows"].items():
        cli.say(" ".join([f"{name:<{width}}", *(f"{images:>9,}" for images, _ in cells)]))
    for one in sentences:
        cli.say(f"{one.level}: {one.text}")


def _numbers(
    seen: survey.Survey,
    doubles: findings.Doubles,
    sentences: list[findings.Finding],
    groups: list[dict[str, Any]],
) -> dict[str, Any]:
    """What the page says, for programs."""
    pairs = [
        {
            "a": str(seen.ids[doubles.pairs.a[i]]),
            "b": str(seen.ids[doubles.pairs.b[i]]),
            "distance": round(float(doubles.pairs.distance[i]), 4),
            "across_splits": bool(doubles.across[i]),
            "two_labels": bool(doubles.labels[i]),
            "two_patients": bool(doubles.patients[i]),
        }
        for i in doubles.ranked(_LISTED)
    ]
    return {
        "source": seen.spec,
        "images": len(seen),
        "counts": data_page.counts(seen),
        "subgroups": groups,
        "findings": [{"level": one.level, "text": one.text} for one in sentences],
        "duplicates": {"pairs": len(doubles.pairs), "listed": pairs},
        "files": seen.files,
        "unreadable": dict(seen.unreadable),
    }


def augmented(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> pathlib.Path:
    """Writes `WORKDIR/data_check/augment.png`; of volumes their middle slices."""
    parts = [Part(prepare.open_split(workdir, "train"), _COLUMNS)]
    channels = parts[0].records.image_shape[-1]
    names = [name for name in NAMES if name != "colour" or channels == 3]
    chosen = {"as they are": (), **{name: (name,) for name in names}}
    rows = {}
    for name, one in chosen.items():
        images = BatchSource(parts, seed=config.seed, augment=one)[0]["image"]
        rows[name] = np.stack([middle(image) for image in images])
    folder = workdir / "data_check"
    folder.mkdir(exist_ok=True)
    pictures.save_png(folder / "augment.png", pictures.named_rows(rows))
    return folder / "augment.png"


if __name__ == "__main__":
    cli.start(run, optional=True)
