"""Synthetic images never enter a val or test split, whichever way they come."""

import csv
import dataclasses
import json
import pathlib
import shutil

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from data import marks, pools, shards
from data.errors import UserError
from data.export import FORMATS, About, write
from data.records import ArrayRecords, open_records, write_records
from data.sources import Options
from data.splits import make_splits
from tests.data.conftest import make_records, read_source
from tests.dicom_files import save_dicom

SAMPLE = pools.sample_id("0123456789abcdef" * 4, 1, 7)
SOURCES = {"png": "folder", "npy": "folder", "nifti": "nifti", "dicom": "dicom"}


def _open(spec: str, **options):
    return read_source(spec, data_dir="", size=16, channels=1, options=Options(**options))


def _split(source):
    return make_splits(
        source, val_fraction=0.25, test_fraction=0.25, real_per_class=0, unlabelled=-1, seed=0
    )


@pytest.fixture
def exported(tmp_path):
    """Makes an export of 12 images of two classes in one format."""

    def export(kind: str, synthetic: bool = True) -> pathlib.Path:
        rng = np.random.default_rng(synthetic)
        images = rng.integers(0, 65535, (12, 16, 16, 1), dtype=np.uint16)
        made = ArrayRecords(images, np.arange(12) % 2, [str(i) for i in range(12)], ["a", "b"])

        def place(row: int) -> tuple[pathlib.PurePath, About]:
            about = About(
                name=f"n{synthetic:d}{row}", class_name="ab"[row % 2], synthetic=synthetic,
                facts={}, owner="" if synthetic else f"p{row}", group="g", low=np.nan, high=np.nan,
                software="VRN",
            )  # fmt: skip
            return pathlib.PurePath(about.class_name, about.name), about

        folder = tmp_path / f"{kind}{synthetic:d}"
        parts = [(made, np.arange(12), place)]
        write(folder, parts, kind=kind, bits=16, facts={"synthetic": synthetic})
        return folder

    return export


@pytest.mark.parametrize("kind", FORMATS)
def test_an_export_is_refused_as_a_source(exported, kind):
    with pytest.raises(UserError, match=r"12 images are marked as synthetic.*synthetic=train"):
        _open(f"{SOURCES[kind]}:{exported(kind)}")


@pytest.mark.parametrize("kind", FORMATS)
def test_single_files_among_real_ones(exported, kind, tmp_path):
    """Copied by hand into the folders of a real set, under other names."""
    real, fake = exported(kind, False), exported(kind)
    (real / "export.json").unlink()
    for name in ("a", "b"):
        for i, file in enumerate(sorted((fake / name).glob("*"))):
            if not file.name.endswith(".json"):
                shutil.copy(file, real / name / f"x{i}{FORMATS[kind].SUFFIX}")
                if kind == "npy":
                    sidecar = file.with_name(file.name + ".json")
                    shutil.copy(sidecar, real / name / f"x{i}.npy.json")
    spec = f"{SOURCES[kind]}:{real}"
    with pytest.raises(UserError, match="12 images are marked as synthetic"):
        _open(spec)
    made = _split(_open(spec, synthetic="train"))
    assert len(made.imported) == 12
    assert marks.marked(made.imported.ids).all()
    assert len(made.train) == 12 - len(made.val) - len(made.test)
    for part in (made.train, made.unlabelled, made.val, made.test):
        assert not marks.marked(part.ids).any()
    parts = {"train": made.train, "val": made.val, "imported": made.imported}
    write_records(tmp_path / "data", parts)
    for split, part in parts.items():
        stored = shards.open_split(tmp_path / "data", split).read(np.arange(len(part)))
        assert {bool(row["synthetic"]) for row in stored} == {split == "imported"}
    with pytest.raises(UserError, match="'val' split would hold synthetic images"):
        write_records(tmp_path / "other", {"val": made.imported})


