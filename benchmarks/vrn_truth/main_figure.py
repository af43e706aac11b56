"""The main figure: filters against rates of faults, and the target models they lead to."""

from collections.abc import Mapping, Sequence
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
        *_filters(heads, every),
        *_targets(heads, every, real),
        *_annotators(heads, every),
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
    lines = [
        *series(_ARMS, every, "accuracy", "*", joined=False),
        plots.Series("real", [measures.interval(real)] * len(every), bound=True),
    ]
    ends = [point for line in lines for point in line.points]
    low, high = min(point[1] for point in ends), max(point[2] for point in ends)
    title, axis = "Trained on the pool alone", "balanced accuracy of the target model"
    panel = plots.Panel(title, heads, axis, lines, low, high)
    texts = [text.replace("## ", "## Pool alone: ") for text in _targets(heads, every, real)]
    return "\n".join(texts), [panel], 1, (500, 250)


def _panels(
    families: Mapping[str, Sequence[Sequence[Any]]], places: Sequence[str], real: Sequence[float]
) -> list[plots.Panel]:
    first, second, third = [], [], []
    accuracies = {
        family: [
            *series(_ARMS, by_rate, "accuracy", "*"),
            plots.Series("real", [measures.interval(real)] * len(places), bound=True),
        ]
        for family, by_rate in families.items()
    }
    # Both panels have one scale.
    ends = [point for lines in accuracies.values() for line in lines for point in line.points]
    low, high = min(point[1] for point in ends), max(point[2] for point in ends)
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


def _filters(heads: Sequence[str], every: Sequence[Sequence[Any]]) -> list[str]:
    titles = {
        "auc": "AUC",
        "fault_rate": "Share of faults in the kept half",
        "precision": "Precision: share of sound images in the kept half",
        "recall": "Recall: share of the sound images that is kept",
    }
    return [
        table(heads, rows(FILTERS, every, "filters", "*", measure), title)
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


def _annotators(heads: Sequence[str], every: Sequence[Sequence[Any]]) -> list[str]:
    titles = {
        "auc": "AUC",
        "precision": "share of sound images among those called real-like",
        "recall": "share of the sound images called real-like",
        "missed": "share of the faulty images called real-like",
    }
    return [
        table(
            heads,
            rows(studies.AUTOMATIC, every, "annotators", "*", measure),
            f"Annotators without an expert: {title}",
        )
        for measure, title in titles.items()
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
