"""Exports a pool or the prepared images as files for other programs, marked as what they are.

python -m launch.export --workdir=runs/digits --what=pools/second --kept_by=vrn --format=dicom
"""

import pathlib
import re
from collections.abc import Callable
from typing import Any

import ml_collections
import numpy as np
import pyarrow as pa
from absl import flags
from tqdm import tqdm

from data import marks, pools, records, shards, tables
from data.errors import UserError
from data.export import FORMATS, About, depth, write
from launch import cli, distributed, originals, prepare, stage, version

WHAT = flags.DEFINE_enum(
    "what", "pools/second", ["pools/first", "pools/second", "data"],
    "A pool, or the prepared real images of all splits.",
)  # fmt: skip
FORMAT = flags.DEFINE_enum("format", "png", list(FORMATS), "Format of the files, one per image.")
BITS = flags.DEFINE_enum(
    "bits", "", ["", "8", "16"], "Bits of PNG and DICOM; by default as many as keep every value."
)
KEPT_BY = flags.DEFINE_string("kept_by", "", "Only images of the second pool this filter kept.")
TO = flags.DEFINE_string("to", "", "Folder to make; by default WORKDIR/export/WHAT-FORMAT.")
_SOFTWARE = f"VRN {version.VERSION}"

_Place = Callable[[int], tuple[pathlib.PurePath, About]]
_Part = tuple[records.Records, np.ndarray, _Place]


@distributed.main_only
def run(
    config: ml_collections.ConfigDict, workdir: pathlib.Path | None, overwrite: bool
) -> pathlib.Path:
    """The program; it needs no configuration."""
    del config
    if workdir is None:
        raise UserError("--workdir is missing; give the folder of a run")
    if KEPT_BY.value and WHAT.value != "pools/second":
        raise UserError(f"--kept_by={KEPT_BY.value} needs --what=pools/second; filters judge that")
    record = stage.require(workdir, WHAT.value)
    parts = _of_data(workdir, record) if WHAT.value == "data" else [_of_pool(workdir)]
    name = re.sub(r"\W+", "-", f"{WHAT.value}-{KEPT_BY.value}".strip("-"))
    folder = pathlib.Path(TO.value) if TO.value else workdir / "export" / f"{name}-{FORMAT.value}"
    bits = int(BITS.value) if BITS.value else depth(parts[0][0].dtype)
    total = sum(len(rows) for _, rows, _ in parts)
    facts = {
        "synthetic": WHAT.value != "data",  # in prepared data each file says it for itself
        "what": WHAT.value,
        "kept_by": KEPT_BY.value,
        "digest": record["digest"],
        "software": _SOFTWARE,
    }
    with tqdm(total=total, desc="export", unit="image", disable=None) as bar:
        made = write(
            folder, parts, kind=FORMAT.value, bits=bits, facts=facts, overwrite=overwrite,
            done=bar.update,
        )  # fmt: skip
    cli.say(f"export: {total} images" if made else f"export: {folder} is up to date")
    return folder


def _of_pool(workdir: pathlib.Path) -> _Part:
    pool = pools.open_pool(workdir / WHAT.value, hold=False)
    rows = np.arange(len(pool))
    if KEPT_BY.value:
        rows = _kept(workdir, pool)
    names = _file_names(pool.class_names)
    columns = ["checkpoint_digest", "data_digest"]
    batch = next(tables.read_batches(workdir / WHAT.value / pools.MANIFEST, columns))
    digest, trained_on = (batch.column(name)[0].as_py() for name in columns)
    origin = _origins(workdir, pool)

    def place(row: int) -> tuple[pathlib.PurePath, About]:
        label = int(pool.labels[row])
        name = pools.sample_id(digest, label, int(pool.seeds[row]))
        facts = {"SampleId": name, "GeneratorDigest": digest, "TrainingDataDigest": trained_on}
        translated, owner = origin(row)
        about = About(
            name=name, class_name=pool.class_names[label], synthetic=True,
            facts=facts | translated, owner=owner, group=digest, low=np.nan, high=np.nan,
            software=_SOFTWARE,
        )  # fmt: skip
        return pathlib.PurePath(names[label], name), about

    return pool, rows, place


