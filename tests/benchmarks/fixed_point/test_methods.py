"""The comparison's commands fit the programs, run as told, and become a table."""

import functools
import importlib

import numpy as np
import pytest
from absl import flags

from benchmarks import cells
from benchmarks.cells import Cell
from benchmarks.fixed_point import methods, report
from data.errors import UserError
from launch import detectors, evaluate

METHOD = "linear autoencoder"
# Writes what `launch.evaluate` would, with the seed as its result; seed 7 it refuses.
PROGRAM = """
import json, pathlib, sys
sum(range(10_000_000))  # time that can be measured
given = dict(word.lstrip("-").split("=", 1) for word in sys.argv[1:])
folder = pathlib.Path(given["workdir"]) / "evaluation"
folder.mkdir(parents=True, exist_ok=True)
if given["config.seed"] == "7":
    sys.exit("no such seed")
(folder / "detection-linear.json").write_text(json.dumps({"seed": given["config.seed"]}))
"""


@pytest.mark.parametrize("data", methods.DATA)
@pytest.mark.parametrize("method", methods.METHODS)
def test_commands_name_what_there_is(data, method):
    config = importlib.import_module(f"configs.{methods.DATA[data].config}").get_config()
    assert methods.METHODS[method].maps in flags.FLAGS["maps"].parser.enum_values
    for program in methods.commands(data, method, source="npz:x.npz"):
        importlib.import_module(program[1])
        assert "--config.data.source=npz:x.npz" in program
        for word in program[2:]:
            name, _, value = word.removeprefix("--").partition("=")
            if name.startswith("config."):
                section, field = name.split(".")[1:]
                assert str(type(config[section][field])(value)) in (value, "True"), word


def test_stargan_lacks_the_fixed_point_alone():
    ours, theirs = (methods.commands("phantom", name) for name in ("Fixed-Point GAN", "StarGAN"))
    for one, other in zip(ours, theirs, strict=True):
        assert other == [
            *one, "--config.translator.fixed_point=False", "--config.translator.output=plain"
        ]  # fmt: skip


def test_settings_change_the_key_and_the_seed_does_not(monkeypatch):
    before = methods.key("phantom", METHOD)
    assert before == methods.key("phantom", METHOD)
    assert methods.key("phantom", METHOD, "npz:x.npz") != before != methods.key("brain", METHOD)
    monkeypatch.setitem(methods.DATA, "phantom", methods.Data("phantom_translate", {"seed": 1}))
    assert methods.key("phantom", METHOD) != before


def test_a_cell_is_what_its_programs_write_and_a_failure_names_its_log(tmp_path):
    measure = functools.partial(methods.measure, place=tmp_path, programs=[["-c", PROGRAM]])
    wanted = [Cell("phantom", {"method": METHOD}, seed) for seed in (3, 7)]
    with pytest.raises(UserError, match=r"exit code 1; .*seed=7\.log"):
        cells.run(wanted, tmp_path, "key", measure)
    assert "no such seed" in (tmp_path / "run" / "seed=7.log").read_text()
    (kept,) = cells.files(tmp_path, "phantom", [3], method=METHOD)
    assert kept["result"] == {"seed": "3"}
    assert kept["cpu_seconds"] > 0  # of another process
    assert cells.files(tmp_path, "phantom", [3, 7], method=METHOD) == []


def test_the_table_has_every_number_that_there_is():
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (12, 16, 16, 1)).astype(np.float32)
    masks = np.zeros((12, 16, 16), bool)
    masks[6:, 4:9, 4:9] = True
    healthy = np.where(masks[..., None], -images, images)
    found = detectors.Found(masks.astype(np.float32), healthy, images)
    split = evaluate.Split(images, found, masks.any((1, 2)), masks=masks, twins=healthy)
    whole = evaluate.judged(split, split, 10, 0)
    plain = {name: whole[name] for name in ("auc", "score")}
    of_slices = {"matched": plain["auc"], "height": {"mean": 0.5, "ci95": [0.4, 0.6]}}
    slices = plain | of_slices | {"auc": plain["auc"] | {"network": {"mean": 0.5}}}
    head, _, *rows = (
        line.strip("| ").split(" | ")
        for line in report.table({"w": [whole], "p": [plain], "s": [slices]}).splitlines()
    )
    assert head == ["w", "p", "s"]
    assert [row[0] for row in rows] == [row.name for row in report.ROWS]
    known = [{i for i, row in enumerate(rows) if row[column] != "-"} for column in (1, 2, 3)]
    assert known[0] == set(range(len(rows))) - {2, 3, 4}
    assert known[1:] == [{0, 1}, {0, 1, 2, 3, 4}]
    assert rows[0][1] == rows[3][3] == "1.000 (1.000 to 1.000)"
    assert [row[1] for row in rows if "own" in row[0]] == ["0.0000"]
    # Without what no method has.
    assert "slice heights" not in report.table({"w": [whole]})


def test_numbers_of_several_seeds():
    ends = [{"mean": 0.5, "ci95": [0.4, 0.6]}, {"mean": 0.7, "ci95": [0.5, 0.9]}]
    assert report.text(ends, 2) == "0.60 ± 0.14 (0.45 to 0.75)"
    assert report.text([0.5, 0.7], 3) == "0.600 ± 0.141"
    assert report.text([0.5], 3) == "0.500"
