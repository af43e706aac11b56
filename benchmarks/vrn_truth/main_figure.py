"""The main figure: filters against rates of faults, and the target models they lead to."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.vrn_truth import measures, plots, pools, studies
from benchmarks.vrn_truth.results import (
    FILTERS,
    SIZE,
    Part,
    Results,
    differences,
    rows,
    series,
    table,
)

WORDS = {"absurd": "anatomy: right in every patch, absurd as a whole", "texture": "texture"}
_ARMS = ("unfiltered", *FILTERS)
# Measure -> the heading of its table.
_OF_FILTERS = {
    "auc": "AUC",
    "fault_rate": "Share of faults in the kept half",
    "precision": "Precision: share of sound images in the kept half",
    "recall": "Recall: share of the sound images that is kept",
}
_OF_ANNOTATORS = {
    "auc": "Annotators without an expert: AUC",
    "precision": "Annotators: share of sound images among those called real-like",
    "recall": "Annotators: share of the sound images called real-like",
    "missed": "Annotators: share of the faulty images called real-like",
}


def part(found: Results) -> Part | None:
    """Figure and tables of the studies 'main' and 'real', of the rates that are complete."""
    rates = [
        rate
        for rate in studies.RATES
        if all(found("main", family=family, rate=rate) for family in pools.FAMILIES)
    ]
    if not (rates and found.all("real")):
        return None
    families = {
        family: [found("main", family=family, rate=rate) for rate in rates]
        for family in pools.FAMILIES
    }
    places = [f"{rate:.0%}" for rate in rates]
    heads = [f"{family}, {place}" for family in families for place in places]
    every = [one for by_rate in families.values() for one in by_rate]
    real = measures.collect(found("real"), "accuracy")
    texts = [
        *_measured(heads, FILTERS, every, "filters", _OF_FILTERS),
        *_targets(heads, every, real),
        *_measured(heads, studies.AUTOMATIC, every, "annotators", _OF_ANNOTATORS),
        _operating_point(heads, every),
    ]
    return "\n".join(texts), _panels(families, places, real), len(families), SIZE


def alone(found: Results) -> Part | None:
    """Target models trained on what filters keep of a pool and on nothing else."""
    if not (found.all("alone") and found.all("real")):
        return None
    settings = studies.STUDIES["alone"][0]
    every = [found("alone", **setting) for setting in settings]
    heads = [f"{setting['family']}, {setting['rate']:.0%}" for setting in settings]
    real = measures.collect(found("real"), "accuracy")
    lines = _accuracies(every, real, joined=False)
    low, high = _ends(lines)
    title, axis = "Trained on the pool alone", "balanced accuracy of the target model"
    panel = plots.Panel(title, heads, axis, lines, low, high)
    texts = [text.replace("## ", "## Pool alone: ") for text in _targets(heads, every, real)]
    return "\n".join(texts), [panel], 1, (500, 250)


def _panels(
    families: Mapping[str, Sequence[Sequence[Any]]], places: Sequence[str], real: Sequence[float]
) -> list[plots.Panel]:
    first, second, third = [], [], []
    accuracies = {
        family: _accuracies(by_rate, real, joined=True) for family, by_rate in families.items()
    }
    low, high = _ends(line for lines in accuracies.values() for line in lines)  # of both panels
    for family, by_rate in families.items():
        aucs = series(FILTERS, by_rate, "filters", "*", "auc")
        kept = series(FILTERS, by_rate, "filters", "*", "fault_rate")
        title = f"faults of {WORDS[family]}"
        first.append(plots.Panel(title, places, "AUC, sound against faulty", aucs, 0.3, 1.02))
        second.append(plots.Panel("", places, "share of faults in the kept half", kept, 0, 0.52))
        third.append(
            plots.Panel(
                "",
                places,
                "balanced accuracy of the target model",
                accuracies[family],
                low,
                high,
                "faults in the pool",
            )
        )
    return first + second + third


def _accuracies(
    settings: Sequence[Sequence[Any]], real: Sequence[float], *, joined: bool
) -> list[plots.Series]:
    """What each arm's target models reach, beside those trained on real images alone."""
    bound = plots.Series("real", [measures.interval(real)] * len(settings), bound=True)
    return [*series(_ARMS, settings, "accuracy", "*", joined=joined), bound]


def _ends(lines: Iterable[plots.Series]) -> tuple[float, float]:
    """The lowest and the highest end of all intervals."""
    points = [point for line in lines for point in line.points]
    return min(point[1] for point in points), max(point[2] for point in points)


def _measured(
    heads: Sequence[str],
    names: Sequence[str],
    every: Sequence[Sequence[Any]],
    part: str,
    titles: Mapping[str, str],
) -> list[str]:
    """One table for each measure of `part`, with a row for each name."""
    return [
        table(heads, rows(names, every, part, "*", measure), title)
        for measure, title in titles.items()
    ]


def _targets(
    heads: Sequence[str], every: Sequence[Sequence[Any]], real: Sequence[float]
) -> list[str]:
    percent = {"scale": 100, "digits": 1}
    body = rows(_ARMS, every, "accuracy", "*", **percent)
    body["real"] = [measures.text(real, **percent)] * len(every)
    paired = {
        f"vrn - {name}": [
            measures.text(
                differences(
                    measures.collect(one, "accuracy", "vrn"),
                    real if name == "real" else measures.collect(one, "accuracy", name),
                ),
                sign="+",
                **percent,
            )
            for one in every
        ]
        for name in (*_ARMS, "real")
        if name != "vrn"
    }
    return [
        table(heads, body, "Balanced accuracy of the target model, %"),
        table(heads, paired, "Differences of balanced accuracy, points, paired by seed"),
    ]


def _operating_point(heads: Sequence[str], every: Sequence[Sequence[Any]]) -> str:
    """Only of settings in which every seed's VRN could be calibrated."""
    names = ("auc_within_synthetic", "ece", "accepted_of_real", "accepted_of_sound",
             "accepted_of_faulty")  # fmt: skip
    able = [all(cell["calibration"] for cell in one) for one in every]
    chosen = [one for one, is_able in zip(every, able, strict=True) if is_able]
    head = [name for name, is_able in zip(heads, able, strict=True) if is_able]
    body = rows(names, chosen, "calibration", "*")
    return table(head, body, "The VRN at the operating point that its calibration chose")
