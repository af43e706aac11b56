"""Medical files from folder to records, as a user does it."""

import csv
import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from data import marks, preprocess, tables
from data.errors import UserError
from data.records import ArrayRecords, open_records, write_records
from launch import pictures, prepare, stage
from tests.dicom_files import save_dicom
from tests.launch import programs

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
    known = tables.read_parquet(folder / "intensity.parquet")
    frames = [float(name.split("#")[1]) for name in known["id"].tolist()]
    np.testing.assert_allclose(known["slice_index"], frames)  # mm, of slices of 1 mm


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


# --- what the files knew, and steps


@pytest.fixture
def scans(tmp_path):
    """Values of 12 made CT slices of 24 x 16 pixels, in class folders."""
    rng = np.random.default_rng(0)
    values = {}
    for i in range(12):
        # Every scan has a range of its own, and the widest is a test image.
        least, most = (0, 4096) if i == 8 else (60 + 10 * i, 4000 - 150 * i)
        stored = rng.integers(least, most, (24, 16), dtype=np.uint16)
        name = f"{'ab'[i % 2]}/{i:02d}"
        save_dicom(
            tmp_path / "scans" / name, stored, PatientID=f"P{i}", RescaleSlope=1,
            RescaleIntercept=-1024, WindowCenter=50, WindowWidth=350, PixelSpacing=[0.5, 0.75],
            SliceThickness=3,
        )  # fmt: skip
        values[f"{name}#0"] = stored.astype(np.float64) - 1024
    return values


def test_records_keep_what_the_files_knew(scans, tmp_path):
    done, folder = _prepare(tmp_path, f"dicom:{tmp_path / 'scans'}")
    assert done.returncode == 0, done.stderr
    known = tables.read_parquet(folder / "intensity.parquet")
    assert sorted(known["id"]) == sorted(scans)
    for column, value in {
        "bits": 12, "height": 24, "width": 16, "channels": 1, "spacing_slice": 3,
        "spacing_row": 0.5, "spacing_column": 0.75, "window_low": 50 - 0.5 - 349 / 2,
        "window_high": 50 - 0.5 + 349 / 2, "low": 50 - 0.5 - 349 / 2,
    }.items():  # fmt: skip
        assert set(known[column]) == {value}, column
    assert np.isnan(known["slice_index"]).all()  # the files do not say where they lie
    for i, name in enumerate(known["id"]):
        assert known["minimum"][i] == scans[name].min()
        assert known["maximum"][i] == scans[name].max()


@pytest.mark.parametrize("scale", ["window(40, 400)", "scale(image)", "scale(dataset)"])
def test_steps_and_their_way_back(scans, tmp_path, scale):
    steps = (scale, "centre(16)", "resize")
    done, folder = _prepare(
        tmp_path, f"dicom:{tmp_path / 'scans'}", f"--config.data.preprocess={steps!r}"
    )
    assert done.returncode == 0, done.stderr
    assert stage.read(tmp_path / "run", "data")["config"]["preprocess"] == list(steps)
    table = tables.read_parquet(folder / "intensity.parquet")
    columns = [table[x] for x in ("id", "low", "high", "undo")]
    known = {row[0]: row[1:] for row in zip(*columns, strict=True)}
    parts = _parts(folder)
    trained = np.stack([scans[name] for name in parts["train"].ids])
    every = np.stack(list(scans.values()))
    if scale == "scale(dataset)":  # else a range that knows val and test would pass
        assert (trained.min(), trained.max()) != (every.min(), every.max())
    for part in parts.values():
        assert part.dtype == np.uint16
        for name, pixels in zip(part.ids, part.images, strict=True):
            low, high, undo = known[name]
            values = scans[name]
            ends = {
                "window(40, 400)": (-160, 240),
                "scale(image)": (values.min(), values.max()),
                "scale(dataset)": (trained.min(), trained.max()),
            }[scale]
            np.testing.assert_allclose((low, high), ends, atol=0.04)
            corner = json.loads(undo)[1]["corner"][0]
            assert json.loads(undo)[1]["corner"][1] in (-1, 0, 1)
            back = preprocess.undo(preprocess.parse(steps, 16), pixels, undo, low, high)[..., 0]
            rows, columns = slice(corner, corner + 16), slice(1, 15)
            expected = np.clip(values, low, high)[rows, columns]
            # half a quantum of 16 bits, of the file's range and of the steps'
            np.testing.assert_allclose(back[rows, columns], expected, atol=2 * 4095 / 65535)
            assert back.shape == (24, 16)


