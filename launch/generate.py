"""Generates a pool with the averaged generator, or makes single images again from their ids.

python -m launch.generate --pool=first  --config=configs/digits.py --workdir=runs/digits
python -m launch.generate --pool=second --config=configs/digits.py --workdir=runs/digits
python -m launch.generate --sample_ids=0f3c…-7-12 --out=DIR --config=… --workdir=…
"""

import functools
import pathlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from absl import flags
from tqdm import tqdm

from data import pools, records
from data.errors import UserError
from gan import sample
from launch import cli, models, pictures, prepare, stage, train_gan

POOL = flags.DEFINE_enum("pool", "first", ["first", "second"], "Which pool to generate.")
ROUNDS = flags.DEFINE_integer(
    "rounds", None, "Size of the first pool in multiples of generate.first_per_class; by default "
    "as it is, or 1. The pipeline raises it when there are too few negatives.", lower_bound=1,
)  # fmt: skip
SAMPLE_IDS = flags.DEFINE_list("sample_ids", [], "Make these images again instead of a pool.")
OUT = flags.DEFINE_string(
    "out", "", "Folder for --sample_ids: one PNG each; by default WORKDIR/regenerated."
)

# Seeds of the pools never meet: the VRN is not asked about an image it was trained on.
FIRST_SEED = {"first": 0, "second": 2**31}


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path, overwrite: bool) -> pathlib.Path:
    """The program: a pool, or the images named by --sample_ids."""
    if SAMPLE_IDS.value:
        out = pathlib.Path(OUT.value) if OUT.value else workdir / "regenerated"
        out.mkdir(parents=True, exist_ok=True)
        for name, image in zip(
            SAMPLE_IDS.value, regenerate(config, workdir, SAMPLE_IDS.value), strict=True
        ):
            pictures.save_png(out / f"{name}.png", pictures.sheet(image[None], 1))
        return out
    return make_pool(config, workdir, POOL.value, overwrite=overwrite, rounds=ROUNDS.value)


def rounds_made(workdir: pathlib.Path) -> int:
    """Size of the first pool on disk, in rounds; 1 where there is none of the GAN at hand."""
    found, gan = stage.read(workdir, "pools/first"), stage.read(workdir, "gan")
    if found is None or gan is None or found["inputs"]["gan"] != gan["digest"]:
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
      workdir: work directory with a trained GAN.
      pool: `first` or `second`.
      overwrite: replace a pool made with other settings.
      rounds: multiple of `generate.first_per_class`; only the first pool grows.
    """
    rounds = (rounds or rounds_made(workdir)) if pool == "first" else 1
    per_class = config.generate[f"{pool}_per_class"] * rounds
    settings = {
        "per_class": per_class,
        "rounds": rounds,
        "batch": config.generate.batch,
        "shards": config.generate.shards,
    }
    grown = pool == "first" and rounds > rounds_made(workdir)
    begun = stage.begin(
        workdir, f"pools/{pool}", settings, needs=("gan",), overwrite=overwrite or grown
    )
    if begun is None:
        return workdir / "pools" / pool
    real = prepare.open_split(workdir, "train")
    classes = len(real.class_names)
    total = per_class * classes
    seeds = FIRST_SEED[pool] + np.arange(total, dtype=np.uint32)
    labels = np.arange(total) % classes
    digest = stage.require(workdir, "gan")["facts"]["checkpoint_digest"]
    writer = pools.PoolWriter(
        begun.folder,
        class_names=real.class_names,
        image_shape=real.image_shape,
        dtype=real.dtype,
        checkpoint_digest=digest,
        data_digest=stage.require(workdir, "data")["facts"]["digest"],
        num_shards=config.generate.shards,
    )
    draw = _drawer(config, workdir)
    batch = config.generate.batch
    for start in tqdm(range(0, total, batch), desc=f"{pool} pool", unit="batch"):
        rows = slice(start, start + batch)
        writer.write(draw(seeds[rows], labels[rows]), labels[rows], seeds[rows])
    writer.close()
    begun.finish(images=total, checkpoint_digest=digest)
    return begun.folder


def regenerate(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, sample_ids: Sequence[str]
) -> np.ndarray:
    """Makes images `[N, H, W, C]` again from their ids, equal to the pool's to the last bit.

    Raises:
      UserError: an id is malformed, or of another generator than the one in `workdir`.
    """
    digest = stage.require(workdir, "gan")["facts"]["checkpoint_digest"]
    try:
        parsed = [pools.parse_sample_id(name) for name in sample_ids]
    except ValueError as error:
        raise UserError(f"--sample_ids: {error}; take ids from a manifest.parquet") from error
    for name, (prefix, _, _) in zip(sample_ids, parsed, strict=True):
        if not digest.startswith(prefix):
            raise UserError(
                f"--sample_ids: {name} is of generator {prefix}, but {workdir / 'gan'} holds "
                f"{digest[: len(prefix)]}; give the --workdir it was made in"
            )
    real = prepare.open_split(workdir, "train")
    draw = _drawer(config, workdir)
    labels = np.array([label for _, label, _ in parsed])
    seeds = np.array([seed for _, _, seed in parsed], np.uint32)
    images = draw(seeds, labels)
    return records.to_unit(records.from_unit(images, real.dtype))


def _drawer(
    config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Returns `(seeds, labels) -> images`, always run at the full batch: one compilation."""
    spec, trained = train_gan.restore(config, workdir)
    batch = config.generate.batch
    forward = jax.jit(functools.partial(sample.generate, spec.generator))

    def draw(seeds: np.ndarray, labels: np.ndarray) -> np.ndarray:
        images = [
            np.asarray(
                forward(
                    trained.ema_params,
                    jnp.asarray(models.pad(seeds[start : start + batch], batch)),
                    jnp.asarray(models.pad(labels[start : start + batch], batch)),
                )
            )
            for start in range(0, len(seeds), batch)
        ]
        return np.concatenate(images)[: len(seeds)]

    return draw


if __name__ == "__main__":
    cli.start(run)
