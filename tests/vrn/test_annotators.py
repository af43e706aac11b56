import numpy as np
import pytest
from scipy import stats
from sklearn import datasets, linear_model
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from data.errors import UserError
from tests.vrn.conftest import draw
from vrn import annotators, realism
from vrn.features import Described


def labels_for(toy, count: int, noise: float = 0.05) -> np.ndarray:
    """The truth on `count` random rows, a few of them wrong, and -1 elsewhere."""
    rng = np.random.default_rng(0)
    given = np.full(len(toy.good), -1)
    rows = rng.permutation(len(given))[:count]
    given[rows] = toy.good[rows] ^ (rng.random(count) < noise)
    return given


@pytest.mark.parametrize(
    ("name", "count", "floor"),
    [
        ("sklearn:LinearSVC", 120, 0.85),
        ("sklearn:SVC(kernel=linear, C=0.1)", 120, 0.85),
        ("sklearn:SVC(kernel=rbf)", 120, 0.85),
        ("sklearn:GaussianNB", 120, 0.85),
        ("sklearn:DecisionTreeClassifier(max_depth=4)", 120, 0.75),
        ("sklearn:MLPClassifier(hidden_layer_sizes=(16,), alpha=1.0)", 120, 0.85),
        ("sklearn:SelfTrainingClassifier(SVC)", 20, 0.85),
        ("sklearn:SelfTrainingClassifier(SVC, criterion=k_best, k_best=5)", 20, 0.8),
        ("sklearn:SelfTrainingClassifier(LogisticRegression)", 20, 0.8),
        ("sklearn:LabelSpreading(kernel=knn)", 20, 0.75),
        ("knn", 0, 0.65),
        ("ensemble", 120, 0.8),
    ],
)
def test_annotators_find_the_faults(toy, name, count, floor):
    given = labels_for(toy, count) if count else None
    scores = annotators.annotate(
        name, toy.pool, toy.reals, given=given, members=("knn", "sklearn:SVC")
    )
    assert scores.shape == toy.good.shape
    assert ((scores >= 0) & (scores <= 1)).all()
    unseen = np.full(len(toy.good), True) if given is None else given == -1
    assert balanced_accuracy_score(toy.good[unseen], scores[unseen] >= 0.5) > floor


def test_supervised_annotators_are_deterministic(toy):
    given = labels_for(toy, 60)
    name = "sklearn:RandomForestClassifier(n_estimators=20)"
    first, again = (
        annotators.annotate(name, toy.pool, toy.reals, given=given, seed=3) for _ in range(2)
    )
    other = annotators.annotate(name, toy.pool, toy.reals, given=given, seed=4)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_consistency_rejects_images_of_another_class(toy):
    rng = np.random.default_rng(4)
    asked = np.arange(90) % 3
    wrong = rng.random(90) < 0.4
    drawn = draw(rng, np.where(wrong, (asked + 1) % 3, asked))
    pool = Described(drawn.features, drawn.probs, asked)
    scores = annotators.annotate("consistency", pool, toy.reals)
    assert balanced_accuracy_score(~wrong, scores >= 0.5) > 0.9


def test_design_shows_the_wrong_class_to_a_linear_annotator(toy):
    """No hyperplane in the features alone tells a good 0 from a 0 asked for as a 1."""
    rng = np.random.default_rng(5)
    asked = np.arange(300) % 3
    wrong = rng.random(300) < 0.5
    drawn = draw(rng, np.where(wrong, (asked + 1) % 3, asked))
    pool = Described(drawn.features, drawn.probs, asked)
    given = np.where(np.arange(300) < 150, ~wrong, -1).astype(int)
    scores = annotators.annotate("sklearn:LogisticRegression", pool, toy.reals, given=given)
    held = given == -1
    assert balanced_accuracy_score(~wrong[held], scores[held] >= 0.5) > 0.95
    blind = linear_model.LogisticRegression().fit(pool.features[~held], given[~held])
    assert balanced_accuracy_score(~wrong[held], blind.predict(pool.features[held])) < 0.65


def digits(rows: slice, images: np.ndarray | None = None) -> Described:
    """scikit-learn's real digits with their pixels as features."""
    source = datasets.load_digits()
    pixels = source.data[rows] if images is None else images
    labels = source.target[rows]
    return Described(
        pixels.astype(np.float32), np.eye(10, dtype=np.float32)[labels], labels.astype(np.int64)
    )


