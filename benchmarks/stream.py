"""Images per second of generating and filtering a pool, beside the bare forward passes.

    python -m benchmarks.stream [--images=40960] [--size=64] [--width=16] [--json=PATH]
    python -m benchmarks.stream --memory [--counts=10000,100000]

The networks of the default configuration, all but untrained, at the batch of `generate.batch`.
Every repeat takes each side in turn over the same number of images: the generator alone; generator,
quantisation and writing; the three networks of the filters alone, on images that lie in memory;
reading, networks, filters and writing. A round of a stage is several shares, of which the last is
finished while nothing else is done, as the last of a pool is. What is done once per pool (joining
the manifest, opening the pool, choosing what is kept) is timed apart and charged to the sides with
the disk. A ratio is the stage's rate divided by that of its bare passes in the same round, the
median over rounds: 1 means that the devices never wait.

With --memory, pools of several sizes are made and filtered, each in a process of its own, and the
largest memory each ever took is printed, and the last: what grows with the pool, and what a million
images need.
"""

import collections
import itertools
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import jax
import ml_collections
import numpy as np
from absl import app, flags, logging
from scipy import ndimage

from benchmarks import options
from configs import default
from data import pools, tables
from data.loader import Part
from gan import sample
from launch import filter as filter_stage
from launch import (
    generate,
    generators,
    prepare,
    stage,
    stream,
    train_features,
    train_gan,
    train_vrn,
)
from nn import host

FLAGS = flags.FlagValues()
_IMAGES = flags.DEFINE_integer(
    "images", 40960, "Images that every side takes in all.", 1, flag_values=FLAGS
)
_REPEATS = flags.DEFINE_integer(
    "repeats", 8, "Rounds; each takes every side in turn.", 1, flag_values=FLAGS
)
_SHARES = flags.DEFINE_integer("shares", 4, "Shares of a round.", 1, flag_values=FLAGS)
_SIZE = flags.DEFINE_integer("size", 64, "Pixels a side; grey.", flag_values=FLAGS)
_WIDTH = flags.DEFINE_integer(
    "width", 16, "Width of generator and discriminator.", 1, flag_values=FLAGS
)
_BATCH = flags.DEFINE_integer("batch", 128, "Images per forward pass.", 1, flag_values=FLAGS)
_MEMORY = flags.DEFINE_bool("memory", False, "Measure memory instead of rates.", flag_values=FLAGS)
_COUNTS = flags.DEFINE_list(
    "counts", ["10000", "100000"], "Pool sizes for --memory.", flag_values=FLAGS
)
_FILL = flags.DEFINE_string(
    "fill", "", "With --memory: only fill and filter this one.", flag_values=FLAGS
)
_JSON = flags.DEFINE_string("json", None, "Write the numbers to this file.", flag_values=FLAGS)

CLASSES = 10
_REALS_PER_CLASS = 50


def make_config(folder: pathlib.Path, size: int, width: int, batch: int) -> Any:
    """The default experiment on `folder`/real.npz, every training two steps long."""
    config = default.get_config()
    config.tensorboard = False
    config.data.source = f"npz:{folder / 'real.npz'}"
    config.data.size = size
    config.gan.width = width
    config.generate.batch = batch
    config.vrn.input_size = min(size, config.vrn.input_size)
    for settings in (config.gan, config.features, config.vrn):
        settings.steps = 2  # the least that the learning rate schedules allow
    return config


def make_data(config: ml_collections.ConfigDict, folder: pathlib.Path) -> pathlib.Path:
    """A work directory with prepared images: smooth noise."""
    workdir, size = folder / "run", config.data.size
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES), 2 * _REALS_PER_CLASS)
    smooth = ndimage.gaussian_filter(random.normal(size=(len(labels), size, size)), (0, 2, 2))
    images = np.clip(128 + 400 * smooth, 0, 255).astype(np.uint8)[..., None]
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "real.npz", images=images, labels=labels)
    prepare.run(config, workdir, False)
    return workdir


