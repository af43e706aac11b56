"""Small labelled sets whose pixels tell which record they are."""

import os
import pathlib
import tempfile
from collections.abc import Callable

import numpy as np
import pytest

from data.records import ArrayRecords
from data.sources import Source, open_source


def make_records(
    counts: tuple[int, ...] = (7, 5, 3), *, prefix: str = "r", **kwargs
) -> ArrayRecords:
    """Records [sum(counts), 2, 2, 1] uint16, record i filled with the value i."""
    labels = np.repeat(np.arange(len(counts)), counts)
    count = len(labels)
    images = np.broadcast_to(
        np.arange(count, dtype=np.uint16)[:, None, None, None], (count, 2, 2, 1)
    ).copy()
    names = [f"class {k}" for k in range(len(counts))]
    ids = [f"{prefix}{i}" for i in range(count)]
    return ArrayRecords(images, labels, ids, names, **kwargs)


def read_source(spec: str, **options) -> Source:
    """`open_source` with all images in memory and no folder left behind."""
    with tempfile.TemporaryDirectory() as folder:
        source = open_source(spec, spool=pathlib.Path(folder), **options)
        splits = {
            name: ArrayRecords(
                part.read_raw(np.arange(len(part))),
                part.labels, part.ids, part.class_names, part.groups,
            )
            for name, part in source.splits.items()
        }  # fmt: skip
    return Source(splits, source.spec, source.report)


def open_small(spec: str, tmp_path: pathlib.Path, size: int = 4, channels: int = 1) -> Source:
    """A source of grey images of 4 px, with tfds sets kept in the folder."""
    return read_source(spec, data_dir=tmp_path / "tfds", size=size, channels=channels)


def npz_arrays(**changes: np.ndarray | None) -> dict[str, np.ndarray]:
    """Arrays of an .npz source of two classes, with changes; None leaves one out."""
    rng = np.random.default_rng(0)
    arrays = {"class_names": np.array(["cat", "dog"])}
    for split, count in (("train", 6), ("val", 4)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, 4, 4), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(count).reshape(-1, 1) % 2
    return {key: value for key, value in (arrays | changes).items() if value is not None}


def record_numbers(image: np.ndarray) -> np.ndarray:
    """Which record each row of a batch made of `make_records` is."""
    return np.rint((image[:, 0, 0, 0].astype(np.float64) + 1) * 32767.5).astype(int)


@pytest.fixture
def few() -> ArrayRecords:
    return make_records()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def npz(tmp_path: pathlib.Path) -> Callable[..., str]:
    """Writes `npz_arrays`; returns the source."""

    def save(**changes) -> str:
        np.savez(tmp_path / "x.npz", **npz_arrays(**changes))
        return f"npz:{tmp_path / 'x.npz'}"

    return save


@pytest.fixture
def chest_npz() -> pathlib.Path:
    folder = os.environ.get("VRN_TEST_DATA")
    if not folder:
        pytest.skip("needs chest X-rays: set VRN_TEST_DATA to a folder with cxr_pneumonia/")
    path = pathlib.Path(folder) / "cxr_pneumonia" / "cxr_pneumonia_64.npz"
    if not path.is_file():
        pytest.skip(f"needs chest X-rays: {path} does not exist")
    return path


@pytest.fixture
def truncate() -> Callable[[pathlib.Path], None]:
    """Cut a file to half its length."""

    def cut(path: pathlib.Path) -> None:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return cut


@pytest.fixture
def volumes() -> pathlib.Path:
    """Real DICOM and NIfTI files."""
    folder = os.environ.get("VRN_TEST_DATA")
    path = pathlib.Path(folder or "") / "volumes3d"
    if not folder or not path.is_dir():
        pytest.skip("needs real files: set VRN_TEST_DATA to a folder with volumes3d/")
    return path