def test_knn_accepts_real_digits_and_rejects_mangled_ones():
    reals = annotators.Reals(train=digits(slice(0, 700)), held_out=digits(slice(700, 1250)))
    fresh = digits(slice(1250, 1797))
    mangled = datasets.load_digits().images[1250:].copy()
    mangled[:, :, 4:] = mangled[::-1, ::-1, 4:]  # the right half of another digit, upside down
    mangled = digits(slice(1250, 1797), mangled.reshape(-1, 64))
    p = realism.class_p_values(
        realism.knn_strangeness(fresh, reals.train),
        fresh.labels,
        realism.knn_strangeness(reals.held_out, reals.train),
        reals.held_out.labels,
        0.05,
    )
    # The file orders digits by writer, so fresh ones are only nearly exchangeable.
    assert stats.kstest(p, "uniform").statistic < 0.1
    assert 0.02 < np.mean(p < 0.05) < 0.1
    # Halves of a 0 or an 8 still fit each other upside down.
    assert np.mean(annotators.annotate("knn", mangled, reals) < 0.5) > 0.6
    noise = np.random.default_rng(0).normal(0, 5, fresh.features.shape)
    noisy = digits(slice(1250, 1797), np.clip(fresh.features + noise, 0, 16))
    assert np.mean(annotators.annotate("knn", noisy, reals) < 0.5) > 0.75


def test_held_out_reals_get_uniform_p_values(toy):
    rng = np.random.default_rng(6)
    labels = np.arange(600) % 3
    scores = annotators.annotate("knn", draw(rng, labels), toy.reals, threshold=0.5)
    # At threshold 1/2 the score is the p-value itself. All 600 share 150 calibration images, whose
    # own spread a one-sample test does not know.
    assert stats.kstest(scores, "uniform").statistic < 0.12


def test_the_threshold_is_where_the_score_crosses_one_half(toy):
    p = annotators.annotate("knn", toy.pool, toy.reals, threshold=0.5)
    for threshold in (0.02, 0.2):
        scores = annotators.annotate("knn", toy.pool, toy.reals, threshold=threshold)
        np.testing.assert_array_equal(scores >= 0.5, p >= threshold)


def test_ensemble_is_the_mean_of_its_members(toy):
    members = ("knn", "consistency")
    each = [annotators.annotate(name, toy.pool, toy.reals) for name in members]
    both = annotators.annotate("ensemble", toy.pool, toy.reals, members=members)
    np.testing.assert_allclose(both, (each[0] + each[1]) / 2)


def test_confident_labels_take_extremes_and_never_contradict_the_score():
    scores = np.array([0.1, 0.2, 0.6, 0.7, 0.9, 0.95, 0.55, 0.6, 0.65, 0.7])
    labels = np.array([0] * 6 + [1] * 4)
    given = annotators.confident_labels(scores, labels, 0.34)
    np.testing.assert_array_equal(given, [0, 0, -1, -1, 1, 1, -1, -1, -1, 1])


def test_confident_labels_start_a_supervised_annotator(toy):
    scores = annotators.annotate("knn", toy.pool, toy.reals)
    given = annotators.confident_labels(scores, toy.pool.labels, 0.2)
    found = annotators.annotate("sklearn:SVC", toy.pool, toy.reals, given=given)
    assert roc_auc_score(toy.good, found) > roc_auc_score(toy.good, scores) > 0.8


def test_which_annotators_need_labels():
    assert annotators.needs_labels("sklearn:SVC")
    assert not annotators.needs_labels("knn")
    assert not annotators.needs_labels("ensemble", ("knn", "consistency"))
    assert annotators.needs_labels("ensemble", ("knn", "sklearn:SVC"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sklearn:GausianNB", "GaussianNB"),
        ("sklearn:Zzz", "no classifier 'Zzz'"),
        ("sklearn:SVC(kernel=", "Cannot read annotator"),
        ("sklearn:__import__('os')", "no classifier"),
        ("sklearn:SVC(1 + 1, 2)", "Cannot read annotator"),
        ("sklearn:SVC(colour=red)", "colour"),
        ("sklearn:SVC(kernel=cubic)", "cubic"),
        ("sklearn:MultinomialNB", "Negative values"),
        ("kmn", "Unknown annotator 'kmn'"),
        ("ensemble", "annotate.members"),
    ],
)
def test_bad_names_are_explained(toy, name, message):
    with pytest.raises(UserError, match=message):
        annotators.annotate(name, toy.pool, toy.reals, given=labels_for(toy, 40), members=())


def test_missing_and_one_sided_labels_are_explained(toy):
    with pytest.raises(UserError, match="none were given"):
        annotators.annotate("sklearn:SVC", toy.pool, toy.reals)
    with pytest.raises(UserError, match="2 labels of either kind"):
        annotators.annotate("sklearn:SVC", toy.pool, toy.reals, given=np.where(toy.good, 1, -1))
    with pytest.raises(UserError, match=r"annotate\.threshold"):
        annotators.annotate("knn", toy.pool, toy.reals, threshold=1.0)
    with pytest.raises(UserError, match=r"annotate\.confident_share"):
        annotators.confident_labels(np.zeros(3), np.zeros(3, int), 0.0)
