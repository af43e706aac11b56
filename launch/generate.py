"""Generates a pool with the averaged generator, or makes single images again from their ids.

The generator is the GAN, or the translator (`config.generate.generator`, docs/rare_classes.md).

python -m launch.generate --pool=first  --config=configs/digits.py --workdir=runs/digits
python -m launch.generate --pool=second --config=configs/digits.py --workdir=runs/digits
python -m launch.generate --sample_ids=0f3c…-7-12 --out=DIR --config=… --workdir=…
"""

import contextlib
import itertools
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ml_collections
import numpy as np
from absl import flags

from data import pools, records, tables
from data.errors import UserError
from launch import cli, distributed, generators, origins, pictures, prepare, stage, stream

POOL = flags.DEFINE_enum("pool", "first", ["first", "second"], "Which pool to generate.")
ROUNDS = flags.DEFINE_integer(
    "rounds", None, "Size of the first pool in multiples of generate.first_per_class; by default "
    "as it is, or 1. The pipeline raises it when there are too few negatives.", lower_bound=1,
)  # fmt: skip
SAMPLE_IDS = flags.DEFINE_list("sample_ids", [], "Make these images again instead of a pool.")
OUT = flags.DEFINE_string(
    "out", "", "Folder for --sample_ids: one PNG each; by default WORKDIR/regenerated."
)


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path, overwrite: bool) -> pathlib.Path:
    """The program: a pool, or the images named by --sample_ids."""
    if SAMPLE_IDS.value:
        out = pathlib.Path(OUT.value) if OUT.value else workdir / "regenerated"
        out.mkdir(parents=True, exist_ok=True)
        for name, image in zip(
            SAMPLE_IDS.value, regenerate(config, workdir, SAMPLE_IDS.value), strict=True
        ):
            picture = pictures.sheet(image[None], 1)
            pictures.save_png(out / f"{name}.png", picture, synthetic=True)
        return out
    return make_pool(config, workdir, POOL.value, overwrite=overwrite, rounds=ROUNDS.value)


def check(config: ml_collections.ConfigDict, workdir: pathlib.Path, rounds: int = 1) -> None:
    """Raises a `UserError` where there are too few real images to translate, before hours go by.

    Args:
      config: experiment.
      workdir: prepared work directory.
      rounds: of the first pool.
    """
    sources = generators.sources(config, workdir)
    if sources is not None:
        sources.require("first", config.generate.first_per_class, rounds)
        sources.require("second", config.generate.second_per_class)


