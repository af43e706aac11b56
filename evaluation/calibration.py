"""Are probabilities what they claim, and maps that mend them. Binary: prob of truth == 1."""

from __future__ import annotations

import numpy as np
from scipy import optimize, special
from sklearn.isotonic import IsotonicRegression


def _bin_of(prob: np.ndarray, bins: int) -> np.ndarray:
    """Bin [N] of each probability: bins of equal count, equal probabilities never parted."""
    if bins < 1 or not len(prob):
        raise ValueError("Reliability needs at least one bin and one image.")
    edges = np.quantile(prob, np.linspace(0, 1, bins + 1)[1:-1])
    return np.unique(np.searchsorted(edges, prob, side="right"), return_inverse=True)[1]


def reliability(prob: np.ndarray, truth: np.ndarray, bins: int = 10) -> dict[str, np.ndarray]:
    """The reliability curve of prob [N] for truth [N] in {0, 1}.

    Bins hold equal numbers of images (few images make equal-width bins empty or noisy); equal
    probabilities share a bin, so there may be fewer than asked for.

    Returns:
      Arrays, one entry per bin: 'predicted' (mean probability), 'observed' (share of truth),
      'count', and 'low' and 'high', the 95 % interval of 'observed' (Wilson 1927).
    """
    prob, truth = np.asarray(prob, np.float64), np.asarray(truth, np.float64)
    place = _bin_of(prob, bins)
    count = np.bincount(place)
    observed = np.bincount(place, truth) / count
    z = special.ndtri(0.975)
    centre = (observed + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(observed * (1 - observed) / count + z**2 / (4 * count**2))
    half /= 1 + z**2 / count
    return {
        "predicted": np.bincount(place, prob) / count,
        "observed": observed,
        "count": count,
        "low": np.clip(centre - half, 0, 1),
        "high": np.clip(centre + half, 0, 1),
    }


def ece(prob: np.ndarray, truth: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: mean |predicted - observed| over the bins, weighted by count.

    Guo et al. 2017, arXiv 1706.04599, eq. 3, with bins of equal count.
    """
    curve = reliability(prob, truth, bins)
    gaps = np.abs(curve["predicted"] - curve["observed"])
    return float(np.average(gaps, weights=curve["count"]))


def fit_temperature(logit: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Scale a > 0 and bias b so that sigmoid(a * logit + b) is the probability of truth.

    Temperature scaling (1/a) with the bias of Platt (1999, Probabilistic outputs for support vector
    machines, sec. 2.2), whose targets (n1 + 1)/(n1 + 2) and 1/(n0 + 2) keep the fit finite when
    the logits separate the kinds perfectly. Where no a > 0 fits best, the logits carry no
    information and a is the tiny scale that leaves the ranking as it is.

    Args:
      logit: [N].
      truth: [N] in {0, 1}, both present.
    """
    logit, positive = np.asarray(logit, np.float64), np.asarray(truth) == 1
    ones, zeros = int(positive.sum()), int((~positive).sum())
    if not ones or not zeros:
        raise ValueError("Calibration needs images of both kinds.")
    target = np.where(positive, (ones + 1) / (ones + 2), 1 / (zeros + 2))
    # Standardised logits make one starting point and one bound fit networks of any scale.
    mean, std = logit.mean(), max(float(logit.std()), 1e-12)
    inputs = (logit - mean) / std

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        value = parameters[0] * inputs + parameters[1]
        residual = special.expit(value) - target
        gradient = np.array([np.mean(residual * inputs), np.mean(residual)])
        return float(np.mean(np.logaddexp(0, value) - target * value)), gradient

    found = optimize.minimize(
        loss,
        np.array([1.0, special.logit(ones / len(logit))]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(1e-3, None), (None, None)],
        options={"ftol": 1e-14, "gtol": 1e-9},
    )
    scale, bias = found.x
    return float(scale / std), float(bias - scale * mean / std)


def apply_temperature(logit: np.ndarray, scale: float, bias: float) -> np.ndarray:
    """sigmoid(scale * logit + bias), [N]."""
    return special.expit(scale * np.asarray(logit, np.float64) + bias)


def fit_isotonic(logit: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The non-decreasing map from logit to probability of least squares error.

    Returns:
      Knots and their probabilities; `np.interp(logit, knots, values)` applies the map.
    """
    fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(
        np.asarray(logit, np.float64), np.asarray(truth, np.float64)
    )
    return fitted.X_thresholds_, fitted.y_thresholds_
