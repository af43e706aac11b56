import json
import re

import numpy as np
import pytest
from PIL import Image

from benchmarks import loader
from configs import default
from data import records
from data.augment import NAMES
from data.errors import UserError
from launch import check_data, pictures
from tests.launch import programs


def test_every_augmentation_is_shown_beside_the_images_as_they_are(tmp_path):
    loader.write_images(tmp_path, 40, 16)
    done = programs.run("check_data", programs.TINY, f"--workdir={tmp_path}", "--augment")
    assert done.returncode == 0, done.stderr
    path = tmp_path / "data_check" / "augment.png"
    assert done.stdout.splitlines()[-1] == str(path)
    picture = np.asarray(Image.open(path))
    names = [name for name in NAMES if name != "colour"]
    assert picture.shape == ((len(names) + 1) * 65 - 1, 80 + 8 * 65 - 1)
    rows = [picture[top : top + 64, 80:] for top in range(0, len(picture), 65)]
    for name, row in zip(names, rows[1:], strict=True):
        assert (row != rows[0]).any(), name
    labels = [picture[top : top + 64, :80] for top in range(0, len(picture), 65)]
    assert all(label.max() > 128 for label in labels)


def test_rows_of_tiles_are_whole_and_in_order():
    first, second = np.random.default_rng(0).uniform(-1, 1, (2, 3, 32, 40, 3))
    picture = pictures.named_rows({"first": first, "second": second})
    assert picture.shape == (2 * 65 - 1, 80 + 3 * 81 - 1, 3)
    for top, row in ((0, first), (65, second)):
        for column, image in enumerate(row):
            left = 80 + column * 81
            shown = picture[top : top + 64, left : left + 80][::2, ::2]
            np.testing.assert_array_equal(shown, pictures.to_uint8(image))


def test_a_source_is_told_and_its_configuration_prepares_it(tmp_path):
    rng = np.random.default_rng(0)
    rows, images = ["file,label,patient,site,sex,split"], []
    (tmp_path / "scans").mkdir()
    for i in range(40):
        images.append(rng.integers(0, 256, (20, 24), dtype=np.uint8))
        image = images[30 if i == 39 else i]  # one twice, in another class and split
        Image.fromarray(image).save(tmp_path / "scans" / f"{i}.png")
        rows.append(
            f"{i}.png,{'ab'[i % 2]},<i>P{i // 2}</i>,<b>{'xy'[i // 20]}</b>,"
            f"{'mf'[i // 2 % 2]},{'train' if i < 32 else 'val' if i < 36 else 'test'}"
        )
    (tmp_path / "scans" / "40.png").write_bytes(b"nothing")
    rows.append("40.png,a,P1,,f,train")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    done = programs.run(
        "check_data", f"--source=folder:{tmp_path / 'scans'}", f"--workdir={tmp_path / 'run'}",
        f"--config.data.labels={tmp_path / 'labels.csv'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "run" / "data_check"
    assert done.stdout.splitlines()[-1] == str(folder / "index.html")
    assert "look: 1 of these pairs are in two splits." in done.stdout
    assert "look: 1 of 41 files can't be read: see the list." in done.stdout

    page = (folder / "index.html").read_text()
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert "<b>x" not in page
    assert "i&gt;P1" not in page  # patients
    assert "40.png" in page
    numbers = json.loads((folder / "check.json").read_text())
    assert numbers["images"] == 40
    assert list(numbers["unreadable"]) == ["40.png"]
    assert numbers["counts"]["rows"]["a"] == [[16, 16], [2, 2], [2, 2]]
    site, sex = numbers["subgroups"]
    assert (site["name"], sex["name"]) == ("site", "sex")
    assert sex["splits"] == ["train", "val", "test"]
    assert sex["classes"] == ["a", "b", "all classes"]
    assert sex["rows"] == {key: [[8, 8, 16], [1, 1, 2], [1, 1, 2]] for key in "fm"}
    (pair,) = numbers["duplicates"]["listed"]
    assert (pair["a"], pair["b"], pair["distance"]) == ("30.png", "39.png", 0)
    assert pair["across_splits"]
    assert pair["two_labels"]

    said = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))
    for words in (
        "1 of these pairs are under two labels", "train val test", "a 16 (16) 2 (2) 2 (2)",
        "f 8 8 16 1 1 2 1 1 2", "uint8 40", "Pixels by value, uint8", "20 x 24 x 1 40",
        "Images by width over height", "same pixels two splits, two labels",
        "40.png is no readable image", "config.data.source",
    ):  # fmt: skip
        assert words in said, words
    assert page.count("<svg") >= 2
    assert (folder / "config.py").read_text().splitlines()[0].strip('"')[:20] in said

    prepared = programs.run(
        "prepare", f"--config={folder / 'config.py'}", f"--workdir={tmp_path / 'run'}"
    )
    assert prepared.returncode == 0, prepared.stderr
    assert records.open_records(tmp_path / "run" / "data", "train").image_shape == (16, 16, 1)


@pytest.mark.parametrize(
    ("spec", "words"),
    [("nonsense", "--source=nonsense is none of"), ("folder:/nowhere", "/nowhere is no folder")],
)
def test_sources_that_are_none(tmp_path, spec, words):
    with pytest.raises(UserError, match=words):
        check_data.look(spec, default.get_config().data, tmp_path)
    assert not list(tmp_path.iterdir())


def test_augment_needs_a_work_directory():
    done = programs.run("check_data", "--augment")
    assert done.returncode == 2
    assert "--workdir is missing" in done.stderr.splitlines()[-1]
