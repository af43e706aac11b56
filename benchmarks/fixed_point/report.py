"""Measurements as a table in Markdown: a column for each method, mean and deviation over seeds."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks import cells
from benchmarks.fixed_point import methods

Result = Mapping[str, Any]
Value = Callable[[Result], Any]  # a number, or one with its interval


class Row(NamedTuple):
    """What a row shows of a result, and with how many digits."""

    name: str
    value: Value
    digits: int = 3


def _of(*path: str) -> Value:
    """The value at a path of names."""

    def value(result: Result) -> Any:
        found: Any = result
        for name in path:
            found = found[name]
        return found

    return value


def _found(rate: float, binary: str = "threshold") -> Value:
    return _of("localisation", binary, str(rate), "mean")


ROWS = (
    Row("AUC by the score that validation chose", lambda r: r["auc"][r["score"]]),
    Row("AUC by the largest change", _of("auc", "max", "mean")),
    Row("AUC by the network itself", _of("auc", "network", "mean")),
    Row("AUC within slice heights", lambda r: r["matched"][r["score"]]),
    Row("AUC by the height alone", _of("height")),
    Row("sensitivity at 0.5 FP", _found(0.5)),
    Row("at 1 FP", _of("localisation", "threshold", "1.0")),
    Row("at 2 FP", _found(2.0)),
    Row("by two colours, at 1 FP", _found(1.0, "two_means")),
    Row("average precision of pixels", _of("pixel_ap")),
    Row("Dice", _of("dice")),
    Row("mean change outside lesions", _of("off_target", "outside"), 4),
    Row("inside", _of("off_target", "inside"), 4),
    Row("\\|G(x, own) - x\\|", _of("fixed_point"), 4),
    Row("distance to the healthy twin", _of("twin", "after", "distance"), 4),
    Row("before", _of("twin", "before", "distance"), 4),
    Row("SSIM with it", _of("twin", "after", "ssim")),
    Row("before", _of("twin", "before", "ssim")),
)


def text(values: Sequence[Any], digits: int) -> str:
    """Mean of one value per seed, their standard deviation, and the mean of their intervals.

    Args:
        values: numbers; or mappings with 'mean' and 'ci95', the ends of an interval.
        digits: behind the point.
    """
    numbers = [v["mean"] if isinstance(v, Mapping) else v for v in values]
    said = f"{np.mean(numbers):.{digits}f}"
    if len(numbers) > 1:
        said += f" ± {np.std(numbers, ddof=1):.{digits}f}"
    if isinstance(values[0], Mapping):
        low, high = np.mean([v["ci95"] for v in values], axis=0)
        said += f" ({low:.{digits}f} to {high:.{digits}f})"
    return said


def table(results: Mapping[str, Sequence[Result]]) -> str:
    """One column per method, of its results, one for each seed; '-' where it has no such number.

    What no method has is left out.
    """
    rows = [["", *results], ["---"] * (len(results) + 1)]
    for row in ROWS:
        shown = [_shown(row, found) for found in results.values()]
        if set(shown) != {"-"}:
            rows.append([row.name, *shown])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _shown(row: Row, found: Sequence[Result]) -> str:
    try:
        return text([row.value(result) for result in found], row.digits)
    except KeyError:
        return "-"


def write(
    workdir: pathlib.Path,
    data: str,
    names: Sequence[str],
    seeds: Sequence[int],
    source: str | None = None,
) -> str:
    """The table of some data with its origin, as far as it is measured; '' where nothing is."""
    made = {
        name: cells.files(methods.folder(workdir, data, name), data, seeds, method=name)
        for name in names
    }
    made = {name: found for name, found in made.items() if found}
    if not made:
        return ""
    origin = [
        f"- {name}: commit {' '.join(sorted({one['commit'] for one in found}))}, "
        f"{np.mean([one['cpu_seconds'] for one in found]) / 60:.1f} minutes of one core a seed:\n"
        + "\n".join(
            f"  `python {' '.join(program)}`" for program in methods.commands(data, name, source)
        )
        for name, found in made.items()
    ]
    counts = next(iter(made.values()))[0]["result"]
    images, ill = counts["images"]["test"], counts["diseased"]["test"]
    return "\n".join([
        f"## {data}",
        "",
        f"{images} test images, {ill} of them diseased; seeds {', '.join(map(str, seeds))}: mean ± "
        "standard deviation, in brackets the 95 % interval by patients, its ends averaged over "
        "seeds. FP: false positives per image.",
        "",
        table({name: [one["result"] for one in found] for name, found in made.items()}),
        "",
        *origin,
        "",
    ])  # fmt: skip
