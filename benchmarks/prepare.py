"""Files per second and peak memory of `launch.prepare`, for folders of several sizes.

    python -m benchmarks.prepare [--counts=10000,100000] [--size=64] [--workers=0] [--table]
        [--json=PATH]

Every folder of small grey PNG files in two classes is made first and not timed. It is prepared by
a process of its own, whose largest own memory (RssAnon) is sampled together with that of the
processes that read for it; mapped files are not counted, the kernel takes them back when it needs
to. That process imports what every program imports; what it has before the first file is shown too.
"""

import itertools
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np
from absl import app, flags
from PIL import Image

from benchmarks import options
from benchmarks.stream import status
from configs import default
from data import tables
from launch import prepare

FLAGS = flags.FlagValues()
_COUNTS = flags.DEFINE_list(
    "counts", ["10000", "100000"], "Files of each folder.", flag_values=FLAGS
)
_SIZE = flags.DEFINE_integer("size", 64, "Pixels a side, of the files too.", flag_values=FLAGS)
_WORKERS = flags.DEFINE_integer("workers", 0, "As --config.data.workers.", 0, flag_values=FLAGS)
_TABLE = flags.DEFINE_bool(
    "table", False, "Take labels, patients, sites, sex and age bands from a table.",
    flag_values=FLAGS,
)  # fmt: skip
_PREPARE = flags.DEFINE_string("prepare", "", "Only prepare this folder.", flag_values=FLAGS)
_JSON = flags.DEFINE_string("json", None, "Write the numbers to this file.", flag_values=FLAGS)
_SEED_IMAGES = 64  # different images; the others are copies of them under further names
_SAMPLE_SECONDS = 0.05


def make_folder(root: pathlib.Path, count: int, size: int) -> None:
    """Writes `count` grey PNG files of `size` pixels, smooth noise, to root/a and root/b."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (_SEED_IMAGES, 8, 8), dtype=np.uint8)
    for name in "ab":
        (root / name).mkdir(parents=True)
    for i in range(count):
        path = root / "ab"[i % 2] / f"image-{i:07d}.png"
        if i < _SEED_IMAGES:
            grey = Image.fromarray(coarse[i]).resize((size, size), Image.Resampling.BICUBIC)
            grey.save(path)
        else:
            seed = i % _SEED_IMAGES
            path.write_bytes((root / "ab"[seed % 2] / f"image-{seed:07d}.png").read_bytes())


def write_table(path: pathlib.Path, count: int) -> None:
    """Writes a table of labels for such a folder."""
    with path.open("w") as file:
        file.write("file,label,patient,site,sex,age_band\n")
        for i in range(count):
            facts = f"site {i // 10 % 7},{'mf'[i // 10 % 2]},{i // 10 % 8 * 10}s"
            file.write(f"{'ab'[i % 2]}/image-{i:07d}.png,{'ab'[i % 2]},patient {i // 10},{facts}\n")


def measure(root: pathlib.Path) -> dict[str, float]:
    """Prepares a folder in this process; seconds, and MB before, at most, and of its children."""
    config = default.get_config()
    config.data.source = f"folder:{root}"
    config.data.size = _SIZE.value
    config.data.labels = str(table) if (table := root.with_suffix(".csv")).exists() else ""
    config.data.real_per_class, config.data.workers = 0, _WORKERS.value
    peak = {"own": 0, "children": 0}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_SAMPLE_SECONDS):
            peak["own"] = max(peak["own"], status("RssAnon"))
            peak["children"] = max(peak["children"], _children())

    before = status("RssAnon")
    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory() as workdir:
            prepare.run(config, pathlib.Path(workdir), False)
            seconds = time.perf_counter() - began
    finally:
        ended.set()
        watcher.join()
    megabytes = {"before": before, **peak}
    return {"seconds": seconds} | {f"{k} MB": v / 1e6 for k, v in megabytes.items()}


def _children() -> int:
    """The own memories of all processes that this one started, in bytes."""
    total = 0
    for task in pathlib.Path("/proc/self/task").iterdir():
        for child in (task / "children").read_text().split():
            try:
                total += status("RssAnon", child)
            except (OSError, TypeError):  # it ended meanwhile
                continue
    return total


def main(argv: list[str]) -> None:
    """Measures and prints a table."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    if _PREPARE.value:
        print(*measure(pathlib.Path(_PREPARE.value)).values())
        return
    found = {}
    print(
        f"{'files':>9} {'s':>7} {'files/s':>8} {'MB before':>10} {'MB own':>7} {'MB children':>12}"
    )
    for count in map(int, _COUNTS.value):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder) / "images"
            make_folder(root, count, _SIZE.value)
            if _TABLE.value:
                write_table(root.with_suffix(".csv"), count)
            done = subprocess.run(
                [
                    *(sys.executable, "-m", "benchmarks.prepare", f"--prepare={root}"),
                    *(f"--size={_SIZE.value}", f"--workers={_WORKERS.value}"),
                ],
                check=True, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
        values = [float(word) for word in done.stdout.splitlines()[-1].split()]
        found[count] = [count / values[0], *values]
        rate, seconds, *memories = found[count]
        row = [f"{count:>9}", f"{seconds:>7.1f}", f"{rate:>8.0f}"]
        widths = (10, 8, 12)
        row += [f"{value:>{width}.0f}" for value, width in zip(memories, widths, strict=True)]
        print(*row, flush=True)
    for low, high in itertools.pairwise(found):
        slope = (found[high][3] - found[low][3]) * 1e6 / (high - low)
        print(f"bytes of own memory per further file, {low} to {high}: {slope:.0f}")
    if _JSON.value:
        names = ("files per second", "seconds", "MB before", "MB own", "MB children")
        named = {str(n): dict(zip(names, values, strict=True)) for n, values in found.items()}
        tables.write_json(_JSON.value, named)


if __name__ == "__main__":
    options.run(main, FLAGS)
