"""Results of all seeds, as points of a figure and as rows of a table."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import cells
from benchmarks.vrn_truth import measures, plots, studies

FILTERS = ("vrn", "discriminator", "knn", "confidence", "random", "oracle")
BOUNDS = ("random", "oracle", "unfiltered")  # not filters, but what filters lie between
SIZE = (400, 230)  # pixels of a panel
# Tables in Markdown; panels; columns of panels; and the size of a panel.
Part = tuple[str, list[plots.Panel], int, tuple[int, int]]


class Results:
    """Results by study and setting, one per seed; none where a seed is missing."""

    def __init__(self, folder: pathlib.Path, seeds: Sequence[int]):
        self._folder, self._seeds = folder, seeds

    def __call__(self, study: str, **setting: Any) -> list[Any]:
        """What was measured of a setting."""
        return cells.read(self._folder, study, self._seeds, **setting)

    def made(self, study: str) -> list[Any]:
        """The files of the settings of a study that are complete, with commit and seconds."""
        settings = studies.STUDIES[study][0]
        found = [cells.files(self._folder, study, self._seeds, **one) for one in settings]
        return [made for one in found for made in one]

    def all(self, study: str) -> bool:
        """Whether a study is complete."""
        return all(self(study, **setting) for setting in studies.STUDIES[study][0])


def points(settings: Sequence[Sequence[Any]], *path: str) -> list[tuple[float, float, float]]:
    """Mean and interval of the value at `path`, for every setting."""
    return [measures.interval(measures.collect(one, *path)) for one in settings]


def series(
    names: Sequence[str], settings: Sequence[Sequence[Any]], *path: str, joined: bool = True
) -> list[plots.Series]:
    """One series per name, which takes the place of '*' in `path`."""
    return [
        plots.Series(name, points(settings, *_named(path, name)), joined, bound=name in BOUNDS)
        for name in names
    ]


def rows(
    names: Sequence[str], settings: Sequence[Sequence[Any]], *path: str, **format: Any
) -> dict[str, list[str]]:
    """One row per name, which takes the place of '*' in `path`, and one column per setting."""
    return {
        name: [
            measures.text(measures.collect(one, *_named(path, name)), **format) for one in settings
        ]
        for name in names
    }


def _named(path: Sequence[str], name: str) -> list[str]:
    return [name if step == "*" else step for step in path]


def differences(ones: Sequence[float], others: Sequence[float]) -> list[float]:
    """Seed by seed."""
    return [one - other for one, other in zip(ones, others, strict=True)]


def table(head: Sequence[str], body: Mapping[str, Sequence[str]], title: str) -> str:
    """A table in Markdown under a heading."""
    lines = [f"## {title}", "", "| | " + " | ".join(head) + " |", "|---" * (len(head) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(row) + " |" for name, row in body.items()]
    return "\n".join([*lines, ""])
