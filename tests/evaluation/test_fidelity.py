import itertools

import numpy as np
import pytest
from scipy import linalg

from evaluation import fidelity


def cloud(count: int, dimension: int = 6, shift: float = 0.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(7).normal(size=(dimension, dimension))
    return rng.normal(size=(count, dimension)) @ mix + shift


def test_frechet_distance_is_the_textbook_one():
    x, y = cloud(80), cloud(60, shift=0.5, seed=1) * 1.3
    cx, cy = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    shift = x.mean(0) - y.mean(0)
    expected = shift @ shift + np.trace(cx + cy - 2 * linalg.sqrtm(cx @ cy).real)
    assert fidelity.frechet_distance(x, y) == pytest.approx(expected, rel=1e-8)
    assert fidelity.frechet_distance(x, x) == pytest.approx(0, abs=1e-8)


def test_frechet_distance_of_shifted_clouds_is_the_shift():
    x = cloud(50)
    assert fidelity.frechet_distance(x, x + 2.0) == pytest.approx(6 * 4.0)


def test_frechet_distance_refuses_singular_covariances():
    with pytest.raises(ValueError, match="more than 6 images"):
        fidelity.frechet_distance(cloud(80), cloud(6))


def test_kid_is_the_double_sum():
    x, y = cloud(12), cloud(12, shift=0.3, seed=1)

    def kernel(a, b):
        return (a @ b / 6 + 1) ** 3

    within = [
        sum(kernel(s[i], s[j]) for i, j in itertools.permutations(range(12), 2)) / (12 * 11)
        for s in (x, y)
    ]
    between = np.mean([kernel(a, b) for a in x for b in y])
    mean, spread = fidelity.kid(x, y, subsets=3)
    assert mean == pytest.approx(sum(within) - 2 * between)
    assert spread == pytest.approx(0, abs=1e-9)


def test_kid_is_unbiased_and_sees_a_shift():
    values = [
        fidelity.kid(cloud(40, 3, seed=2 * i), cloud(40, 3, seed=2 * i + 1), subsets=1)[0]
        for i in range(200)
    ]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(200)
    moved, spread = fidelity.kid(cloud(300, 3), cloud(200, 3, shift=2.0, seed=1), subset_size=100)
    assert moved > 5 * np.std(values)
    assert spread > 0


def test_coverage_metrics_by_counting():
    real, fake, k = cloud(30, 2), cloud(30, 2, shift=0.7, seed=1), 3

    def radius(points, i):
        return sorted(np.linalg.norm(points - points[i], axis=1))[k]

    inside = np.array(
        [[np.linalg.norm(y - x) < radius(real, i) for y in fake] for i, x in enumerate(real)]
    )
    recalled = [
        any(np.linalg.norm(x - y) < radius(fake, j) for j, y in enumerate(fake)) for x in real
    ]
    expected = {
        "precision": np.mean(inside.any(0)),
        "recall": np.mean(recalled),
        "density": inside.sum() / (k * 30),
        "coverage": np.mean(inside.any(1)),
    }
    assert fidelity.coverage_metrics(real, fake, k=k) == pytest.approx(expected)


def test_samples_of_one_distribution_reach_the_known_values():
    found = fidelity.coverage_metrics(cloud(800, 4), cloud(600, 4, seed=1), k=3, repeats=3)
    assert found["density"] == pytest.approx(1, abs=0.1)
    assert found["coverage"] == pytest.approx(1 - 2.0**-3, abs=0.03)


def test_a_dropped_mode_lowers_recall_and_coverage_alone():
    real = np.concatenate([cloud(100, 2), cloud(100, 2, seed=1) + 50])
    found = fidelity.coverage_metrics(real, cloud(200, 2, seed=2))
    assert found["recall"] < 0.6
    assert found["coverage"] < 0.55
    assert found["precision"] > 0.85


def test_class_histogram():
    found = fidelity.class_histogram(np.array([0, 0, 0, 1]), 4)
    assert found["shares"] == [0.75, 0.25, 0, 0]
    assert found["total_variation"] == pytest.approx(0.5)
    assert fidelity.class_histogram(np.arange(8) % 4, 4)["total_variation"] == 0


def test_coverage_in_blocks_is_the_same(monkeypatch):
    rng = np.random.default_rng(3)
    real, fake = rng.normal(size=(50, 4)), rng.normal(0.3, 1, (70, 4))
    whole = fidelity.coverage_metrics(real, fake, k=3)
    monkeypatch.setattr(fidelity, "BLOCK_ELEMENTS", 50 * 7)
    assert fidelity.coverage_metrics(real, fake, k=3) == whole
