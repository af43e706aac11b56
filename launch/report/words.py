"""Numbers as words: what the report says out loud, and no more than the intervals allow."""

from collections.abc import Mapping
from typing import Any

MINUS, THIN = "\N{MINUS SIGN}", "\N{NARROW NO-BREAK SPACE}"
METRICS = {"balanced_accuracy": "balanced accuracy", "accuracy": "accuracy", "auc": "AUC"}
GAIN, LOSS, NOTHING = "a gain", "a loss", "no difference shown"
# The control that answers "does the VRN choose well?" comes first, then those for "does adding
# synthetic images help at all?".
CONTROLS = {
    "random": "randomly kept images",
    "unfiltered": "all synthetic images, unfiltered",
    "classical": "real images with classical augmentation alone",
    "real": "real images alone",
    "duplicate": "real images repeated to the same count",
    "imported": "synthetic images of the source",
    "discriminator": "images kept by the discriminator",
    "knn": "images kept by nearest neighbours",
    "confidence": "images kept by classifier confidence",
}


def number(value: float | None, decimals: int = 2) -> str:
    """A number with a true minus sign; a dash where there is none."""
    if value is None:
        return "\N{EN DASH}"
    return f"{_rounded(value, decimals):.{decimals}f}".replace("-", MINUS)


def percent(value: float | None, decimals: int = 1) -> str:
    """A share as percentage."""
    return number(None if value is None else 100 * value, decimals) + (
        "" if value is None else f"{THIN}%"
    )


def points(value: float) -> str:
    """A difference of shares in percentage points, always with its sign."""
    return f"{_rounded(100 * value, 1):+.1f}".replace("-", MINUS)


def _rounded(value: float, decimals: int) -> float:
    """What is nothing once rounded has no minus sign."""
    return round(value, decimals) + 0.0


def interval(value: Mapping[str, Any]) -> tuple[float, float] | None:
    """The ends of a 95 % interval, or None."""
    low, high = value["ci95"]
    return None if low is None or high is None else (low, high)


def with_interval(value: Mapping[str, Any], *, signed: bool = False) -> str:
    """'83.1 (81.0 to 85.2)' in per cent, or in points with signs."""
    if value["mean"] is None:
        return number(None)
    write = points if signed else (lambda one: number(100 * one, 1))
    ends = interval(value)
    tail = "" if ends is None else f" ({write(ends[0])} to {write(ends[1])})"
    return write(value["mean"]) + tail


def plain(value: Mapping[str, Any] | None, decimals: int = 2) -> str:
    """'0.83 (0.81 to 0.85)', or a dash."""
    if value is None or value["mean"] is None:
        return number(None)
    ends = interval(value)
    tail = "" if ends is None else f" ({number(ends[0], decimals)} to {number(ends[1], decimals)})"
    return number(value["mean"], decimals) + tail


def verdict(value: Mapping[str, Any]) -> str:
    """What the interval of a difference shows: `GAIN`, `LOSS` or `NOTHING`."""
    ends = interval(value)
    if ends is None:
        return "no interval, so nothing shown"
    if ends[0] > 0:
        return GAIN
    return LOSS if ends[1] < 0 else NOTHING


def comparisons(
    paired: Mapping[str, Mapping[str, Any]], metric: str = "balanced_accuracy"
) -> list[str]:
    """One sentence per control, in the order of `CONTROLS`; others follow."""
    controls = {pair.split("-", 1)[1]: values[metric] for pair, values in paired.items()}
    order = [name for name in CONTROLS if name in controls]
    order += [name for name in controls if name not in CONTROLS]
    sentences = []
    for name in order:
        value = controls[name]
        if value["mean"] is None:
            continue
        ends = interval(value)
        within = (
            "" if ends is None else f" (95{THIN}% interval {points(ends[0])} to {points(ends[1])})"
        )
        sentences.append(
            f"Adding VRN-kept images changed {METRICS[metric]} by {points(value['mean'])} points"
            f"{within} against {CONTROLS.get(name, name)}: {verdict(value)}."
        )
    return sentences


def found(numbers: Mapping[str, Any]) -> str:
    """What maps of disease do, in a few words, of the content of a detection*.json.

    Of slices the area within heights decides, since that of all images may be what the height alone
    gives; both are said beside it.
    """
    area, among, beside = numbers["auc"][numbers["score"]], "", ""
    if "matched" in numbers:
        beside = (
            f" Of all images the AUC is {plain(area)}; the height of a slice alone gives "
            f"{plain(numbers['height'])}."
        )
        area, among = numbers["matched"][numbers["score"]], " among slices of one height"
    ends = interval(area)
    if ends is not None and ends[1] < 0.5:
        return f"The maps take healthy images for diseased ones: AUC {plain(area)}{among}.{beside}"
    if ends is None or ends[0] <= 0.5:
        return (
            f"That the maps find disease is not shown: AUC {plain(area)}{among}, 0.5 by chance."
            f"{beside}"
        )
    said = f"The maps tell diseased from healthy images with an AUC of {plain(area)}{among}"
    if "localisation" in numbers:
        share = numbers["localisation"]["threshold"]["1.0"]
        said += f" and find {percent(share['mean'], 0)} of the lesions at one false positive each"
    return f"{said}.{beside}"


def caveat(test: Mapping[str, Any], pairs: int) -> str:
    """What the intervals cover and what they do not."""
    seeds, groups = test["seeds"], test["groups"]
    patients = "" if groups is None else f" of {groups} patients or groups, drawn together"
    over = (
        f"{seeds} target training seeds and {test['images']} real test images{patients}"
        if seeds > 1
        else f"{test['images']} real test images{patients} but a single training seed"
    )
    few = " With so few seeds they are somewhat too narrow." if 1 < seeds < 5 else ""
    return (
        f"Intervals cover {over}.{few} They do not cover the luck of the generator's training: "
        f"there is one here. {_pairs(pairs)}"
    )


def _pairs(pairs: int) -> str:
    if pairs < 2:
        return ""
    return (
        f"The {pairs} comparisons are not corrected for their number: of 20 such intervals around "
        "no true difference, one would miss zero by chance."
    )


def duration(seconds: float) -> str:
    """'1 h 05 min', '3 min 20 s' or '4.2 s'."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