def test_sets_that_mix_real_and_synthetic_images_are_refused(exported):
    real, fake = exported("png", False), exported("png")
    for name in ("a", "b"):
        for i, file in enumerate(sorted((fake / name).glob("*"))):
            shutil.copy(file, real / name / f"x{i}.png")
    made = _split(_open(f"folder:{real}", synthetic="train"))
    for name, words in {
        "train": "'train' split would hold synthetic images, such as 'a/x0.png'",
        "unlabelled": "'unlabelled' split would hold synthetic images",
        "val": "'val' split would hold synthetic images",
        "test": "'test' split would hold synthetic images",
    }.items():
        with pytest.raises(UserError, match=words):
            dataclasses.replace(made, **{name: made.imported})
    with pytest.raises(UserError, match="would hold real images"):
        dataclasses.replace(made, imported=made.train)
    one_class = made.imported.subset(made.imported.labels == 1)
    with pytest.raises(UserError, match="class 'a' has no synthetic images"):
        dataclasses.replace(made, imported=one_class)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("split", ["val", "test"])
def test_a_split_of_ones_own_cannot_hold_them_on_any_terms(exported, kind, split, tmp_path):
    root = tmp_path / "set"
    shutil.copytree(exported(kind, False), root / "train")
    shutil.copytree(exported(kind), root / split)
    for policy in marks.POLICIES:
        with pytest.raises(UserError, match=rf"12 images .* in the split '{split}'; validate"):
            _open(f"{SOURCES[kind]}:{root}", synthetic=policy)


def test_a_renamed_sample_of_a_pool_keeps_its_mark_in_the_file(tmp_path):
    for i in range(4):
        (tmp_path / "set" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 16), i).save(tmp_path / "set" / "ab"[i % 2] / f"{i}.png")
    assert len(_open(f"folder:{tmp_path / 'set'}").splits["all"]) == 4
    Image.new("L", (16, 16), 9).save(tmp_path / "set" / "a" / "0123456789ab-0-17.png")
    with pytest.raises(UserError, match="1 images are marked as synthetic"):
        _open(f"folder:{tmp_path / 'set'}")


def test_chunks_behind_the_pixels_count(tmp_path):
    """Some programs write text after the pixels."""
    Image.new("L", (16, 16)).save(tmp_path / "a.png")
    plain = (tmp_path / "a.png").read_bytes()
    assert not marks.of_file(tmp_path / "a.png", tmp_path)
    info = Image.new("L", (1, 1))
    text = PngInfo()
    text.add_text("Synthetic", "yes")
    info.save(tmp_path / "b.png", pnginfo=text)
    content = (tmp_path / "b.png").read_bytes()
    start = content.index(b"tEXt") - 4
    chunk = content[start : start + 12 + int.from_bytes(content[start : start + 4], "big")]
    (tmp_path / "a.png").write_bytes(plain[:-12] + chunk + plain[-12:])
    assert Image.open(tmp_path / "a.png").text == {"Synthetic": "yes"}
    assert marks.of_file(tmp_path / "a.png", tmp_path)


def test_dicom_of_other_makers(tmp_path, rng):
    for i in range(4):
        pixels = rng.integers(0, 4096, (16, 16), dtype=np.uint16)
        path = tmp_path / "set" / "ab"[i % 2] / str(i)
        save_dicom(path, pixels, **({"SyntheticData": "YES"} if i == 3 else {}))
    with pytest.raises(UserError, match="1 images are marked as synthetic"):
        _open(f"dicom:{tmp_path / 'set'}")


@pytest.mark.parametrize(
    "syntax", ["ImplicitVRLittleEndian", "ExplicitVRBigEndian", "DeflatedExplicitVRLittleEndian"]
)
def test_dicom_of_other_syntaxes(tmp_path, rng, syntax):
    pixels = rng.integers(0, 255, (16, 16), dtype=np.uint8)
    for value in ("YES", "NO"):
        path = save_dicom(tmp_path / "a.dcm", pixels, bits=8, SyntheticData=value)
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = getattr(pydicom.uid, syntax)
        dataset.set_original_encoding(syntax.startswith("I"), "Big" not in syntax)
        pydicom.dcmwrite(path, dataset)
        assert pydicom.dcmread(path).SyntheticData == value
        assert marks.of_file(path, tmp_path) == (value == "YES")


