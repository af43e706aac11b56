"""Reviewed labels on their way: into the annotation, the statistics and the report."""

import json
import types
import uuid

import numpy as np
import pytest

from data import pools, tables
from data.errors import UserError
from launch import annotate, report, stage, validate
from launch.review import effort, numbers, opening, page
from tests.launch import finished
from vrn import labels
from vrn.features import Described
from vrn.review import statistics
from vrn.review.store import Mark


@pytest.fixture(scope="module")
def config():
    made = finished.make_config(arms=("real", "vrn"), seeds=2)
    made.review.update(raters=("ada", "bob", "cleo"), repeats=0.2, real_share=0.2)
    return made


@pytest.fixture(scope="module")
def truth(workdir):
    """Sample id to whether the image is real-like: what the ensemble was surest of."""
    table = labels.read_labels(workdir / "annotation" / "labels.parquet")
    final = table.where(table.rater == "auto:ensemble")
    return {str(i): bool(s >= 0.5) for i, s in zip(final.sample_id, final.score, strict=True)}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, config):
    return finished.make(tmp_path_factory.mktemp("reviewed") / "run", config)


@pytest.fixture(scope="module")
def study(workdir, config, truth):
    """Three raters: one always right, one wrong of every tenth, one unsure of every fifth."""
    pool, real = opening.images(config, workdir)
    opened = opening.open_study(config, workdir, pool, real)
    for rater in ("ada", "bob", "cleo"):
        marks = []
        for place, task in enumerate(opened.store.tasks("main", rater)):
            right = truth.get(task.sample_id, True)
            wrong = rater == "bob" and hash_of(task.sample_id) % 10 == 0
            unsure = rater == "cleo" and hash_of(task.sample_id) % 5 == 1
            name = "unsure" if unsure else "real-like" if right != wrong else "non-real-like"
            marks.append(Mark(place, name, ("texture",) if not right else (), 2.0 + place % 3))
        opened.store.append("main", rater, uuid.uuid4().hex, marks)
    return opened


def hash_of(sample_id):
    return sum(map(ord, sample_id))


@pytest.fixture
def without_vrn(monkeypatch):
    """The work directory has no network; its VRN answers what a table says."""
    monkeypatch.setattr(numbers, "_complete", lambda workdir, name: name == "annotation")


def test_statistics_of_raters_whose_answers_are_known(config, workdir, study, truth, without_vrn):
    found = numbers.gather(config, workdir)
    ada, bob, cleo = (found["raters"][name] for name in ("ada", "bob", "cleo"))
    assert ada["turing"]["real_called_real"]["mean"] == 1.0
    assert ada["repeatability"]["same"]["mean"] == 1.0
    assert ada["repeatability"]["same"]["count"] == 50  # a fifth of 200 and 50
    assert ada["seconds"]["median"] == 3.0
    assert ada["faults"] == {"texture": sum(not right for right in truth.values())}
    assert bob["answers"]["unsure"] == 0
    assert cleo["answers"]["unsure"] == sum(
        hash_of(i) % 5 == 1 for i in study.ratings().sample_id.tolist()
    )
    wrong = sum(hash_of(i) % 10 == 0 for i in truth)
    kappas = {tuple(one["raters"]): one["kappa"]["mean"] for one in found["together"]["cohen"]}
    assert kappas["ada", "cleo"] == 1.0
    assert kappas["ada", "bob"] < 1.0
    assert wrong
    assert found["machines"]["ensemble"]["kappa"]["mean"] == 1.0
    assert found["machines"]["ensemble"]["auc"]["mean"] == 1.0
    assert not found["machines"]["ensemble"]["taught"]
    assert 0.2 < found["machines"]["consistency"]["kappa"]["mean"] < 0.9
    shares = found["consensus"]
    assert shares["real_like"] == sum(truth.values())
    assert shares["unsure"] == 0
    text = page.render(report.results.without_nan(found), "run")
    assert "Krippendorff" in text
    assert "<script" not in text
    for line in page.lines(report.results.without_nan(found)):
        assert "None" not in line
        assert "nan" not in line


def test_the_vrn_is_measured_on_images_it_did_not_learn_from(
    config, workdir, study, truth, monkeypatch
):
    pool = pools.open_pool(workdir / "pools" / "first")
    scores = np.array([1.0 if truth[i] else -1.0 for i in pool.ids])
    unseen = np.zeros(len(pool), bool)
    unseen[::2] = True
    scores[1::2] *= -1  # wrong wherever it learnt: not to be seen in the numbers
    monkeypatch.setattr(opening, "vrn_scores", lambda *_: scores)
    monkeypatch.setattr(opening, "unseen_by_vrn", lambda *_: unseen)
    found = numbers.gather(config, workdir, study)["vrn"]
    assert found["auc"]["mean"] == 1.0
    assert found["auc"]["count"] == 100


