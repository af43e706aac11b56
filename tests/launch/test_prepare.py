"""Medical files from folder to records, as a user does it."""

import csv
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from data import record_writer, tables
from data.records import open_records
from launch import prepare, stage
from tests.dicom_files import save_dicom
from tests.launch import preparing, programs

NAMES = ("train", "val", "test")


def _prepare(tmp_path, spec, *flags):
    done = programs.run(
        "prepare", programs.TINY, f"--workdir={tmp_path / 'run'}", f"--config.data.source={spec}",
        "--config.data.size=16", "--config.data.real_per_class=0", *flags,
    )  # fmt: skip
    return done, tmp_path / "run" / "data"


def _parts(folder):
    parts = {name: open_records(folder, name) for name in NAMES}
    groups = [set(part.groups) for part in parts.values()]
    assert len(set.union(*groups)) == sum(map(len, groups))
    return parts


def test_dicom_with_a_table(tmp_path):
    rng = np.random.default_rng(0)
    values, rows = {}, []
    for patient in range(12):
        for view in range(2):
            name = f"scans/{patient:02d}-{view}"
            values[name] = rng.integers(0, 4096, (16, 16), dtype=np.uint16)
            save_dicom(
                tmp_path / name, values[name], WindowCenter=2048, WindowWidth=4096,
                PatientID=f"MRN{patient}Q",
            )  # fmt: skip
            rows.append({"file": name.removeprefix("scans/"), "label": "ab"[patient % 2]})
    broken = tmp_path / "scans" / "11-1"
    broken.write_bytes(broken.read_bytes()[:400])
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    flags = (f"--config.data.labels={tmp_path / 'labels.csv'}", "--config.data.salt=cellar-door")
    done, folder = _prepare(tmp_path, f"dicom:{tmp_path / 'scans'}", *flags)
    assert done.returncode == 0, done.stderr
    assert "1 of 24 files not read" in done.stdout

    assert list(tables.read_json(folder / "unreadable.json")) == ["11-1"]
    intensity = tables.read_parquet(folder / "intensity.parquet")
    assert len(intensity["id"]) == 23
    assert set(intensity["low"]) == {0}
    assert set(intensity["high"]) == {4095}
    parts = _parts(folder)
    assert sum(map(len, parts.values())) == 23
    for part in parts.values():
        assert part.dtype == np.uint16
        shown = part.read(np.arange(len(part)))[..., 0].astype(np.float64)
        for name, label, image in zip(part.ids, part.labels, shown, strict=True):
            number = name.removesuffix("#0")
            assert part.class_names[label] == "ab"[int(number[:2]) % 2]
            expected = values[f"scans/{number}"] / 4095 * 2 - 1
            # half a quantum of 16 bits, and what float32 rounds
            np.testing.assert_allclose(image, expected, atol=1 / 65535 + 1e-7)

    told = done.stdout.encode() + done.stderr.encode()
    told += b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    for secret in (b"Secret", b"MRN", b"cellar-door"):
        assert secret not in told
    again, _ = _prepare(tmp_path, f"dicom:{tmp_path / 'scans'}", *flags)
    assert "data: up to date" in again.stdout
    other, _ = _prepare(tmp_path, f"dicom:{tmp_path / 'scans'}", flags[0])
    assert other.returncode == 2
    assert "salt_digest" in other.stderr


def test_nifti_in_class_folders(tmp_path):
    rng = np.random.default_rng(0)
    for label in ("a", "b"):
        (tmp_path / "set" / label).mkdir(parents=True)
        for i in range(5):
            volume = rng.integers(0, 999, (16, 16, 4, 2), dtype=np.int16)
            volume[:, :, 0] = 7
            nib.save(nib.Nifti1Image(volume, np.eye(4)), tmp_path / "set" / label / f"{i}.nii.gz")
    done, folder = _prepare(tmp_path, f"nifti:{tmp_path / 'set'}")
    assert done.returncode == 0, done.stderr
    assert "10 blank slices left out" in done.stdout
    assert "10 files have several volumes; the first is read" in done.stdout
    assert sum(map(len, _parts(folder).values())) == 30
    facts = json.loads((folder / "stage.json").read_text())["facts"]
    assert facts["blank_slices"] == facts["first_volume_of_several"] == 10


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--config.data.axis=diagonal",), "choose from sagittal, coronal, axial"),
        (("--config.data.max_unreadable=1.5",), "max_unreadable=1.5"),
        ((), "3 of 6 files"),
    ],
)
def test_mistakes(tmp_path, flags, words):
    for i in range(6):
        path = save_dicom(tmp_path / "set" / "ab"[i % 2] / f"{i}", np.full((16, 16), i, np.uint16))
        if i < 3:
            path.write_bytes(path.read_bytes()[:300])
    done, folder = _prepare(tmp_path, f"dicom:{tmp_path / 'set'}", *flags)
    assert done.returncode == 2
    assert words in done.stderr.splitlines()[-1]
    assert (folder / "unreadable.json").exists() == (not flags)


