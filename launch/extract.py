"""Divides the annotated pool: negatives for the VRN, candidates, and parts held out from it.

python -m launch.extract --config=configs/digits.py --workdir=runs/digits
"""

import pathlib

import ml_collections
import numpy as np

from data import pools, tables
from launch import annotate, cli, distributed, rng, stage
from vrn import extraction

COLUMNS = ("accepted", "negatives", "positives", "calibration", "measurement")


@distributed.main_only
def run(config: ml_collections.ConfigDict, workdir: pathlib.Path, overwrite: bool) -> pathlib.Path:
    """Writes `WORKDIR/extraction/rows.parquet`.

    Raises:
      NotEnoughNegatives: the pool is too small or too good; the pipeline then generates more.
    """
    settings = {"extract": config.extract.to_dict(), "seed": config.seed}
    needs = ("pools/first", "annotation")
    begun = stage.begin(workdir, "extraction", settings, needs=needs, overwrite=overwrite)
    if begun is None:
        return workdir / "extraction"
    pool = pools.open_pool(workdir / "pools" / "first")
    real_like = annotate.verdicts(config, workdir)
    half = config.extract.held_out / 2
    found = extraction.extract(
        real_like,
        pool.labels,
        num_classes=len(pool.class_names),
        min_negatives=config.extract.min_negatives,
        min_negatives_per_class=config.extract.min_negatives_per_class,
        shares=(1 - 2 * half, half, half),
        seed=rng.fold(config.seed, "extract"),
    )
    rows = np.arange(len(pool))
    columns = {name: np.isin(rows, getattr(found, name)) for name in COLUMNS}
    tables.write_parquet(
        begun.folder / "rows.parquet", {"sample_id": pool.ids, "real_like": real_like, **columns}
    )
    counts = {name: int(mask.sum()) for name, mask in columns.items()}
    cli.say("extraction: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
    begun.finish(**counts)
    return begun.folder


def read(workdir: pathlib.Path) -> tuple[extraction.Extraction, np.ndarray]:
    """Returns the rows of the first pool by use, and the verdict on each row."""
    stage.require(workdir, "extraction")
    table = tables.read_parquet(workdir / "extraction" / "rows.parquet")
    rows = {name: np.flatnonzero(table[name]) for name in COLUMNS}
    return extraction.Extraction(**rows), np.asarray(table["real_like"], int)


if __name__ == "__main__":
    cli.start(run)