def test_turing_of_guessing_telling_and_being_fooled():
    real = np.repeat([True, False], 200)
    rng = np.random.default_rng(0)
    guessing = statistics.turing(rng.integers(0, 2, 400).astype(float), real)
    low, high = guessing["balanced_accuracy"]["ci95"]
    assert low < 0.5 < high
    telling = statistics.turing(real.astype(float), real)
    assert telling["balanced_accuracy"]["mean"] == telling["auc"]["mean"] == 1.0
    fooled = statistics.turing(np.ones(400), real)
    assert fooled["balanced_accuracy"]["mean"] == 0.5
    assert fooled["synthetic_called_real"]["mean"] == 1.0
    unsure = statistics.turing(np.full(400, 0.5), real)
    assert unsure["accuracy"]["mean"] is None
    assert unsure["auc"]["mean"] == 0.5


def described(workdir):
    """Features that tell real-like from not, as a stand-in for the network of the run."""
    with np.load(workdir / "annotation" / "embeddings.npz") as stored:
        embeddings = stored["first"]

    def describe(images):
        count = len(images)
        features = np.resize(embeddings, (count, embeddings.shape[1])).astype(np.float32)
        return Described(features, np.full((count, 10), 0.1), images.labels)

    return types.SimpleNamespace(describe=describe)


@pytest.fixture
def annotated(workdir, config, study, monkeypatch):
    """Runs the stage; returns labels and verdicts."""
    space = described(workdir)
    monkeypatch.setattr(annotate.train_features, "open_features", lambda *_: space)

    def run(**settings):
        mine = config.copy_and_resolve_references()
        mine.annotate.update(settings)
        validate.check(mine)
        annotate.run(mine, workdir, True)
        table = labels.read_labels(workdir / "annotation" / "labels.parquet")
        return mine, table, annotate.verdicts(mine, workdir)

    before = {p: p.read_bytes() for p in (workdir / "annotation").iterdir()}
    yield run
    for path, content in before.items():
        path.write_bytes(content)


def test_reviewed_labels_are_the_annotation(annotated, workdir, truth):
    mine, table, verdicts = annotated(method="review")
    assert set(table.rater) == {"ada", "bob", "cleo", "review:majority"}
    ids = pools.open_pool(workdir / "pools" / "first").ids
    np.testing.assert_array_equal(verdicts, [int(truth[i]) for i in ids])
    # Again it is up to date; with other words of the raters it is another annotation.
    record = stage.read(workdir, "annotation")
    annotate.run(mine, workdir, False)
    assert stage.read(workdir, "annotation") == record
    opened = opening.begun(mine, workdir)
    tasks = opened.store.tasks("main", "ada")
    place = next(i for i, task in enumerate(tasks) if not task.real and not task.repeat)
    opened.store.append("main", "ada", uuid.uuid4().hex, [Mark(place, None)])
    with pytest.raises(UserError, match="review"):
        annotate.run(mine, workdir, False)


def test_what_nobody_reviewed_is_predicted_by_what_learns_from_the_rest(
    annotated, without_vrn, workdir, config, truth, tmp_path, monkeypatch
):
    """Half the pool reviewed by one rater; the SVM sees these labels and judges the others."""
    pool, real = opening.images(config, workdir)
    mine = config.copy_and_resolve_references()
    mine.review.update(
        name="half", raters=("ada",), images=100, repeats=0.0, real_share=0.0,
        database=f"sqlite:///{tmp_path}/half.sqlite",
    )  # fmt: skip
    opened = opening.open_study(mine, workdir, pool, real)
    tasks = opened.store.tasks("half", "ada")
    marks = [
        Mark(place, "real-like" if truth[task.sample_id] else "non-real-like")
        for place, task in enumerate(tasks)
    ]
    opened.store.append("half", "ada", "all", marks)
    seen = {}
    real_annotate = annotate.annotators.annotate

    def spy(name, *args, given=None, **options):
        seen[name] = given
        return real_annotate(name, *args, given=given, **options)

    monkeypatch.setattr(annotate.annotators, "annotate", spy)
    mine.annotate.method = "review+sklearn:SVC"
    validate.check(mine)
    annotate.run(mine, workdir, True)
    verdicts = annotate.verdicts(mine, workdir)
    given = seen["sklearn:SVC"]
    reviewed = np.isin(pool.ids, [task.sample_id for task in tasks])
    assert (given[reviewed] >= 0).all()
    assert (given[~reviewed] == -1).all()
    np.testing.assert_array_equal(verdicts[reviewed], [truth[i] for i in pool.ids[reviewed]])
    assert set(verdicts[~reviewed].tolist()) <= {0, 1}
    table = labels.read_labels(workdir / "annotation" / "labels.parquet")
    assert set(table.rater) == {"ada", "review:majority", "auto:sklearn:SVC"}
    gathered = numbers.gather(mine, workdir, opened)
    assert gathered["machines"]["sklearn:SVC"]["taught"]