def test_any_number_of_channels_and_a_kept_aspect(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 8, 24, 5), dtype=np.uint8)
    np.savez(tmp_path / "bands.npz", images=images, labels=np.arange(12) % 2)
    done, folder = _prepare(
        tmp_path, f"npz:{tmp_path / 'bands.npz'}", "--config.data.channels=5",
        "--config.data.preprocess=('resize(pad)',)",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    train = open_records(folder, "train")
    assert train.image_shape == (16, 16, 5)
    assert not train.images[:, :5].any()  # 8 rows of 24, at 16 pixels: black beside 5.3 of them
    assert not train.images[:, -5:].any()
    for name, image in zip(train.ids, train.images, strict=True):
        whole = images[int(name.removeprefix("all-"))]
        np.testing.assert_allclose(image[6:10].mean((0, 1)), whole.mean((0, 1)), atol=25)


# --- splits by file and by site


def test_splits_of_another_run(tmp_path):
    rng = np.random.default_rng(0)
    lines = ["file,label,patient,site"]
    (tmp_path / "set").mkdir()
    for i in range(60):
        pixels = rng.integers(0, 256, (16, 16), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "set" / f"{i:02d}.png")
        lines.append(f"{i:02d}.png,{'ab'[i % 2]},p{i // 2 % 20},{'xy'[i // 2 % 20 < 6]}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    spec, table = f"folder:{tmp_path / 'set'}", f"--config.data.labels={tmp_path / 'labels.csv'}"
    flags = ("--config.data.folds=4", "--config.data.fold=1")
    done, folder = _prepare(tmp_path, spec, table, *flags)
    assert done.returncode == 0, done.stderr
    facts = stage.read(tmp_path / "run", "data")["facts"]
    known = tables.read_parquet(folder / "intensity.parquet")
    sites = dict(zip(known["id"], known["site"], strict=True))
    # 60 images in 4 folds, 24 of them of site y, in patients of 2 or 4
    test = [sites[name] for name in open_records(folder, "test").ids]
    assert abs(len(test) - 15) <= 2
    assert abs(test.count("y") - 6) <= 2
    given = tmp_path / "given.parquet"
    shutil.copy(folder / "splits.parquet", given)
    shutil.rmtree(tmp_path / "run")
    done, folder = _prepare(tmp_path, spec, table, f"--config.data.splits_file={given}")
    assert done.returncode == 0, done.stderr
    assert stage.read(tmp_path / "run", "data")["facts"] == facts
    assert (folder / "splits.parquet").read_bytes() == given.read_bytes()
    done, _ = _prepare(tmp_path, spec, table)
    assert done.returncode == 2
    assert "splits_digest" in done.stderr


# --- synthetic images of the source


def _with_synthetic(root):
    """20 real PNG files of two classes and 6 marked ones in the same folders."""
    rng = np.random.default_rng(0)
    for i in range(26):
        path = root / "ab"[i % 2] / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = rng.integers(0, 256, (16, 16, 1), dtype=np.uint8)
        pictures.save_png(path, picture, synthetic=i >= 20)
    return root


def test_synthetic_images_of_the_source_are_kept_apart(tmp_path):
    spec = f"folder:{_with_synthetic(tmp_path / 'set')}"
    train = "--config.data.synthetic=train"
    for alone in (train, "--config.target.arms=('real', 'imported')"):
        done, _ = _prepare(tmp_path, spec, alone)
        assert done.returncode == 2
        assert "go together" in done.stderr.splitlines()[-1]
    done, folder = _prepare(tmp_path, spec, train, "--config.target.arms=('real', 'imported')")
    assert done.returncode == 0, done.stderr
    assert "data: imported: a 3, b 3" in done.stdout
    parts = {name: prepare.open_split(tmp_path / "run", name) for name in (*NAMES, "imported")}
    assert {name: part.synthetic for name, part in parts.items()} == {
        "train": False, "val": False, "test": False, "imported": True
    }  # fmt: skip
    assert sum(len(parts[name]) for name in NAMES) == 20
    listed = tables.read_parquet(folder / "splits.parquet")
    assert sorted(listed["id"][listed["split"] == "imported"]) == sorted(parts["imported"].ids)

    exported = tmp_path / "exported"
    done = programs.run(
        "export", f"--workdir={tmp_path / 'run'}", "--what=data", f"--to={exported}"
    )
    assert done.returncode == 0, done.stderr
    assert sorted(x.name for x in exported.iterdir() if x.is_dir()) == sorted(NAMES)
    marked = [x for x in exported.rglob("*.png") if marks.of_file(x, exported)]
    assert len(marked) == 6
    assert {x.parent.parent.name for x in marked} == {"train"}


def test_a_training_set_with_synthetic_images_is_not_opened_as_real(tmp_path, monkeypatch):
    images, ids = np.zeros((2, 16, 16, 1), np.uint8), ["a", "synthetic:b"]
    mixed = ArrayRecords(images, np.arange(2), ids, ("a", "b"))
    write_records(tmp_path / "data", {"train": mixed})
    monkeypatch.setattr(stage, "require", lambda workdir, name: None)
    with pytest.raises(UserError, match="synthetic images among those of 'train'"):
        prepare.open_split(tmp_path, "train")


def test_masks_are_records_of_the_same_splits(tmp_path):
    """Each of its image, and nothing else is left there."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 16, 16), dtype=np.uint8)
    masks = (pixels > 127).astype(np.uint8)
    np.savez(tmp_path / "a.npz", images=pixels, labels=np.arange(40) % 2, masks=masks)
    done, folder = _prepare(tmp_path, f"npz:{tmp_path / 'a.npz'}")
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (folder / "masks").iterdir())
    assert not [name for name in names if name.startswith(".")]
    counts = []
    for split in NAMES:
        real = prepare.open_split(tmp_path / "run", split)
        found = prepare.open_masks(tmp_path / "run", split)
        assert found.ids.tolist() == real.ids.tolist()
        np.testing.assert_array_equal(found.images, (real.images > 127).astype(np.uint8))
        np.testing.assert_array_equal(found.labels, real.labels)
        counts.append(f"{split} {len(found)}")
    assert f"data: masks: {', '.join(counts)}\n" in done.stdout
    assert prepare.open_masks(tmp_path / "run", "imported") is None