def test_a_column_of_the_table_and_a_key_of_an_npz(tmp_path, rng):
    images = rng.integers(0, 255, (6, 16, 16), dtype=np.uint8)
    (tmp_path / "set").mkdir()
    with (tmp_path / "t.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "label", "synthetic"))
        for i, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / "set" / f"{i}.png")
            writer.writerow((f"{i}.png", "ab"[i % 2], "True" if i > 3 else "no"))
    with pytest.raises(UserError, match="2 images are marked as synthetic"):
        _open(f"folder:{tmp_path / 'set'}", labels=str(tmp_path / "t.csv"))
    labels = np.arange(6) % 2
    np.savez(tmp_path / "a.npz", images=images, labels=labels, synthetic=labels > 0)
    with pytest.raises(UserError, match="3 images are marked as synthetic"):
        _open(f"npz:{tmp_path / 'a.npz'}")
    arrays = {"train_images": images, "train_labels": labels}
    arrays |= {"test_images": images[:4], "test_labels": labels[:4], "test_synthetic": True}
    np.savez(tmp_path / "b.npz", **arrays)
    with pytest.raises(UserError, match="in the split 'test'"):
        _open(f"npz:{tmp_path / 'b.npz'}", synthetic="train")


def test_shards_of_a_pool_renamed_to_a_split_are_refused(tmp_path):
    """As if someone had copied the files of a pool and edited its metadata."""
    write_records(tmp_path / "a", {"train": make_records(synthetic=True)})
    for file in tmp_path.joinpath("a").iterdir():
        target = file.with_name(file.name.replace("-train.", "-val."))
        file.rename(target)
        if target.suffix == ".json":
            text = target.read_text().replace('"train"', '"val"').replace("-train.", "-val.")
            target.write_text(text)
    with pytest.raises(UserError, match="'val' split would hold synthetic images"):
        open_records(tmp_path / "a", "val")


def test_only_synthetic_images_are_no_training_set(exported):
    with pytest.raises(UserError, match="too few"):
        _split(_open(f"folder:{exported('png')}", synthetic="train"))


@pytest.mark.parametrize(
    ("kind", "again", "known"),
    [
        ("png", lambda old, new: Image.open(old).save(new / "x.png"), False),
        ("png", lambda old, new: Image.open(old).save(new / f"{SAMPLE}.jpg"), True),
        ("nifti", lambda old, new: nib.save(nib.load(old), new / "x.nii.gz"), True),
        ("nifti", lambda old, new: nib.save(_bare(nib.load(old)), new / "x.nii"), False),
        ("dicom", lambda old, new: pydicom.dcmread(old).save_as(new / "x"), True),
        ("dicom", lambda old, new: _compressed(old).save_as(new / "x.dcm"), True),
        ("npy", lambda old, new: np.save(new / "x.npy", np.load(old)), False),
    ],
)  # fmt: skip
def test_what_other_programs_save_again(tmp_path, kind, again, known):
    """Which marks are left, as docs/data.md says."""
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 1), dtype=np.uint8)
    about = About(
        name=SAMPLE, class_name="a", synthetic=True, facts={}, owner="", group="g", low=np.nan,
        high=np.nan, software="VRN",
    )  # fmt: skip
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir(), new.mkdir()
    path = old / f"{SAMPLE}{FORMATS[kind].SUFFIX}"
    FORMATS[kind].write(path, image, about, 8)
    assert marks.of_file(path, old)
    again(path, new)
    (made,) = new.iterdir()
    assert marks.of_file(made, new) == known


def _bare(volume: nib.Nifti1Image) -> nib.Nifti1Image:
    return nib.Nifti1Image(np.asarray(volume.dataobj), volume.affine)


def _compressed(path: pathlib.Path) -> pydicom.Dataset:
    dataset = pydicom.dcmread(path)
    dataset.compress(pydicom.uid.RLELossless)
    return dataset


def test_damaged_files_bear_no_mark(tmp_path):
    for name, content in (
        ("a.png", b"\x89PNG\r\n\x1a\n\xff\xff\xff\xfftEXt"), ("b.dcm", bytes(128) + b"DICM\xff"),
        ("c.nii.gz", b"\x1f\x8b\x00"), ("d.npy", b""),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(content)
        assert not marks.of_file(tmp_path / name, tmp_path)
    (tmp_path / "d.npy.json").write_text(json.dumps([]))
    assert not marks.of_file(tmp_path / "d.npy", tmp_path)
