"""How fast phantoms are made, and how well their analyser finds faults; or a sheet of them.

    python -m benchmarks.phantom [--size=64] [--images=1000] [--json=PATH]
    python -m benchmarks.phantom --sheet=docs/images/phantom.png

Speed is that of one core: images with their twins and masks, made in batches of 50. The analyser
sees every phantom once without a fault and once with a fault of each kind; its bounds come from
phantoms of another seed.
"""

import pathlib
import time
from collections.abc import Sequence

import numpy as np
from absl import app, flags
from PIL import Image

from benchmarks import options
from data import tables
from data.builders.phantom import anatomy, faults, judge, measure
from data.builders.phantom.render import render
from launch import pictures

FLAGS = flags.FlagValues()
_SIZE = flags.DEFINE_integer("size", 64, "Pixels a side.", measure.SMALLEST, flag_values=FLAGS)
_IMAGES = flags.DEFINE_integer("images", 1000, "Phantoms per kind.", 100, flag_values=FLAGS)
_SHEET = flags.DEFINE_string("sheet", None, "Only draw a sheet, a PNG.", flag_values=FLAGS)
_JSON = flags.DEFINE_string("json", None, "Write the numbers to this file.", flag_values=FLAGS)
_SEED = 1
_BATCH = 50
_SHAPES = ((32, 32), (64, 64), (128, 128), (32, 32, 32), (64, 64, 64))
_SHEET_SHAPE, _COLUMNS, _SHEET_GREYS = (112, 112), len(faults.KINDS), 48


def speed(shape: tuple[int, ...]) -> float:
    """Images per second: the median of five runs, after one that isn't counted."""
    count = _BATCH if len(shape) == 2 else 2
    seconds = []
    for run in range(6):
        began = time.perf_counter()
        render(anatomy.draw(run, np.arange(count), np.zeros(count, int)), shape)
        seconds.append(time.perf_counter() - began)
    return count / float(np.median(seconds[1:]))


def findings(kind: int, count: int, size: int) -> dict[str, float]:
    """Share of `count` phantoms with a fault of one kind in which each finding is made."""
    parts = []
    for start in range(0, count, _BATCH):
        who = np.arange(start, min(start + _BATCH, count))
        a = anatomy.draw(_SEED, who, np.zeros_like(who))
        images = faults.inject(a, np.full(len(who), kind), (size, size)).pictures.image
        parts.append(judge.judge(images))
    return {name: float(np.concatenate([p[name] for p in parts]).mean()) for name in parts[0]}


def sheet() -> np.ndarray:
    """Phantoms of the four labels twice over, with their truth; below, every kind of fault.

    Returns:
        uint8 [H, W, 1].
    """
    who, zeros = np.arange(_COLUMNS), np.zeros(_COLUMNS, int)
    ill = render(anatomy.draw(_SEED, who, zeros), _SHEET_SHAPE)
    again = render(anatomy.draw(_SEED, who, zeros + 1), _SHEET_SHAPE)
    healthy = anatomy.draw(_SEED, 20 + who, zeros, zeros)
    torn = faults.inject(healthy, np.arange(_COLUMNS), _SHEET_SHAPE)
    rows = {
        "phantom": ill.image,
        "lesion": 0.5 * ill.twin + 1.2 * ill.mask - 0.5,
        "healthy twin": ill.twin,
        "second visit": again.image,
        "fault": torn.pictures.image,
    }
    picture = Image.fromarray(pictures.named_rows(rows)[..., 0])
    return np.asarray(picture.quantize(_SHEET_GREYS).convert("L"))[..., None]  # a smaller file


def main(argv: Sequence[str]) -> None:
    """Measures and prints two tables, or draws the sheet."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    if _SHEET.value:
        pictures.save_png(pathlib.Path(_SHEET.value), sheet())
        print(_SHEET.value)
        return
    speeds = {"x".join(map(str, shape)): speed(shape) for shape in _SHAPES}
    for shape, rate in speeds.items():
        print(f"{shape:>9} {rate:7.1f} images/s")
    found = {}
    for kind, name in enumerate(("none", *faults.KINDS), start=faults.NONE):
        found[name] = shares = findings(kind, _IMAGES.value, _SIZE.value)
        if kind == faults.NONE:
            print(f"{'fault, %':17}" + "".join(f"{key[:12]:>13}" for key in shares))
        print(f"{name:17}" + "".join(f"{100 * share:13.1f}" for share in shares.values()))
    if _JSON.value:
        tables.write_json(_JSON.value, {"images per second": speeds, "findings": found})


if __name__ == "__main__":
    options.run(main, FLAGS)
