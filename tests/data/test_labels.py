import errno
import os
import pathlib
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from data import sources, tables, texts
from data.errors import UserError
from data.fingerprint import fingerprint, stamp
from data.sources import Options, entries, label_table, labels

from .conftest import read_source


@pytest.fixture
def images(tmp_path, rng):
    """Six images in two folders without meaning; returns the source's path."""
    for name in ("x/scan1.png", "x/scan2.png", "x/scan10.png", "y/1.png", "y/2.png", "y/3.png"):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (4, 4), dtype=np.uint8)).save(path)
    return tmp_path / "set"


@pytest.fixture
def opened(images, tmp_path):
    def make(text, **options):
        (tmp_path / "t.csv").write_text(text)
        options = Options(labels=str(tmp_path / "t.csv"), **options)
        return read_source(f"folder:{images}", data_dir="", size=4, channels=1, options=options)

    return make


WHOLE = "file,label\nx/scan1,10\nx/scan10.png,9\n./x/scan2.png,9\ny/,10\n"


def test_files_beginnings_and_folders(opened):
    records = opened(WHOLE).splits["all"]
    assert records.class_names == ("9", "10")
    names = dict(zip(records.ids.tolist(), records.labels.tolist(), strict=True))
    assert names == {
        "x/scan1.png": 1, "x/scan10.png": 0, "x/scan2.png": 0,
        "y/1.png": 1, "y/2.png": 1, "y/3.png": 1,
    }  # fmt: skip
    assert records.groups is None


def test_patients_sites_splits_and_missing_labels(opened):
    table = (
        "file,label,patient,split,site\nx/,a,Ann,train,Ulm\nx/scan2.png,,Bob,,Bonn\n"
        "y/1.png,b,Cid,train,\ny/2.png,b,Dan,valid,\ny/3.png,a,Dan,validation,Bonn\n"
    )
    source = opened(table, salt="s")
    assert {name: len(x) for name, x in source.splits.items()} == {"train": 4, "val": 2}
    train = source.splits["train"]
    groups = dict(zip(train.ids.tolist(), train.groups.tolist(), strict=True))
    assert groups["x/scan1.png"] == groups["x/scan10.png"] != groups["x/scan2.png"]
    assert not any(name in repr(source.splits["train"].groups) for name in ("Ann", "Bob", "Cid"))
    assert source.report.sites == {"Ulm": 2, "Bonn": 2}
    assert set(opened(table, salt="t").splits["train"].groups).isdisjoint(groups.values())


def test_unlabelled_rows_and_order_of_classes(opened, images):
    (images / "class_names.txt").write_text("sick\nhealthy\n")
    table = "file,label\nx/scan1.png,healthy\nx/scan10.png,sick\nx/scan2.png,\ny/,\n"
    records = opened(table).splits["all"]
    assert records.class_names == ("sick", "healthy")
    assert sorted(records.labels) == [-1, -1, -1, -1, 0, 1]
    with pytest.raises(UserError, match=r"class_names\.txt lacks 1 .* 'ill'"):
        opened(table.replace("sick", "ill"))


def test_parquet_is_csv(opened, images, tmp_path):
    columns = {"file": ["x/scan1", "x/scan10.png", "x/scan2.png", "y"], "label": [10, 9, 9, 10]}
    pq.write_table(pa.table(columns | {"site": [None] * 4}), tmp_path / "t.parquet")
    options = Options(labels=str(tmp_path / "t.parquet"))
    found = read_source(f"folder:{images}", data_dir="", size=4, channels=1, options=options)
    assert found.digest() == opened(WHOLE).digest()


def test_masks_are_no_images(opened):
    table = "file,label,mask\nx/scan1,a,y/1.png\nx/scan10,b,y/2.png\nx/scan2,b,y/3.png\n"
    assert len(opened(table).splits["all"]) == 3
    with pytest.raises(UserError, match=r"1 of its masks are missing .* 'y/4\.png'"):
        opened(table.replace("y/1.png", "y/4.png"))