def _origins(
    workdir: pathlib.Path, pool: pools.Pool
) -> Callable[[int], tuple[dict[str, str], str]]:
    """For rows of a pool, the facts about the images they were translated from, and whose they are.

    Both are as in an export of the prepared images: the number of a training image, for a path may
    name a patient, and the patient's digest.
    """
    if (found := pool.origins) is None:
        return lambda row: ({}, "")
    train = prepare.open_split(workdir, "train")
    digest = stage.require(workdir, "data")["digest"]
    row_of = {str(name): row for row, name in enumerate(train.ids)}

    def origin(row: int) -> tuple[dict[str, str], str]:
        source, domain, repeat = (column[row].as_py() for column in found.columns)
        if source not in row_of:
            raise UserError(
                f"{workdir / WHAT.value} was made of images that {workdir / 'data'} does not have; "
                "generate it again"
            )
        facts = {
            "Source": _number("train", row_of[source]),
            "TargetDomain": domain,
            "SourceRepeat": str(repeat),
        }
        return facts, _owner(train, row_of[source], digest)

    return origin


def _kept(workdir: pathlib.Path, pool: pools.Pool) -> np.ndarray:
    """Rows of the second pool that a filter kept."""
    stage.require(workdir, "filter")
    rows, names, find = [], set(), pool.finder()
    for batch in tables.read_batches(
        workdir / "filter" / "scores.parquet", ["sample_id", "filter", "kept"]
    ):
        of = batch.column("filter").to_numpy(zero_copy_only=False)
        names |= set(of.tolist())
        chosen = (of == KEPT_BY.value) & batch.column("kept").to_numpy(zero_copy_only=False)
        rows.append(find(batch.column("sample_id").filter(pa.array(chosen))))
    if KEPT_BY.value not in names:
        raise UserError(
            f"--kept_by={KEPT_BY.value} is no filter of this run; choose from "
            f"{', '.join(sorted(names))}"
        )
    return np.sort(np.concatenate(rows))


def _of_data(workdir: pathlib.Path, record: dict) -> list[_Part]:
    """All splits there are, with the units of the source where it told them."""
    known = originals.read(workdir / "data" / "intensity.parquet")
    splits = [name for name in prepare.SPLITS if shards.has_split(workdir / "data", name)]
    return [
        _of_split(prepare.open_split(workdir, name), name, known, record["digest"])
        for name in splits
    ]


def _of_split(
    part: records.Records, split: str, known: dict[str, dict[str, Any]], digest: str
) -> _Part:
    names = _file_names(part.class_names)

    def place(row: int) -> tuple[pathlib.PurePath, About]:
        label = int(part.labels[row])
        # The path of the source's file may name a patient, so files are numbered.
        name = _number(split, row)
        about = About(
            name=name, class_name=part.class_names[label] if label >= 0 else "",
            synthetic=marks.is_marked(str(part.ids[row])),
            facts={"Split": split, "DataDigest": digest},
            owner=_owner(part, row, digest), group=digest,
            software=_SOFTWARE, **originals.place(known.get(str(part.ids[row]), {})),
        )  # fmt: skip
        # Imported images are where a source has them, so that the folder can be one again.
        folder = "train" if split == prepare.IMPORTED else split
        return pathlib.PurePath(folder, names[label] if label >= 0 else "unlabelled", name), about

    return part, np.arange(len(part)), place


def _number(split: str, row: int) -> str:
    """The name of a real image in exports."""
    return f"{split}-{row:06d}"


def _owner(part: records.Records, row: int, digest: str) -> str:
    """Digest that images of one patient share; '' where patients are not known."""
    group = "" if part.groups is None else str(part.groups[row])
    return tables.json_sha256([digest, group])[:16] if group else ""


def _file_names(class_names: tuple[str, ...]) -> list[str]:
    """Names of classes as names of folders, all different."""
    plain = [re.sub(r"[^\w.-]+", "_", name).strip("._") or "class" for name in class_names]
    return [name if plain.count(name) == 1 else f"{k}_{name}" for k, name in enumerate(plain)]


if __name__ == "__main__":
    cli.start(run, optional=True)
