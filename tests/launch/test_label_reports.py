import csv

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from PIL import Image

from configs import chest_reports
from data.errors import UserError
from data.sources import Options
from launch import label_reports
from tests.data.conftest import read_source


@pytest.fixture
def program():
    flags.FLAGS.mark_as_parsed()

    def call(config=None, **values):
        with flagsaver.flagsaver(**{key: str(value) for key, value in values.items()}):
            return label_reports.run(config or chest_reports.get_config(), None, False)

    return call


def _rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_reports_become_labels_that_a_source_takes(tmp_path, program, capsys):
    texts = ("Right pneumonia.", 'No "pneumonia",\nno effusion.', "Possible pneumonia.", "Normal.")
    rng = np.random.default_rng(0)
    (tmp_path / "set").mkdir()
    with (tmp_path / "r.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "report", "patient"))
        for i, text in enumerate(texts):
            image = Image.fromarray(rng.integers(0, 255, (16, 16), dtype=np.uint8))
            image.save(tmp_path / "set" / f"{i}.png")
            writer.writerow((f"{i}.png", text, f"p{i}"))
    made = program(reports=tmp_path / "r.csv", labels_to=tmp_path / "out")
    assert made == tmp_path / "out" / "labels.csv"
    assert [(row["label"], row["patient"]) for row in _rows(made)] == [
        ("pneumonia", "p0"), ("no_finding", "p1"), ("", "p2"), ("no_finding", "p3"),
    ]  # fmt: skip
    audit = _rows(tmp_path / "out" / "audit.csv")
    assert [(row["file"], row["status"], row["modifiers"]) for row in audit] == [
        ("0.png", "present", ""), ("1.png", "absent", "negated"), ("1.png", "absent", "negated"),
        ("2.png", "uncertain", "uncertain"),
    ]  # fmt: skip
    told = capsys.readouterr().out
    assert "(undecided): 1" in told
    assert "Right" not in told
    source = read_source(
        f"folder:{tmp_path / 'set'}", data_dir="", size=16, channels=1,
        options=Options(labels=str(made)),
    )  # fmt: skip
    assert source.class_names == ("no_finding", "pneumonia")
    assert source.splits["all"].labels.tolist() == [1, 0, -1, 0]


def test_mistakes(tmp_path, program):
    with pytest.raises(UserError, match="--reports=TABLE and --labels_to=FOLDER"):
        program(reports="", labels_to="")
    (tmp_path / "r.csv").write_text("file,text\na,b\n")
    with pytest.raises(UserError, match="has no column 'report'"):
        program(reports=tmp_path / "r.csv", labels_to=tmp_path)
    config = chest_reports.get_config()
    config.reports.findings = {}
    with pytest.raises(UserError, match="findings is empty"):
        program(config, reports=tmp_path / "r.csv", labels_to=tmp_path)
