"""results.json: every number of the report, computed from what the stages left on disk."""

import math
from typing import Any

import ml_collections
import numpy as np

from evaluation import statistics
from launch.report import detection, measures
from launch.report.collect import Found

REFERENCE = "vrn"
# The calibration map itself stays in vrn/calibration.json.
_MAP = ("method", "scale", "bias", "knots", "values")


def build(found: Found, config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Returns the content of results.json; numbers that do not exist are None.

    Apart from `seconds` it is a function of the stages' outputs alone.
    """
    test = found.real["test"]
    compared = statistics.summarise(
        {name: arm.outcomes for name, arm in found.arms.items()},
        reference=REFERENCE,
        groups=test.groups,
        resamples=config.report.resamples,
    )
    return without_nan(
        {
            "arms": compared["arms"],
            "paired": compared["paired"],
            "vrn": _vrn(found),
            "seconds": {name: record["seconds"] for name, record in found.stages.items()},
            "choices": {name: arm.choice for name, arm in found.arms.items()},
            "test": {
                "images": len(test),
                "groups": None if test.groups is None else len(np.unique(test.groups)),
                "seeds": config.target.seeds,
            },
            "classes": list(found.class_names),
            "annotation": measures.annotation(found),
            "review": found.review,
            "detection": detection.numbers(found.detection),
            "histograms": measures.histograms(found),
            "memorisation": {
                space: measures.copying(found, space) for space in ("features", "pixels")
            },
            "fidelity": measures.likeness(found),
            "provenance": {
                name: {key: record.get(key) for key in ("digest", "code", "device", "versions")}
                for name, record in found.stages.items()
            },
        }
    )


def _vrn(found: Found) -> dict[str, Any]:
    """The VRN's measurements, and the share of the second pool it would accept."""
    measured = {key: value for key, value in found.calibration.items() if key not in _MAP}
    accepted = found.filters["vrn"].score >= measured["operating_point"]["logit"]
    return measured | {"accepted_of_second_pool": float(accepted.mean())}


def without_nan(value: Any) -> Any:
    """Plain Python values for JSON: NaN and infinities become None, arrays become lists."""
    if isinstance(value, dict):
        return {str(k): without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [without_nan(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
