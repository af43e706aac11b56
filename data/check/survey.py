"""All images of a source as columns, some of them as tiles, and what can't be read."""

import dataclasses
import heapq
import os
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from tqdm import tqdm

from data.check.facts import BINS, SIDE, Facts, facts, middle
from data.errors import UserError
from data.sources.raw import Options
from data.sources.walk import Item, Unreadable, walk

TILES = 12  # images of every class that are kept to be shown
_TILE = 512  # longest side of those, pixels


@dataclasses.dataclass(frozen=True)
class Survey:
    """N images; row i of every column is image i. About 1.3 kB are kept of each.

    Attributes:
        spec: the source.
        class_names: K names in label order.
        ids: text [N].
        splits: text [N]: 'train', 'val', 'test' or 'all'.
        labels: int64 [N], -1 = none.
        groups: text [N], '' = unknown.
        columns: site and further columns of the table of labels, each text [N].
        shapes: int64 [N, 3], (H, W, C).
        depths: int64 [N], slices of volumes; 1 of images.
        dtypes: text [N].
        values: float64 [N, 3]: lowest, highest and mean value.
        grey: bool [N].
        digests: bytes [N]; equal for the same pixels.
        thumbnails: uint8 [N, SIDE, SIDE].
        histograms: {(dtype, label): int64 [BINS]}.
        tiles: {label: rows and pixels [H, W, C] of a random choice, of volumes the middle slice}.
        files: how many there were to read; None where images lie in one file.
        unreadable: {path: why}.
    """

    spec: str
    class_names: tuple[str, ...]
    ids: np.ndarray
    splits: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    columns: Mapping[str, np.ndarray]
    shapes: np.ndarray
    depths: np.ndarray
    dtypes: np.ndarray
    values: np.ndarray
    grey: np.ndarray
    digests: np.ndarray
    thumbnails: np.ndarray
    histograms: Mapping[tuple[str, int], np.ndarray]
    tiles: Mapping[int, list[tuple[int, np.ndarray]]]
    files: int | None
    unreadable: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.ids)


def survey(spec: str, *, data_dir: str | os.PathLike[str], options: Options) -> Survey:
    """Go through a source once.

    Raises:
        UserError: as `data.sources.walk.walk`, or not one image can be read.
    """
    found = walk(spec, lambda pixels: (facts(pixels), _tile(middle(pixels))), data_dir=data_dir,
                 options=options)  # fmt: skip
    rows, columns = [], []
    unreadable: dict[str, str] = {}
    histograms: dict[tuple[str, int], np.ndarray] = {}
    chosen: dict[int, list[tuple[int, int, np.ndarray]]] = {}
    for item in tqdm(found.items, desc="images", unit="image", disable=None):
        if isinstance(item, Unreadable):
            unreadable[item.name] = item.why
            continue
        seen, tile = item.seen
        if seen.histogram is not None:
            total = histograms.setdefault((seen.dtype, item.label), np.zeros(BINS, np.int64))
            total += seen.histogram
        _choose(chosen.setdefault(item.label, []), item.id, len(rows), tile)
        rows.append((item, dataclasses.replace(seen, histogram=None)))
        columns.append({"site": item.site, **_without_masks(item.columns)})
    if not rows:
        name, why = next(iter(unreadable.items()), ("it", "is empty"))
        raise UserError(f"{spec}: not one image can be read; {name} {why.rstrip('.')}.")
    return Survey(
        spec=spec,
        class_names=found.class_names,
        **_columns([item for item, _ in rows], [seen for _, seen in rows]),
        columns=_filled(columns),
        histograms=histograms,
        tiles={label: _ordered(heap) for label, heap in sorted(chosen.items())},
        files=found.files,
        unreadable=unreadable,
    )


def _columns(items: Sequence[Item], seen: Sequence[Facts]) -> dict[str, np.ndarray]:
    return {
        "ids": np.array([x.id for x in items], np.str_),
        "splits": np.array([x.split for x in items], np.str_),
        "labels": np.array([x.label for x in items], np.int64),
        "groups": np.array([x.group for x in items], np.str_),
        "shapes": np.array([x.shape for x in seen], np.int64),
        "depths": np.array([x.depth for x in seen], np.int64),
        "dtypes": np.array([x.dtype for x in seen], np.str_),
        "values": np.array([(x.low, x.high, x.mean) for x in seen]),
        "grey": np.array([x.grey for x in seen]),
        "digests": np.array([x.digest for x in seen], f"V{len(seen[0].digest)}"),
        "thumbnails": np.stack([x.thumbnail for x in seen]).reshape(-1, SIDE, SIDE),
    }


def _without_masks(columns: Mapping[str, str]) -> dict[str, str]:
    """What may tell groups of patients apart."""
    return {name: value for name, value in columns.items() if name != "mask"}


def _filled(columns: Sequence[Mapping[str, str]]) -> dict[str, np.ndarray]:
    """Columns in which there is anything, as text [N]."""
    names = dict.fromkeys(name for row in columns for name in row)
    filled = {name: np.array([row.get(name, "") for row in columns], np.str_) for name in names}
    return {name: column for name, column in filled.items() if (column != "").any()}


def _tile(pixels: np.ndarray) -> np.ndarray:
    """Every n-th pixel, so that a tile is small; as it is where it already is."""
    step = max(1, -(-max(pixels.shape[:2]) // _TILE))
    return pixels[::step, ::step].copy()


def _choose(heap: list[tuple[int, int, np.ndarray]], name: str, row: int, tile: np.ndarray) -> None:
    """Keep the `TILES` images of the lowest checksums: random, but always the same."""
    entry = (-zlib.crc32(name.encode()), row, tile)
    if len(heap) < TILES:
        heapq.heappush(heap, entry)
    elif entry[:2] > heap[0][:2]:
        heapq.heapreplace(heap, entry)


def _ordered(heap: list[tuple[int, int, np.ndarray]]) -> list[tuple[int, np.ndarray]]:
    return sorted(((row, tile) for _, row, tile in heap), key=lambda entry: entry[0])