# --- stopped and gone on with


@pytest.fixture(scope="module")
def pngs(tmp_path_factory):
    """64 files of two classes and odd sizes, one of them damaged."""
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("pngs")
    for i in range(64):
        path = root / "ab"[i % 2] / f"{i:02d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 10 + i % 5), dtype=np.uint8)).save(path)
    path.write_bytes(b"no image")
    return root


def _prepared(workdir, root, *flags) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.launch.preparing", str(workdir), f"folder:{root}", *flags],
        cwd=programs.ROOT, env=programs.environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode, done.stdout.splitlines()


def _files(folder) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "stage.json"}


@pytest.fixture(scope="module")
def straight(pngs, tmp_path_factory):
    """The data of one process that nobody disturbed, and its facts."""
    workdir = tmp_path_factory.mktemp("straight")
    code, _ = _prepared(workdir, pngs)
    assert code == 0
    return _files(workdir / "data"), stage.read(workdir, "data")["facts"]


@pytest.mark.parametrize("moment", ["read", "write"])
def test_kill_minus_nine_goes_on_to_the_same_bytes(pngs, straight, tmp_path, moment):
    code, lines = _prepared(tmp_path, pngs, "--workers=2", f"--kill={moment}")
    assert code == -signal.SIGKILL
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["stage.json"]
    assert [line for line in lines if line.startswith("read")][-1] == (
        f"read {preparing.KILLED_AFTER if moment == 'read' else 64}"
    )
    left = len(list((tmp_path / ".data.unfinished" / ".spool").glob("*.parquet")))
    assert left >= preparing.KILLED_AFTER
    code, lines = _prepared(tmp_path, pngs)
    assert code == 0
    assert sum(line.startswith("read") for line in lines) == 64 - left
    assert _files(tmp_path / "data") == straight[0]
    assert stage.read(tmp_path, "data")["facts"] == straight[1]
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


class _Killed(BaseException):
    """Stands for kill -9: from some change of the disk on, none is made any more."""


def _dying(patch: pytest.MonkeyPatch, after: int) -> "itertools.count[int]":
    """Lets this many changes of the disk pass and raises at all later ones; counts down."""
    left = itertools.count(after, -1)
    for name in ("replace", "rename", "unlink", "mkdir", "rmdir"):
        do = getattr(os, name)

        def change(*args, do=do, **kwargs):
            if next(left) <= 0:
                raise _Killed
            return do(*args, **kwargs)

        patch.setattr(os, name, change)
    return left


def test_killed_at_changes_of_the_disk_it_goes_on(pngs, tmp_path, monkeypatch):
    monkeypatch.setattr(record_writer, "SHARD_ROWS", 4)
    monkeypatch.setattr(stage, "_code", lambda: "")  # asks git, which takes its time
    monkeypatch.setattr(tables, "fsync", lambda path: None)  # no power fails here
    for path in sorted(pngs.rglob("*.png"))[:9] + sorted(pngs.rglob("*.png"))[-10:-1]:
        (tmp_path / "few" / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "few" / path.parent.name)
    config, workdir = preparing.config(f"folder:{tmp_path / 'few'}"), tmp_path / "run"
    with monkeypatch.context() as patch:
        left = _dying(patch, 10**6)
        prepare.run(config, workdir, False)
        changes = 10**6 - next(left)
    straight = _files(workdir / "data")
    shutil.rmtree(workdir)
    # Anywhere, and at each of the last, when the folders change their places.
    for after in [*range(0, changes - 60, 9), *range(changes - 60, changes)]:
        with monkeypatch.context() as patch:
            _dying(patch, after)
            with pytest.raises(_Killed):
                prepare.run(config, workdir, False)
        prepare.run(config, workdir, False)
        assert _files(workdir / "data") == straight, after
        assert [p.name for p in workdir.iterdir()] == ["data"], after
        shutil.rmtree(workdir)