def make_workdir(config: ml_collections.ConfigDict, folder: pathlib.Path) -> pathlib.Path:
    """A work directory with all that `generate --pool=second` and `filter` need."""
    workdir = make_data(config, folder)
    train_gan.run(config, workdir, False)
    train_features.run(config, workdir, False)
    train_vrn_only(config, workdir)
    return workdir


def train_vrn_only(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Trains the VRN on the classes of the real images, since there are no others."""
    begun = stage.begin(workdir, "vrn", {}, needs=("data",))
    real = prepare.open_split(workdir, "train")
    trainer = train_vrn.open_trainer(config, workdir)
    trainer.train([Part(real, config.vrn.batch)], begun.folder, name="VRN", seed=0, steps=2)
    begun.finish()


def _bare_generator(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> stream.Forward:
    """`generators.open_generator` without quantisation: `(seeds, labels) -> images` in [-1, 1]."""
    spec, trained = train_gan.restore(config, workdir)

    def draw(params: Any, drawn: tuple[jax.Array, jax.Array]) -> jax.Array:
        return sample.generate(spec.generator, params, *drawn)

    return stream.Forward(draw, trained.ema_params, config.generate.batch)


class Clock:
    """Seconds of named sides, round by round."""

    def __init__(self):
        self.seconds: dict[str, list[float]] = collections.defaultdict(list)

    def time(self, name: str, do: Callable[[], Any]) -> Any:
        """Calls `do` and keeps how long it took."""
        began = time.perf_counter()
        result = do()
        self.seconds[name].append(time.perf_counter() - began)
        return result


def rates(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> dict[str, float]:
    """Images per second of every side, and the ratios."""
    per_round = _IMAGES.value // _REPEATS.value
    total = per_round * _REPEATS.value
    shares = _REPEATS.value * _SHARES.value
    bounds = [total * number // shares for number in range(shares + 1)]
    ranges = list(itertools.pairwise(bounds))
    rounds = [range(first, first + _SHARES.value) for first in range(0, shares, _SHARES.value)]
    real = prepare.open_split(workdir, "train")
    spec = pools.PoolSpec(real.class_names, real.image_shape, real.dtype, "0" * 64, "0" * 64)
    draw = generators.open_generator(config, workdir, spec.dtype)
    generator = _bare_generator(config, workdir)
    look, judge = (
        filter_stage.open_networks(config, workdir),
        filter_stage.open_judge(config, workdir),
    )
    seeds = np.arange(look.batch, dtype=np.uint32)
    labels = np.arange(look.batch) % CLASSES
    draw(seeds, labels)  # compiles
    images = generator(seeds, labels)
    look(images, labels)
    clock, passes = Clock(), -(-per_round // look.batch)
    pool_folder, scores = workdir / "pools" / "timed", workdir / "timed"

    def bare(forward: stream.Forward, *arrays: np.ndarray) -> None:
        for _ in forward.ahead((None, arrays) for _ in range(passes)):
            pass

    with tables.resumable_dir(pool_folder, "") as aside:
        for todo in rounds:
            clock.time("generator", lambda: bare(generator, seeds, labels))
            clock.time(
                "generate",
                lambda todo=todo: generate.write_shards(draw, aside, spec, ranges, 0, todo),
            )
        clock.time("generate once", lambda: pools.assemble(aside, spec, len(ranges)))
    pool = clock.time("filter once", lambda: pools.open_pool(pool_folder, hold=False))
    for todo in rounds:
        clock.time("networks", lambda: bare(look, images, labels))
        parts = [ranges[index] for index in todo]
        clock.time(
            "filter",
            lambda parts=parts: filter_stage.score_shares(look, judge, pool, scores, parts),
        )
    names = config.filter.names
    clock.time(
        "filter once",
        lambda: filter_stage.combine(scores, pool, scores, ranges, names, total // CLASSES // 2),
    )
    once = {
        name: sum(clock.seconds[f"{name} once"]) / _REPEATS.value for name in ("generate", "filter")
    }
    found = {}
    for stage_name, bare_name in (("generate", "generator"), ("filter", "networks")):
        staged = [seconds + once[stage_name] for seconds in clock.seconds[stage_name]]
        alone = clock.seconds[bare_name]
        found[bare_name] = per_round / statistics.median(alone)
        found[stage_name] = per_round / statistics.median(staged)
        # Round by round, since the machine's speed changes between rounds.
        ratios = [a / b for a, b in zip(alone, staged, strict=True)]
        found[f"{stage_name} / {bare_name}"] = statistics.median(ratios)
    return found


def status(name: str, process: str = "self") -> int:
    """A memory of a process, by its id, in bytes, as Linux names it."""
    # Not getrusage: it counts what the parent took before this program was started.
    text = pathlib.Path("/proc", process, "status").read_text()
    return int(re.search(rf"{name}:\s*(\d+) kB", text)[1]) * 1024


def peaks(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> list[int]:
    """Makes and filters a pool; the process's memory in bytes.

    Its own at the peak, its own at the end, and the peak with mapped files: pages of those count
    for as long as no one else needs them, and the kernel takes them back without being asked.
    """
    largest, ended = 0, threading.Event()

    def watch() -> None:
        nonlocal largest
        while not ended.wait(0.01):
            largest = max(largest, status("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        generate.make_pool(config, workdir, "second", overwrite=True)
        filter_stage.run(config, workdir, True)
    finally:
        ended.set()
        watcher.join()
    return [largest, status("RssAnon"), status("VmHWM")]


def memory(workdir: pathlib.Path) -> dict[str, float]:
    """Memories in MB by pool size, bytes per further image, and what a million images need."""
    sizes = [int(count) for count in _COUNTS.value]
    taken = {}
    for count in sizes:
        began = time.perf_counter()
        done = subprocess.run(
            [
                *(sys.executable, "-m", "benchmarks.stream", "--memory", f"--fill={workdir}"),
                *(f"--counts={count}", f"--size={_SIZE.value}", f"--width={_WIDTH.value}"),
                f"--batch={_BATCH.value}",
            ],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        taken[count] = [int(word) for word in done.stdout.split()[-3:]]
        seconds = time.perf_counter() - began
        print(f"{count:>9} images: {seconds:.0f} s", flush=True)
    found = {}
    for number, kind in enumerate(("own", "own at the end", "with mapped files")):
        found |= {f"{count} images, MB {kind}": taken[count][number] / 1e6 for count in sizes}
        if len(sizes) > 1:
            low, high = sizes[-2:]
            slope = (taken[high][number] - taken[low][number]) / (high - low)
            million = taken[high][number] + slope * (1_000_000 - high)
            found[f"bytes per image {kind}"] = slope
            found[f"1000000 images, MB {kind}"] = million / 1e6
    return found


def main(argv: list[str]) -> None:
    """Measures and prints."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    if not _MEMORY.value and _IMAGES.value % (_REPEATS.value * CLASSES):
        raise app.UsageError(
            f"--images={_IMAGES.value}: give a multiple of {_REPEATS.value * CLASSES}, so that "
            f"each of --repeats={_REPEATS.value} rounds has as many of all {CLASSES} classes"
        )
    logging.set_verbosity(logging.ERROR)
    host.prepare()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(_FILL.value).parent if _FILL.value else pathlib.Path(temporary)
        config = make_config(folder, _SIZE.value, _WIDTH.value, _BATCH.value)
        if _FILL.value:
            config.generate.second_per_class = int(_COUNTS.value[0]) // CLASSES
            print(*peaks(pathlib.Path(_FILL.value), config))
            return
        workdir = make_workdir(config, folder)
        found = memory(workdir) if _MEMORY.value else rates(config, workdir)
    for name, value in found.items():
        print(f"{name:40} {value:10.2f}")
    if _JSON.value:
        tables.write_json(_JSON.value, found)


if __name__ == "__main__":
    options.run(main, FLAGS)
