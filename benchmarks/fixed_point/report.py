"""Measurements as a table in Markdown: a row for each method, mean and deviation over seeds."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks import cells
from benchmarks.fixed_point import methods

Result = Mapping[str, Any]
Value = Callable[[Result], Any]  # a number, or one with its interval


class Column(NamedTuple):
    """What a column shows of a result, and with how many digits."""

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


COLUMNS = (
    Column("AUC by the score that validation chose", lambda r: r["auc"][r["score"]]),
    Column("AUC by the largest change", _of("auc", "max", "mean")),
    Column("AUC by the network itself", _of("auc", "network", "mean")),
    Column("AUC within slice heights", lambda r: r["matched"][r["score"]]),
    Column("sensitivity at 0.5 FP", _found(0.5)),
    Column("1 FP", _of("localisation", "threshold", "1.0")),
    Column("2 FP", _found(2.0)),
    Column("two colours, 1 FP", _found(1.0, "two_means")),
    Column("pixel AP", _of("pixel_ap")),
    Column("Dice", _of("dice")),
    Column("change outside", _of("off_target", "outside"), 4),
    Column("inside", _of("off_target", "inside"), 4),
    Column("G(x, own) - x", _of("fixed_point"), 4),
    Column("L1 to the twin", _of("twin", "after", "distance"), 4),
    Column("before", _of("twin", "before", "distance"), 4),
    Column("SSIM to the twin", _of("twin", "after", "ssim")),
    Column("before", _of("twin", "before", "ssim")),
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
    """One row per method, of its results, one for each seed; '-' where it has no such number.

    What no method has is left out.
    """
    columns = [
        (column.name, [_shown(column, found) for found in results.values()]) for column in COLUMNS
    ]
    columns = [(name, shown) for name, shown in columns if set(shown) != {"-"}]
    rows = [["", *(name for name, _ in columns)], ["---"] * (len(columns) + 1)]
    for i, method in enumerate(results):
        rows.append([method, *(shown[i] for _, shown in columns)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _shown(column: Column, found: Sequence[Result]) -> str:
    try:
        return text([column.value(result) for result in found], column.digits)
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