def test_subgroups_and_masks_are_kept_and_nothing_else(images, tmp_path):
    """Other columns may say who somebody is."""
    (tmp_path / "t.csv").write_text(
        "file,label,sex,age_band,mask,slice_index,name\nx/scan1,a,f,40s,y/1.png,7,Ann\n"
        "x/scan10,b,m,50s,y/2.png,-2.5,Bob\nx/scan2,b,,,y/3.png,,Cid\n"
    )
    listing = sources.list_source(
        "folder", str(images), "", tmp_path, Options(labels=str(tmp_path / "t.csv"))
    )
    assert [dict(entry.columns)["name"] for entry in listing.entries] == ["Ann", "Bob", "Cid"]
    source = sources.open_source(
        f"folder:{images}", data_dir="", size=4, channels=1, spool=tmp_path / "spool",
        options=Options(labels=str(tmp_path / "t.csv")),
    )  # fmt: skip
    source.spool.write_originals(tmp_path / "known.parquet")
    # The writer keeps much of every group of rows, so there must not be one for each part.
    assert pq.ParquetFile(tmp_path / "known.parquet").num_row_groups == 1
    known = tables.read_parquet(tmp_path / "known.parquet")
    assert known["id"].tolist() == ["x/scan1.png", "x/scan10.png", "x/scan2.png"]
    assert known["sex"].tolist() == ["f", "m", ""]
    assert known["age_band"].tolist() == ["40s", "50s", ""]
    assert known["mask"].tolist() == ["y/1.png", "y/2.png", "y/3.png"]
    np.testing.assert_array_equal(known["slice_index"], [7, -2.5, np.nan])
    assert b"Ann" not in (tmp_path / "known.parquet").read_bytes()


def test_a_slice_index_that_is_no_number_is_named(images, tmp_path):
    table = "file,label,slice_index\nx/scan1,a,7\nx/scan10,b,8\nx/scan2,b,top\ny,b,9\n"
    (tmp_path / "t.csv").write_text(table)
    with pytest.raises(UserError, match=r"image 'x/scan2\.png' has slice_index 'top'"):
        sources.open_source(
            f"folder:{images}", data_dir="", size=4, channels=1, spool=tmp_path / "spool",
            options=Options(labels=str(tmp_path / "t.csv")),
        )  # fmt: skip


@pytest.mark.parametrize("block", [1, 4])
def test_blocks_of_rows_and_files_change_nothing(opened, monkeypatch, block):
    table = WHOLE.replace("y/,10", "y/1.png,10\ny/2,10\ny/3,9")
    expected = opened(table).digest()
    for module in (labels, label_table, entries, tables, texts):
        monkeypatch.setattr(module, "_BLOCK", block)
    monkeypatch.setattr(texts, "_RUN", block)
    assert opened(table).digest() == expected


def test_paths_of_one_hash_are_told_apart(opened, monkeypatch):
    expected = opened(WHOLE).digest()
    monkeypatch.setattr(texts, "hashes", lambda column: np.zeros(len(column), np.int64))
    assert opened(WHOLE).digest() == expected


def test_names_that_are_not_text_are_listed_as_unreadable(images):
    image = (images / "y" / "1.png").read_bytes()
    before = fingerprint(f"folder:{images}")
    for name in (b"y/\xe4.png", b"y/\xe5.png"):
        with open(bytes(images) + b"/" + name, "wb") as file:
            file.write(image)
    options = Options(max_unreadable=0.5)
    source = read_source(f"folder:{images}", data_dir="", size=4, channels=1, options=options)
    why = "is gone, or has a name that is not UTF-8; rename it"
    assert source.report.unreadable == {"y/%E4.png": why, "y/%E5.png": why}
    assert (source.report.files, len(source.splits["all"])) == (8, 6)
    assert fingerprint(f"folder:{images}") != before
    os.mkdir(bytes(images) + b"/\xe4")
    with pytest.raises(UserError, match=r"1 of its class folders .* not UTF-8, .*'%E4'; rename"):
        read_source(f"folder:{images}", data_dir="", size=4, channels=1)


@pytest.fixture
def closed(monkeypatch):
    """Has the system refuse to list folders named closed, and to look at files in them."""
    known = {name: getattr(os, name) for name in ("scandir", "stat")}

    def refusing(name):
        def call(path=".", **options):
            parts = pathlib.PurePath(str(path)).parts
            if "closed" in (parts[:-1] if name == "stat" else parts):
                raise PermissionError(errno.EACCES, "Permission denied", path)
            return known[name](path, **options)

        return call

    for name in known:
        monkeypatch.setattr(os, name, refusing(name))


