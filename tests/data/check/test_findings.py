import csv
import pathlib

import numpy as np
import pytest
from PIL import Image
from scipy.stats import contingency

from data.check import findings, survey
from data.check.findings import LOOK, STOP
from data.sources.raw import Options


def _survey(spec: str, **options) -> survey.Survey:
    return survey.survey(spec, data_dir="", options=Options(**options))


def _said(seen: survey.Survey, max_unreadable: float = 0.1) -> dict[str, str]:
    """Sentence to level."""
    found = findings.doubles(seen)
    return {x.text: x.level for x in findings.findings(seen, found, max_unreadable)}


def _says(said: dict[str, str], level: str, words: str) -> None:
    assert [x for x in said if words in x], said
    assert {said[x] for x in said if words in x} == {level}


@pytest.fixture
def folder(tmp_path, rng) -> pathlib.Path:
    """Two splits of two classes with twelve different pictures each."""
    for split in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / "set" / split / name).mkdir(parents=True)
            for i in range(12):
                image = Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8))
                image.save(tmp_path / "set" / split / name / f"{i}.png")
    return tmp_path / "set"


def test_a_faultless_folder(folder):
    said = _said(_survey(f"folder:{folder}"))
    assert STOP not in said.values()
    assert [x for x, level in said.items() if level == LOOK] == [
        x for x in said if x.startswith("Patients are not known")
    ]


def test_planted_faults_are_all_named(folder, rng):
    train, val = folder / "train", folder / "val"
    (val / "b" / "0.png").write_bytes((train / "a" / "3.png").read_bytes())
    again = Image.open(train / "a" / "5.png").point(lambda v: v * 0.8 + 10)
    again.save(val / "a" / "4.png")
    Image.new("L", (16, 16), 77).save(train / "b" / "1.png")
    Image.fromarray(rng.integers(0, 256, (16, 40), dtype=np.uint8)).save(train / "b" / "2.png")
    (val / "a" / "9.png").write_bytes((val / "a" / "9.png").read_bytes()[:60])
    for i in range(5, 12):
        (val / "b" / f"{i}.png").unlink()
    seen = _survey(f"folder:{folder}")
    said = _said(seen)
    _says(said, LOOK, "1 of 41 files can't be read")
    _says(said, LOOK, "1 pairs of 2 images have the same pixels")
    _says(said, LOOK, "1 pairs of 2 images have nearly the same pixels")
    _says(said, LOOK, "of these pairs are in two splits")
    _says(said, LOOK, "1 of these pairs are under two labels")
    _says(said, LOOK, "1 images are blank")
    _says(said, LOOK, "Aspect ratios go from 1.00 to 2.50")
    _says(said, LOOK, "Class 'b' has 5 images only in split 'val'")
    assert list(seen.unreadable) == ["val/a/9.png"]
    _says(_said(seen, 0.01), STOP, "1 of 41 files can't be read")
    worst = findings.doubles(seen)
    first = worst.ranked(1)[0]
    names = {seen.ids[worst.pairs.a[first]], seen.ids[worst.pairs.b[first]]}
    assert names == {"train/a/3.png", "val/b/0.png"}


def test_patients_and_columns_of_a_table(folder, tmp_path):
    rows = []
    for i, file in enumerate(sorted(folder.rglob("*.png"))):
        split, name, _ = file.relative_to(folder).parts
        rows.append({
            "file": str(file.relative_to(folder)), "label": name, "patient": f"p{i % 23}",
            "split": split, "site": "east" if name == "a" else "west", "sex": "fm"[i % 2],
            "who": f"Name{i}",
        })  # fmt: skip
    table = tmp_path / "t.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    seen = _survey(f"folder:{folder}", labels=str(table), salt="s")
    assert list(findings.shown_columns(seen)) == ["site", "sex"]
    said = _said(seen)
    _says(said, STOP, "23 patients (or groups) are in several splits")
    _says(said, LOOK, "Site tells the class (Cramér's V 1.00)")
    assert not [x for x in said if x.startswith("Sex")]
    assert not [x for x in said if "Name" in x]
    assert "p3" not in seen.groups


def test_values_and_types(tmp_path, rng):
    images = rng.integers(0, 4096, (20, 8, 8), dtype=np.uint16)
    labels = np.arange(20) % 2
    np.savez(tmp_path / "a.npz", images=images, labels=labels, class_names=["a", "b", "c"])
    said = _said(_survey(f"npz:{tmp_path / 'a.npz'}"))
    _says(said, LOOK, "The brightest uint16 pixel of all is 40")
    _says(said, STOP, "Class 'c' has no images")
    np.savez(tmp_path / "b.npz", images=images.astype(np.int64), labels=labels)
    _says(_said(_survey(f"npz:{tmp_path / 'b.npz'}")), STOP, "Pixels are int64")
    broken = images.astype(np.float32)
    broken[3, 2, 1] = np.nan
    np.savez(tmp_path / "c.npz", images=broken, labels=labels)
    said = _said(_survey(f"npz:{tmp_path / 'c.npz'}"))
    _says(said, STOP, "1 images hold NaN")


def test_association_is_cramers_v(rng):
    """For many images the correction vanishes and SciPy's value is left."""
    labels = rng.integers(0, 3, 40_000)
    column = np.where(rng.random(40_000) < 0.4, labels, rng.integers(0, 3, 40_000))
    table = findings.crosstab(column, labels)[2]
    plain = contingency.association(table, method="cramer")
    assert 0.3 < plain < 0.5
    assert findings.association(column, labels) == pytest.approx(plain, abs=1e-3)
    assert findings.association(labels, labels) == pytest.approx(1)
    assert findings.association(rng.integers(0, 3, 30), rng.integers(0, 3, 30)) < 0.5
    assert findings.association(np.zeros(9, int), np.arange(9)) == 0


def test_known_overlap_of_pneumoniamnist(chest_npz):
    """Its makers' note: 8 training images are in the validation split too."""
    seen = _survey(f"npz:{chest_npz.parent / 'pneumoniamnist_28_rebuilt.npz'}")
    found = findings.doubles(seen)
    assert int((found.exact & found.across).sum()) == 8
    pairs = found.pairs.where(found.across)
    for a, b in zip(pairs.a, pairs.b, strict=True):
        assert {seen.splits[a], seen.splits[b]} == {"train", "val"}