def test_without_a_study_the_method_says_what_to_run(config, workdir, tmp_path):
    mine = config.copy_and_resolve_references()
    mine.annotate.method = "review"
    mine.review.name = "nobody"
    with pytest.raises(UserError, match=r"python -m launch\.review"):
        annotate.run(mine, workdir, True)
    mine.annotate.given = "labels.parquet"
    with pytest.raises(UserError, match="give one of them"):
        validate.check(mine)
    mine.annotate.update(given="", method="review+perhaps")
    with pytest.raises(UserError, match="no annotator 'perhaps'"):
        validate.check(mine)


def test_the_report_shows_the_reviewers_and_is_made_again_for_them(
    config, workdir, study, without_vrn
):
    first = report.run(config, workdir, False).read_text()
    assert 'id="review"' not in first
    found = report.results.without_nan(numbers.gather(config, workdir, study))
    tables.write_json(workdir / "review" / "statistics.json", found)
    second = report.run(config, workdir, False).read_text()
    assert 'id="review"' in second
    assert "The reviewers beside the VRN" in second
    told = json.loads((workdir / "report" / "results.json").read_text())
    assert told["review"]["raters"]["ada"] == found["raters"]["ada"]
    assert report.run(config, workdir, False).read_text() == second


def test_the_effort_curve_trains_on_so_many_and_measures_on_others(
    workdir, config, study, without_vrn, monkeypatch
):
    """The networks are stood in for: their scores are right as often as they saw negatives."""
    space = described(workdir)
    monkeypatch.setattr(effort.train_features, "open_features", lambda *_: space)
    monkeypatch.setattr(effort.train_vrn, "open_trainer", lambda *_: None)
    asked = []

    def scores(self, negatives, seed):
        assert not set(negatives) & set(self._held_out.tolist())
        asked.append(len(negatives))
        noise = np.random.default_rng(seed).normal(size=len(self._held_out))
        return self._verdicts[self._held_out] + 8 * noise / len(negatives)

    monkeypatch.setattr(effort._Curve, "_scores", scores)
    effort.write(config, workdir)
    found = json.loads((workdir / "review" / "effort.json").read_text())
    reviewed = [point for point in found["points"] if point["variant"] == "reviewed"]
    # 200 reviewed, a third of them kept apart: 50 and 100 are there, 200 are not.
    assert [point["reviewed"] for point in reviewed] == [50, 100]
    assert found["held_out"] == pytest.approx(67, abs=5)
    aucs = [point["auc"]["mean"] for point in reviewed]
    assert 0.5 < aucs[0] < aucs[1]
    assert reviewed[1]["auc"]["ci95"][0] < aucs[1] < reviewed[1]["auc"]["ci95"][1]
    assert np.mean(reviewed[1]["kept_real_like"]) > found["real_like_of_held_out"]
    mixed = [point for point in found["points"] if point["variant"] != "reviewed"]
    for alone, both in zip(reviewed, mixed, strict=True):
        assert min(both["negatives"]) >= min(alone["negatives"])
    assert len(asked) == 4 * effort.SEEDS
    gathered = report.results.without_nan(numbers.gather(config, workdir, study))
    text = page.render(gathered, "run")
    assert 'id="effort"' in text


def test_too_few_reviewed_images_give_no_effort_curve(config, workdir, study, tmp_path):
    mine = config.copy_and_resolve_references()
    mine.review.update(name="few", database=f"sqlite:///{tmp_path}/few.sqlite")
    pool, real = opening.images(mine, workdir)
    opened = opening.open_study(mine, workdir, pool, real)
    opened.store.append("few", "ada", "one", [Mark(0, "real-like")])
    with pytest.raises(UserError, match="images are reviewed"):
        effort.write(mine, workdir)
