import csv
import json

import numpy as np
import pydicom
import pytest
from absl import flags
from absl.testing import flagsaver

import launch.export
from data import marks, pools, tables
from data.errors import UserError
from launch import pictures
from tests.launch import finished, programs


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    return finished.make(workdir, finished.make_config(), dtype=np.uint16)


def test_what_a_filter_kept_as_dicom_and_no_way_back_to_a_test_split(run, tmp_path):
    workdir = f"--workdir={run}"
    done = programs.run("export", workdir, "--kept_by=vrn", "--format=dicom")
    assert done.returncode == 0, done.stderr
    folder = run / "export" / "pools-second-vrn-dicom"
    assert done.stdout.splitlines()[-1] == str(folder)

    pool = pools.open_pool(run / "pools" / "second")
    scores = tables.read_parquet(run / "filter" / "scores.parquet")
    kept = scores["sample_id"][(scores["filter"] == "vrn") & scores["kept"]]
    files = {path.stem: path for path in folder.rglob("*.dcm")}
    assert sorted(files) == sorted(kept)
    rows = {name: i for i, name in enumerate(pool.ids)}
    for name, path in files.items():
        pixels = pydicom.dcmread(path).pixel_array
        np.testing.assert_array_equal(pixels, pool.read_raw(np.array([rows[name]]))[0, ..., 0])
        assert path.parent.name == pool.class_names[pool.labels[rows[name]]]
    with (folder / "labels.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(files)
    assert json.loads((folder / "export.json").read_text())["images"] == len(files)

    source = f"--config.data.source=dicom:{folder}"
    refused = programs.run("prepare", programs.TINY, f"--workdir={tmp_path}", source)
    assert refused.returncode == 2
    assert f"{len(files)} images are marked as synthetic" in refused.stderr.splitlines()[-1]


@pytest.fixture
def export(run):
    """Runs the program in this process."""
    flags.FLAGS.mark_as_parsed()

    def call(**values):
        with flagsaver.flagsaver(**values):
            return launch.export.run(None, run, False)

    return call


def test_real_images_and_an_export_that_is_up_to_date(run, export, capsys):
    folder = export(what="data")
    assert folder == run / "export" / "data-png"
    assert not any(marks.of_file(path, folder) for path in folder.rglob("*.png"))
    assert len(list((folder / "train").rglob("*.png"))) == 100
    assert "500 images" in capsys.readouterr().out
    assert export(what="data") == folder
    assert "up to date" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kept_by": "nobody"}, "choose from .*random.*vrn"),
        ({"kept_by": "vrn", "what": "data"}, "needs --what=pools/second"),
    ],
)
def test_mistakes(export, values, words):
    with pytest.raises(UserError, match=words):
        export(**values)


def test_single_pictures_of_synthetic_images_are_marked(tmp_path):
    for synthetic in (False, True):
        path = tmp_path / f"{synthetic}.png"
        pictures.save_png(path, np.zeros((4, 4, 1), np.uint8), synthetic=synthetic)
        assert marks.of_file(path, tmp_path) == synthetic
