"""The VRN's probabilities and operating point, and how good it is within synthetic images.

The calibration part of the annotated pool fits the map from logit to probability and chooses the
operating point; the measurement part, untouched until then, says what they are worth. Both parts
are synthetic: there every image carries the generator's traces, so only faults tell them apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from data.errors import UserError
from evaluation import calibration, classification

METHODS = ("temperature", "isotonic")


def apply(fitted: Mapping[str, Any], logits: np.ndarray) -> np.ndarray:
    """Probability of real-like [N] from VRN logits [N] by the map stored in calibration.json."""
    if fitted["method"] == "temperature":
        return calibration.apply_temperature(logits, fitted["scale"], fitted["bias"])
    return np.interp(logits, fitted["knots"], fitted["values"])


def _fit(method: str, logits: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    if method == "temperature":
        scale, bias = calibration.fit_temperature(logits, truth)
        return {"method": method, "scale": scale, "bias": bias}
    knots, values = calibration.fit_isotonic(logits, truth)
    return {"method": method, "knots": knots.tolist(), "values": values.tolist()}


def operating_point(logits: np.ndarray, truth: np.ndarray) -> float:
    """The logit from which an image is accepted: that of highest balanced accuracy.

    Among equally good places the middle of the widest gap is taken, as the least chancy one.
    """
    values = np.unique(logits)
    edges = np.concatenate([[values[0] - 1], (values[1:] + values[:-1]) / 2, [values[-1] + 1]])
    accepted = logits[None, :] >= edges[:, None]
    balanced = (accepted[:, truth == 1].mean(1) + (~accepted[:, truth == 0]).mean(1)) / 2
    gaps = np.concatenate([[0.0], np.diff(values), [0.0]])
    best = np.isclose(balanced, balanced.max(), rtol=0, atol=1e-12)
    return float(edges[np.argmax(np.where(best, gaps, -1.0))])


def calibrate(
    logits: np.ndarray,
    truth: np.ndarray,
    measured_logits: np.ndarray,
    measured_truth: np.ndarray,
    *,
    method: str = "temperature",
    bins: int = 10,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Fits on the calibration part, measures on the measurement part.

    Args:
      logits: VRN log-odds of real-like [N] of the calibration part.
      truth: its annotation, int [N], 1 real-like, 0 non-real-like.
      measured_logits: those of the measurement part [M].
      measured_truth: int [M].
      method: 'temperature' (two numbers; for few images) or 'isotonic' (any increasing map).
      bins: of the reliability curve and the calibration error, of equal count.
      resamples: bootstrap resamples of the interval of the AUC.
      seed: of the bootstrap.

    Returns:
      The content of calibration.json: the map ('method' and its numbers), 'operating_point'
      ('logit', 'probability'), and, measured within synthetic images, 'auc_within_synthetic' with
      'auc_ci95', 'acceptance_rate' (share of real-like images accepted), 'rejection_rate' (share of
      non-real-like ones rejected), 'ece', 'brier', 'reliability' and 'counts'.

    Raises:
      UserError: unknown method. ValueError: a part with images of one kind only.
    """
    if method not in METHODS:
        raise UserError(f"vrn.calibration is {method!r}; choose one of {', '.join(METHODS)}.")
    for part in (truth, measured_truth):
        if set(np.unique(part)) != {0, 1}:
            raise ValueError("Calibration needs real-like and non-real-like images in both parts.")
    fitted = _fit(method, logits, truth)
    threshold = operating_point(logits, truth)
    prob = apply(fitted, measured_logits)
    accepted, real_like = measured_logits >= threshold, measured_truth == 1
    rng = np.random.default_rng(seed)
    count = len(measured_truth)
    weights = rng.multinomial(count, np.full(count, 1 / count), resamples).astype(np.float64)
    spread = classification.auc_weighted(measured_logits, measured_truth, weights)
    return {
        **fitted,
        "operating_point": {
            "logit": threshold,
            "probability": float(apply(fitted, np.array([threshold]))[0]),
        },
        "auc_within_synthetic": classification.auc(measured_logits, measured_truth),
        "auc_ci95": np.nanpercentile(spread, [2.5, 97.5]).tolist(),
        "acceptance_rate": float(accepted[real_like].mean()),
        "rejection_rate": float((~accepted[~real_like]).mean()),
        "ece": calibration.ece(prob, measured_truth, bins),
        "brier": float(np.mean((prob - measured_truth) ** 2)),
        "reliability": {
            name: values.tolist()
            for name, values in calibration.reliability(prob, measured_truth, bins).items()
        },
        "counts": {
            "calibration": np.bincount(truth, minlength=2).tolist(),
            "measurement": np.bincount(measured_truth, minlength=2).tolist(),
        },
    }
