"""What the report shows of maps of disease: curves, and a few test images with their maps.

`launch.evaluate` keeps both beside its numbers: the curves in detection*.json, the images in a
detection*.npz of the same name. Images are chosen by score alone.
"""

import pathlib
from typing import Any

import numpy as np

from data import tables
from evaluation import detection, localisation

EVEN, WORST = 4, 3  # images of each kind at equal steps of their rank, and at its end
_POINTS = 200  # of a curve
_MOST_FALSE = 2 * max(localisation.RATES)  # false positives per image, where the curve ends


def curves(
    maps: np.ndarray,
    diseased: np.ndarray,
    score: str,
    masks: np.ndarray | None = None,
    threshold: float | None = None,
) -> dict[str, dict[str, list[float]]]:
    """The ROC curve of the images and, with masks, the FROC curve of the lesions.

    Args:
      maps: [N, *S].
      diseased: bool [N].
      score: one of `detection.SCORES`.
      masks: bool [N, *S].
      threshold: makes the maps binary.

    Returns:
      'roc' and, with masks, 'froc': 'false' (a rate, or false positives per image) and 'true' (the
      sensitivity), at most 200 numbers each.
    """
    found = {"roc": detection.roc(detection.score(maps, score), diseased)}
    if masks is not None and threshold is not None:
        false, true = localisation.froc(localisation.find(maps, maps > threshold, masks))
        few = false[0] <= _MOST_FALSE
        found["froc"] = false[0][few], true[0][few]
    return {name: {"false": _thin(x), "true": _thin(y)} for name, (x, y) in found.items()}


def _thin(values: np.ndarray) -> list[float]:
    rows = np.linspace(0, len(values) - 1, min(len(values), _POINTS))
    return [round(float(one), 5) for one in values[np.rint(rows).astype(int)]]


def choose(scores: np.ndarray, diseased: np.ndarray) -> dict[str, np.ndarray]:
    """Which images are shown, by what they stand for, each at most once.

    Args:
      scores: [N].
      diseased: bool [N].

    Returns:
      'diseased' and 'healthy', at equal steps of their rank, from the highest score down; 'missed',
      the diseased images of the lowest scores, and 'false', the healthy ones of the highest. The
      worst comes first. Rows, int.
    """
    chosen, shown = {}, set()
    order = np.argsort(scores, kind="stable")
    low = {name: order[diseased[order] == ill] for name, ill in (("diseased", 1), ("healthy", 0))}
    for name, rows in (("missed", low["diseased"]), ("false", low["healthy"][::-1])):
        chosen[name] = rows[:WORST]
        shown |= set(rows[:WORST].tolist())
    for name, rows in low.items():
        rest = np.array([row for row in rows[::-1] if row not in shown], int)
        count = min(EVEN, len(rest))
        chosen[name] = rest[((np.arange(count) + 0.5) * len(rest) / max(count, 1)).astype(int)]
    return {name: chosen[name] for name in ("diseased", "healthy", "missed", "false")}


def keep(
    path: pathlib.Path,
    *,
    images: np.ndarray,
    maps: np.ndarray,
    diseased: np.ndarray,
    score: str,
    threshold: float | None = None,
    **more: np.ndarray | None,
) -> None:
    """Writes the images that are shown, of volumes the slice in which the map is largest.

    Args:
      path: of the npz file.
      images: [N, *S, C].
      maps: [N, *S].
      diseased: bool [N].
      score: one of `detection.SCORES`.
      threshold: makes the maps binary.
      more: 'own', 'healthy' and 'twins', like images, and 'masks', like maps; those there are.

    The file has these arrays of the E images shown, and 'row', 'kind' (a key of `choose`), 'score',
    'above' (the share of healthy images whose score is lower) and, with a threshold, 'found', where
    candidates are.
    """
    scores = detection.score(maps, score)
    chosen = choose(scores, diseased)
    rows = np.concatenate(list(chosen.values()))
    kinds = np.repeat(list(chosen), [len(one) for one in chosen.values()])
    healthy = np.sort(scores[~diseased])
    arrays: dict[str, Any] = {"images": images, "maps": maps} | more
    arrays = {name: array[rows] for name, array in arrays.items() if array is not None}
    if threshold is not None:
        arrays["found"] = np.stack(
            [localisation.candidates(one > threshold)[0] > 0 for one in arrays["maps"]]
        )
    if maps.ndim == 4:
        largest = arrays["maps"].max((2, 3)).argmax(1)
        arrays = {name: array[np.arange(len(rows)), largest] for name, array in arrays.items()}
    tables.write_npz(
        path,
        row=rows,
        kind=kinds,
        score=scores[rows],
        above=np.searchsorted(healthy, scores[rows]) / len(healthy),
        **{name: array.astype(np.float32) if array.dtype != bool else array
           for name, array in arrays.items()},
    )  # fmt: skip