def rounds_made(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> int:
    """Size of the first pool on disk, in rounds; 1 where there is none of the generator at hand."""
    name = config.generate.generator
    found, trained = stage.read(workdir, "pools/first"), stage.read(workdir, name)
    if found is None or trained is None or found["inputs"].get(name) != trained["digest"]:
        return 1
    return found["config"]["rounds"]


def make_pool(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    pool: str,
    *,
    overwrite: bool,
    rounds: int | None = None,
) -> pathlib.Path:
    """Writes `WORKDIR/pools/<pool>` with the same number of images of every class.

    Args:
      config: experiment.
      workdir: work directory with a trained generator.
      pool: `first` or `second`.
      overwrite: replace a pool made with other settings.
      rounds: multiple of `generate.first_per_class`; only the first pool grows.

    Raises:
      UserError: there are too few real images to translate.
    """
    rounds = (rounds or rounds_made(config, workdir)) if pool == "first" else 1
    sources = generators.sources(config, workdir)
    if sources is not None:
        sources.require(pool, config.generate[f"{pool}_per_class"], rounds)
    per_class = config.generate[f"{pool}_per_class"] * rounds
    settings = {
        "per_class": per_class,
        "rounds": rounds,
        "batch": config.generate.batch,
        "shards": config.generate.shards,
        **generators.settings(config),
    }
    grown = pool == "first" and rounds > rounds_made(config, workdir)
    begun = stage.begin(
        workdir, f"pools/{pool}", settings, needs=(config.generate.generator,),
        overwrite=overwrite or grown,
    )  # fmt: skip
    if begun is not None:
        _fill(config, workdir, begun, pool, per_class, sources)
    folder = workdir / "pools" / pool
    if distributed.is_main():
        pools.clear(folder)  # here, for a run that was killed after it had finished the stage
    return folder


def _fill(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    begun: stage.Stage,
    pool: str,
    per_class: int,
    sources: origins.Sources | None,
) -> None:
    """Makes what is missing of a pool and finishes its stage."""
    real = prepare.open_split(workdir, "train")
    spec = pools.PoolSpec(
        class_names=tuple(real.class_names),
        image_shape=tuple(real.image_shape),
        dtype=real.dtype,
        checkpoint_digest=generators.checkpoint_digest(config, workdir),
        data_digest=stage.require(workdir, "data")["facts"]["digest"],
    )
    total = per_class * len(spec.class_names)
    ranges = stream.shares(total, at_least=config.generate.shards)
    draw = generators.open_generator(config, workdir, spec.dtype)
    # All that the bytes of a shard depend on: images are rounded by the rows that go together.
    key = f"{begun.digest} in {len(ranges)}, {draw.rows_per_device} rows per device"
    # A run killed once the pool was in its place, but before its stage was finished, left a key.
    if not distributed.on_main(lambda: tables.has_key(begun.folder, key)):
        _write(draw, begun.folder, key, spec, ranges, pool, sources)
    begun.finish(images=total, checkpoint_digest=spec.checkpoint_digest)


def _write(
    draw: stream.Forward,
    folder: pathlib.Path,
    key: str,
    spec: pools.PoolSpec,
    ranges: Sequence[tuple[int, int]],
    pool: str,
    sources: origins.Sources | None,
) -> None:
    """Puts a pool in the place of `folder`, with the finished shards that a killed run left."""
    with contextlib.ExitStack() as stack:
        if distributed.is_main():
            stack.enter_context(tables.resumable_dir(folder, key))
        distributed.barrier(f"{pool} pool begun")
        aside = tables.unfinished(folder)
        todo = [i for i in stream.mine(len(ranges)) if not pools.is_finished(aside, i)]
        with stream.progress(f"{pool} pool", ranges, todo) as bar:
            first_seed = pools.FIRST_SEED[pool]
            write_shards(draw, aside, spec, ranges, first_seed, todo, bar.update, sources)
        distributed.barrier(f"{pool} pool written")
        if distributed.is_main():
            pools.assemble(aside, spec, len(ranges))


def write_shards(
    draw: stream.Forward,
    folder: pathlib.Path,
    spec: pools.PoolSpec,
    ranges: Sequence[tuple[int, int]],
    first_seed: int,
    todo: Sequence[int],
    done: Callable[[int], Any] = lambda count: None,
    sources: origins.Sources | None = None,
) -> None:
    """Writes some shards of a pool in the making.

    Args:
      draw: `generators.open_generator`.
      folder: of the pool in the making.
      spec: of the pool.
      ranges: [start, stop) of the images of every shard; image i has seed `first_seed` + i and, in
        turn, one class after the other.
      first_seed: of image 0.
      todo: numbers of the shards to write.
      done: called with the number of images after every batch.
      sources: what the images are translated from; None of noise.
    """

    def jobs() -> Iterator[tuple[tuple[int, np.ndarray, np.ndarray], tuple[np.ndarray, ...]]]:
        for index in todo:
            start, stop = ranges[index]
            for low in range(start, stop, draw.batch):
                rows = np.arange(low, min(low + draw.batch, stop))
                labels = rows % len(spec.class_names)
                seeds = (first_seed + rows).astype(np.uint32)
                yield (index, labels, seeds), (seeds, labels)

    with stream.behind() as behind:
        for index, batches in itertools.groupby(draw.ahead(jobs()), key=lambda job: job[0][0]):
            shard = pools.PoolShard(folder, spec, index, len(ranges))
            try:
                for (_, labels, seeds), (images, finite) in batches:
                    _check(finite)
                    known = None if sources is None else sources.origins(seeds, labels)
                    shard.write(images, labels, seeds, known)
                    done(len(images))
                behind(shard.close)
            except BaseException:
                shard.release()
                raise


def regenerate(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, sample_ids: Sequence[str]
) -> np.ndarray:
    """Makes images `[N, H, W, C]` again from their ids.

    They equal the pool's to the last bit with the same number of devices per process.

    Raises:
      UserError: an id is malformed, or of another generator than the one in `workdir`.
    """
    digest = generators.checkpoint_digest(config, workdir)
    try:
        parsed = [pools.parse_sample_id(name) for name in sample_ids]
    except ValueError as error:
        raise UserError(f"--sample_ids: {error}; take ids from a manifest.parquet") from error
    for name, (prefix, _, _) in zip(sample_ids, parsed, strict=True):
        if not digest.startswith(prefix):
            raise UserError(
                f"--sample_ids: {name} is of generator {prefix}, but "
                f"{workdir / config.generate.generator} holds {digest[: len(prefix)]}; give the "
                "--workdir and --config it was made with"
            )
    real = prepare.open_split(workdir, "train")
    draw = generators.open_generator(config, workdir, real.dtype)
    labels = np.array([label for _, label, _ in parsed])
    if (labels >= len(real.class_names)).any():
        raise UserError(
            f"--sample_ids: {sample_ids[labels.argmax()]} is of class {labels.max()} of "
            f"{len(real.class_names)}, from 0; take ids from a manifest.parquet"
        )
    seeds = np.array([seed for _, _, seed in parsed], np.uint32)
    images, finite = draw(seeds, labels)
    _check(finite)
    return records.to_unit(images)


def _check(finite: np.ndarray) -> None:
    """Refuses images of which the generator says that they hold NaN or infinity."""
    if not finite.all():
        raise UserError(
            "the generator makes NaN images: its training diverged; train it again with a lower "
            "learning rate or a larger penalty."
        )


if __name__ == "__main__":
    cli.start(run)
