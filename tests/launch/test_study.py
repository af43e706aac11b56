"""Target models of several work directories as one experiment."""

import json
import shutil

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from data import tables
from data.errors import UserError
from evaluation import statistics
from launch import study
from tests import tiny
from tests.launch import finished

ARMS = ("classical", "random", "vrn")


@pytest.fixture(scope="module")
def loops(tmp_path_factory):
    """Two loops of each generator on the same images, whose target models differ."""
    root, found = tmp_path_factory.mktemp("study"), {}
    made = finished.make(
        root / "made", finished.make_config(arms=ARMS, seeds=2),
        first_per_class=4, second_per_class=4,
    )  # fmt: skip
    _change(made / "target" / "stage.json", facts={"arms": ARMS, "seeds": 2})
    _change(made / "data" / "stage.json", facts={"digest": "d" * 64})
    tables.write_json(made / "report" / "results.json", {"vrn": {}, "seconds": {}})
    rng = np.random.default_rng(0)
    for name in ("gan", "translator"):
        for seed in range(2):
            folder = shutil.copytree(made, root / name / f"seed{seed}")
            for path in folder.glob("target/*/*/predictions.npz"):
                with np.load(path) as arrays:
                    labels = arrays["labels"]
                probs = rng.dirichlet(np.ones(10), len(labels)) + np.eye(10)[labels] / 4
                tables.write_npz(path, probs=probs, labels=labels)
            found.setdefault(name, []).append(folder)
    return found


def _change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def _outcomes(folder, arm):
    found = []
    for number in range(2):
        with np.load(folder / "target" / arm / str(number) / "predictions.npz") as arrays:
            found.append((arrays["probs"], arrays["labels"]))
    return found


def test_trainings_of_a_generator_are_drawn_before_their_target_models(loops):
    found = study.pool({"gan": loops["gan"]}, resamples=50)
    outcomes = {arm: [one for f in loops["gan"] for one in _outcomes(f, arm)] for arm in ARMS}
    expected = statistics.summarise(outcomes, seed_groups=np.array([0, 0, 1, 1]), resamples=50)
    assert {key: found[key] for key in ("arms", "paired")} == expected
    alone = study.pool({"gan": loops["gan"][:1]}, resamples=50)
    outcomes = {arm: _outcomes(loops["gan"][0], arm) for arm in ARMS}
    expected = statistics.summarise(outcomes, resamples=50)
    assert {key: alone[key] for key in ("arms", "paired")} == expected


def test_arms_without_a_pool_are_those_of_the_first_generator(loops):
    found = study.pool(loops, resamples=50)
    assert list(found["arms"]) == [
        "classical", "random of gan", "vrn of gan", "random of translator", "vrn of translator",
    ]  # fmt: skip
    for arm, values in found["arms"].items():
        name, _, of = arm.partition(" of ")
        outcomes = [one for folder in loops[of or "gan"] for one in _outcomes(folder, name)]
        accuracy = [np.mean(probs.argmax(1) == labels) for probs, labels in outcomes]
        assert values["accuracy"]["seeds"] == pytest.approx(accuracy)
    assert {pair.split("-")[0] for pair in found["paired"]} == {"vrn of gan", "vrn of translator"}
    assert len(found["paired"]) == 8
    both = [found["paired"][f"vrn of {a}-vrn of {b}"]["auc"] for a, b in
            (("gan", "translator"), ("translator", "gan"))]  # fmt: skip
    assert both[0]["mean"] == pytest.approx(-both[1]["mean"])
    assert both[0]["ci95"] == pytest.approx([-end for end in both[1]["ci95"][::-1]])


def test_the_table_has_the_recall_of_rare_classes(loops):
    config = finished.make_config()
    config.data.per_class = '{"3": 2}'
    names = tuple("0123456789")
    metrics = study.rare(config, names)
    assert metrics == {"recall/3": "recall of 3"}
    found = study.pool({"gan": loops["gan"]}, resamples=50)
    found["arms"]["vrn"]["recall/3"] = {"mean": None, "ci95": [None, None], "seeds": []}
    lines = study.table(found, metrics).splitlines()
    recall = found["arms"]["random"]["recall/3"]
    assert lines[0] == "| | recall of 3 |"
    assert lines[3].startswith(f"| random | {100 * recall['mean']:.1f} (")
    assert lines[4] == "| vrn | \N{EN DASH} |"


def test_loops_of_other_images_are_not_compared(loops, tmp_path):
    other = shutil.copytree(loops["gan"][0], tmp_path / "other")
    _change(other / "data" / "stage.json", facts={"digest": "e" * 64})
    with pytest.raises(UserError, match="were prepared from other images"):
        study.pool({"gan": [loops["gan"][0], other]}, resamples=10)


@pytest.mark.parametrize("given", [["gan", "vae"], ["gan", "gan"]])
def test_generators_are_known_and_different(given, tmp_path):
    flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(generators=given), pytest.raises(UserError, match="each once"):
        study.run(tiny.get_config(), tmp_path, False)
    assert not list(tmp_path.iterdir())


def test_every_generator_runs_with_every_seed_in_a_folder_that_no_stage_has(tmp_path, monkeypatch):
    flags.FLAGS.mark_as_parsed()
    config, ran, compared = tiny.get_config(), [], []
    config.seed, config.translator.healthy = 3, "0"

    def loop(given, folder, overwrite):
        ran.append((given.generate.generator, given.seed, folder.relative_to(tmp_path).as_posix()))

    monkeypatch.setattr(study.pipeline, "run", loop)
    monkeypatch.setattr(study, "_summarise", lambda *given: compared.append(given[-1]))
    with flagsaver.flagsaver(generators=["translator", "gan"], gan_seeds=2):
        study.run(config, tmp_path, False)
    assert ran == [
        ("translator", 3, "translator-seed3"), ("translator", 4, "translator-seed4"),
        ("gan", 3, "gan-seed3"), ("gan", 4, "gan-seed4"),
    ]  # fmt: skip
    (loops,) = compared
    assert loops["gan"] == [tmp_path / "gan-seed3", tmp_path / "gan-seed4"]
    ran.clear()
    with flagsaver.flagsaver(generators=[], gan_seeds=1):
        study.run(config, tmp_path, False)
    assert ran == [("gan", 3, "seed3")]
    config.translator.healthy = ""
    with (
        flagsaver.flagsaver(generators=["gan", "translator"], gan_seeds=1),
        pytest.raises(UserError, match="needs the name of the healthy class"),
    ):
        study.run(config, tmp_path, False)
    assert len(ran) == 1  # nor was the other generator's loop begun