def test_folders_that_cannot_be_listed_are_unreadable(images, opened, closed):
    before, begun = fingerprint(f"folder:{images}"), stamp(f"folder:{images}")
    (images / "y" / "closed").mkdir()
    options = Options(max_unreadable=0.5)
    source = read_source(f"folder:{images}", data_dir="", size=4, channels=1, options=options)
    why = "is a folder that can't be listed; mend its rights"
    assert source.report.unreadable == {"y/closed/": why}
    assert (source.report.files, len(source.splits["all"])) == (7, 6)
    assert opened(WHOLE, max_unreadable=0.5).report.unreadable == {"y/closed/": why}
    assert fingerprint(f"folder:{images}") == before  # until it can be read
    assert stamp(f"folder:{images}") != begun  # an entry more: other files in every part
    (images / "closed").mkdir()
    with pytest.raises(UserError, match=r"/closed can't be listed \(Permission denied\); mend"):
        read_source(f"folder:{images}", data_dir="", size=4, channels=1)


def test_what_rows_name_in_a_closed_folder_is_unreadable(images, opened, closed):
    (images / "closed").mkdir()
    assert opened(WHOLE).report.unreadable == {}  # of no row's images, as lost+found
    found = opened(WHOLE + "closed/1.png,9\n", max_unreadable=0.5).report
    assert (list(found.unreadable), found.files) == (["closed/1.png"], 7)


def test_a_class_that_a_split_lacks_is_told(images):
    for name in ("train/a", "train/b", "val/a"):
        shutil.copytree(images / "y", images / "split" / name)
    with pytest.raises(UserError, match=r"val/b holds no files .* class 'b' is empty: add some"):
        read_source(f"folder:{images / 'split'}", data_dir="", size=4, channels=1)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (WHOLE + "z/1.png,9\nz/2.png,9\n", r"2 of its rows match no image .* 'z/1\.png'; mend"),
        (WHOLE.replace("y/,10\n", ""), r"no row for 3 of the images .* 'y/1\.png'; add"),
        (WHOLE + "y/2.png,9\ny/3.png,9\n", r"gives 2 of the images .* two labels, .* 'y/2\.png'"),
        ("file,label\nz,9\n", r"1 of its rows match no image .* 'z'; mend"),
        (WHOLE.replace("label", "class"), r"no column 'label' \(it has file, class\)"),
        (WHOLE + ",10\n", "row 5 names no file"),
        ("", "no column 'file'"),
        ("file,label,split\nx,a,train\ny,b,\n", r"gives no split to 3 .* 'y/1\.png'"),
        ("file,label,split\nx,a,training\ny,b,\n", "has a split 'training'; use train"),
    ],
)
def test_tables_that_do_not_fit_are_explained(opened, table, words):
    with pytest.raises(UserError, match=words) as error:
        opened(table)
    assert "\n" not in str(error.value)


def test_tables_that_are_none(opened, images, tmp_path):
    spec = f"folder:{images}"
    (tmp_path / "t.parquet").write_text("no parquet")
    (tmp_path / "latin.csv").write_bytes(b"file,label\nx,\xe4\n")
    for name, words in (
        ("t.parquet", "is no readable table"),
        ("latin.csv", "is no readable table"),
        ("nowhere.csv", "does not exist"),
    ):
        with pytest.raises(UserError, match=words):
            read_source(
                spec, data_dir="", size=4, channels=1, options=Options(labels=str(tmp_path / name))
            )
    with pytest.raises(UserError, match=r"does not go with --config\.data\.source=npz:x"):
        read_source("npz:x", data_dir="", size=4, channels=1, options=Options(labels="t.csv"))


def test_fingerprint_follows_the_table(images, tmp_path):
    spec, table = f"folder:{images}", tmp_path / "t.csv"
    table.write_text(WHOLE)
    first = fingerprint(spec, str(table))
    assert first == fingerprint(spec, str(table)) != fingerprint(spec)
    table.write_text(WHOLE + "\n")
    assert fingerprint(spec, str(table)) != first
    with pytest.raises(UserError, match=r"labels=.*nowhere\.csv does not exist"):
        fingerprint(spec, str(tmp_path / "nowhere.csv"))
