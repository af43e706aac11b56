"""A share of `python -m tests.data.fuzzing`, and the dangers it found, each once."""

import gzip
import io
import os
import pathlib
import struct
import warnings
import zlib

import numpy as np
import pydicom
import pytest

from data.errors import RefusedError, UserError
from data.sources import Options, dicom, limits, native
from data.sources.labels import Entry
from data.sources.walk import Unreadable, walk
from tests.data.conftest import read_source
from tests.data.fuzzing.dicom import deflated_dicom, vast_dicom
from tests.data.fuzzing.judge import fuzz
from tests.data.fuzzing.whole import KINDS, whole_nifti, whole_png
from tests.dicom_files import save_dicom


def test_damaged_files_are_read_or_named():
    kinds = len(KINDS)
    files = 40 * (kinds + 1)  # and npz files and tables
    outcome = fuzz(files, 100_000, apart=False, say=lambda text: None)
    assert not outcome.faults
    assert outcome.read + outcome.refused == files
    assert outcome.read > 20
    assert outcome.refused > 100
    assert outcome.whole == 3 * kinds


def _why(path: pathlib.Path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as the reader of sources does
        with pytest.raises(RefusedError) as refused:
            list(dicom.decode(Entry(path, path.name, 0, "all")).pictures)
    return str(refused.value)


@pytest.fixture
def strict(monkeypatch):
    """Limits as for small machines, so that bombs may be small."""
    monkeypatch.setattr(limits, "_SMALL", 1 << 22)


def test_deflated_bombs(tmp_path, strict):
    (tmp_path / "a.dcm").write_bytes(deflated_dicom(megabytes=16))
    assert "would need" in _why(tmp_path / "a.dcm")
    (tmp_path / "b.dcm").write_bytes(deflated_dicom(megabytes=1))
    assert "would need" not in _why(tmp_path / "b.dcm")


@pytest.mark.parametrize("rle", [True, False])
def test_compressed_frames_of_an_absurd_size(tmp_path, rle):
    (tmp_path / "a.dcm").write_bytes(vast_dicom(rle, bytes(400)))
    assert "would need 4 GiB of memory" in _why(tmp_path / "a.dcm")


def test_a_deflated_stream_is_measured_no_further_than_allowed(strict):
    plain = bytes(3 << 20)
    packer = zlib.compressobj(9, wbits=-15)
    packed = packer.compress(plain) + packer.flush()
    assert limits.inflated(io.BytesIO(packed), len(packed)) == len(plain)
    packer = zlib.compressobj(9, wbits=-15)
    packed = b"".join(packer.compress(plain) for _ in range(20)) + packer.flush()
    measured = limits.inflated(io.BytesIO(packed), len(packed))
    assert 1 << 22 < measured <= max(1 << 22, 100 * len(packed)) + (1 << 20)


@pytest.fixture
def compressed(tmp_path) -> pathlib.Path:
    pixels = np.random.default_rng(0).integers(0, 4096, (40, 48), dtype=np.uint16)
    return save_dicom(tmp_path / "a.dcm", pixels, compress=pydicom.uid.JPEG2000Lossless)


def test_the_decoder_apart_gives_what_pydicom_gives(compressed):
    expected = pydicom.dcmread(compressed).pixel_array
    np.testing.assert_array_equal(native.decode(str(compressed), dicom._TAGS), expected)


def test_a_decoder_that_crashes_or_hangs_costs_one_file(compressed, monkeypatch):
    """The process is killed as a crash would end it, and stopped as one that never answers."""
    native.decode(str(compressed), dicom._TAGS)
    child = native._idle.get_nowait()
    os.kill(child._process.pid, 9)
    child._process.wait()
    native._idle.put(child)
    assert "makes its decoder crash" in _why(compressed)
    native.decode(str(compressed), dicom._TAGS)

    child = native._idle.get_nowait()
    os.kill(child._process.pid, 19)  # SIGSTOP
    native._idle.put(child)
    monkeypatch.setattr(native, "_SECONDS", 0.3)
    assert "keeps its decoder busy" in _why(compressed)
    monkeypatch.setattr(native, "_SECONDS", 60)
    assert native.decode(str(compressed), dicom._TAGS).shape == (40, 48)


def test_volumes_that_promise_too_much(tmp_path):
    (tmp_path / "a").mkdir()
    rng = np.random.default_rng(0)
    whole = gzip.decompress(whole_nifti(rng, tmp_path))
    head = whole[:40] + struct.pack("<8h", 3, 32767, 32767, 32767, 1, 1, 1, 1) + whole[56:]
    (tmp_path / "a" / "a.nii.gz").write_bytes(gzip.compress(head))
    (tmp_path / "a" / "b.nii.gz").write_bytes(whole_nifti(rng, tmp_path))
    found = list(walk(f"nifti:{tmp_path}", np.shape, data_dir="", options=Options()).items)
    assert isinstance(found[0], Unreadable)
    assert "would need 6.55e+04 GiB of memory" in found[0].why
    assert not any(isinstance(item, Unreadable) for item in found[1:])


def test_an_npz_that_promises_too_much(tmp_path, strict):
    images = np.zeros((30, 1000, 1000), np.uint8)
    np.savez_compressed(tmp_path / "a.npz", images=images, labels=np.zeros(30, int))
    with pytest.raises(UserError, match=r"a\.npz would need 0.0279 GiB of memory"):
        read_source(f"npz:{tmp_path / 'a.npz'}", data_dir="", size=8, channels=1)


def test_links_and_paths_that_lead_elsewhere(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "set" / "a"
    folder.mkdir(parents=True)
    for i in range(3):
        (folder / f"{i}.png").write_bytes(whole_png(rng, tmp_path))
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    (folder / "up").symlink_to(tmp_path)  # a folder that holds itself
    (folder / "zero.png").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.png")
    found = walk(f"folder:{tmp_path / 'set'}", np.shape, data_dir="", options=Options())
    items = list(found.items)
    refused = [item.name for item in items if isinstance(item, Unreadable)]
    assert refused == ["a/gone.png", "a/loop.png"]
    assert len(items) == 5
    (tmp_path / "secret.png").write_bytes((folder / "0.png").read_bytes())
    for name in ("../secret.png", str(tmp_path / "secret.png"), "a/../../secret.png", "x" * 5000):
        (tmp_path / "t.csv").write_text(f"file,label\na,x\n{name},x\n")
        options = Options(labels=str(tmp_path / "t.csv"))
        with pytest.raises(UserError, match="1 of its rows match no image"):
            walk(f"folder:{tmp_path / 'set'}", np.shape, data_dir="", options=options)


def test_rescaled_to_infinity(tmp_path):
    pixels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    path = save_dicom(tmp_path / "a", pixels, RescaleSlope="1e308", RescaleIntercept="0")
    assert "not finite once rescaled" in _why(path)
