"""Structural similarity against its formula in loops."""

import numpy as np
import pytest

from evaluation.similarity import ssim


def loops(x, y, span):
    """One channel [H, W], window by window."""
    place = np.arange(-5, 6)
    line = np.exp(-(place**2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    c1, c2, found = (0.01 * span) ** 2, (0.03 * span) ** 2, []
    for top in range(len(x) - 10):
        for left in range(x.shape[1] - 10):
            a, b = (image[top : top + 11, left : left + 11] for image in (x, y))
            ma, mb = (window * a).sum(), (window * b).sum()
            va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
            cov = (window * (a - ma) * (b - mb)).sum()
            top_ = (2 * ma * mb + c1) * (2 * cov + c2)
            found.append(top_ / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    return np.mean(found)


def test_it_is_the_formula():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (2, 14, 17, 2))
    y = np.clip(x + rng.normal(0, 0.3, x.shape), -1, 1)
    got = ssim(x, y)
    for i in range(2):
        expected = np.mean([loops(x[i, ..., c], y[i, ..., c], 2.0) for c in range(2)])
        assert got[i] == pytest.approx(expected, abs=1e-12)
    assert got.max() < 0.95
    np.testing.assert_allclose(ssim(x, x), 1)


def test_small_images_are_refused():
    with pytest.raises(ValueError, match="smaller than a window of 11"):
        ssim(np.zeros((1, 10, 20, 1)), np.zeros((1, 10, 20, 1)))
