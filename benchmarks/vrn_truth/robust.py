"""Figures and tables of what could mislead a VRN: a generator's trace, and another checkpoint."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.vrn_truth import measures, plots, studies, transfer
from benchmarks.vrn_truth.results import (
    SIZE,
    Part,
    Results,
    differences,
    points,
    rows,
    series,
    table,
)

_POSITIVES = {
    "real": "vrn, real positives",
    "real+accepted": "vrn, real and accepted positives",
}
_TRAP = "AUC, real against sound synthetic"
_WITHIN = "AUC within synthetic images"


def trap(found: Results) -> Part | None:
    """VRNs behind every guard, where synthetic images bear a trace."""
    within, beyond, texts = [], [], []
    for trace in ("doubled", "coarse", "faint"):
        results = {
            (positives, guard): made
            for positives in _POSITIVES
            for guard in studies.GUARDS
            if (made := _trap(found, trace, positives, guard))
        }
        if not any(guard == "none" for _, guard in results):
            continue
        title = f"trace: {trace}"
        within.append(_panel(title, _WITHIN, results, ("vrn", "auc"), 0.4))
        beyond.append(_panel("", _TRAP, results, ("auc_real_sound",), 0.4))
        texts.append(_table(f"Guards, {title}, 30 % faults of anatomy", results))
    return ("\n".join(texts), within + beyond, len(within), SIZE) if within else None


def _trap(found: Results, trace: str, positives: str, guard: str) -> list[Any]:
    """Of the trap's study, or of another that has measured the same."""
    if (trace, guard) != ("faint", "whole"):
        return found("trap", trace=trace, positives=positives, guard=guard)
    if positives == "real":
        return found("main", family="absurd", rate=studies.RATE)
    return found("positives", family="absurd", variant=positives)


_Guarded = Mapping[tuple[str, str], Sequence[Any]]


def _panel(
    title: str, axis: str, results: _Guarded, path: Sequence[str], low: float
) -> plots.Panel:
    guards = [guard for guard in studies.GUARDS if any(guard == other for _, other in results)]
    lines = []
    for positives, name in _POSITIVES.items():
        settings = [results.get((positives, guard)) for guard in guards]
        shown = [points([one], *path)[0] if one else None for one in settings]
        if any(shown):
            lines.append(plots.Series(name, shown, joined=False))
    # Who can't tell real images from sound synthetic ones has half of them in each order.
    bounds = {"random": 0.5, "oracle": 1.0} if axis == _WITHIN else {"random": 0.5}
    for name, value in bounds.items():
        lines.append(plots.Series(name, [(value,) * 3] * len(guards), bound=True))
    return plots.Panel(title, guards, axis, lines, low, 1.02, "guard")


def _table(title: str, results: _Guarded) -> str:
    body = {}
    for (positives, guard), one in results.items():
        auc = measures.collect(one, "vrn", "auc")
        bare = results.get((positives, "none"))
        paired = differences(auc, measures.collect(bare, "vrn", "auc")) if bare else None
        body[f"{_POSITIVES[positives]}; guard: {guard}"] = [
            measures.text(auc),
            measures.text(paired, sign="+") if paired and guard != "none" else "",
            measures.text(measures.collect(one, "vrn", "fault_rate")),
            measures.text(measures.collect(one, "auc_real_sound")),
        ]
    heads = (_WITHIN, "minus no guard, paired", "faults in the kept half", _TRAP)
    return table(heads, body, title)


def transferred(found: Results) -> Part | None:
    """VRNs of one checkpoint of a GAN on its own images and on those of the other."""
    results = {
        positives: {
            (learnt, used): [cell[used] for cell in made]
            for learnt in transfer.CHECKPOINTS
            if (made := found("transfer", learnt=learnt, positives=positives))
            for used in transfer.CHECKPOINTS
        }
        for positives in _POSITIVES
    }
    ways = list(results["real"])
    if not ways:
        return None
    results = {positives: one for positives, one in results.items() if list(one) == ways}
    heads = [f"learnt from the {learnt}, used on the {used}" for learnt, used in ways]
    lines, body = [], {}
    for positives, by_way in results.items():
        name, settings = _POSITIVES[positives], list(by_way.values())
        shown = points(settings, "filters", "vrn", "auc")
        lines.append(plots.Series(name, shown, joined=False))
        for heading, path in (
            (name, ("filters", "vrn", "auc")),
            (f"{name}: faults in the kept half", ("filters", "vrn", "fault_rate")),
            (f"{name}: {_TRAP}", ("auc_real_sound",)),
        ):
            body[heading] = [measures.text(measures.collect(one, *path)) for one in settings]
    every = list(results["real"].values())
    lines += series(("knn", "discriminator"), every, "filters", "*", "auc", joined=False)
    lines += series(("random", "oracle"), every, "filters", "*", "auc")
    body |= rows(["knn", "discriminator", "confidence", "random"], every, "filters", "*", "auc")
    axis = "AUC, images left as they are against images with a fault"
    places = [head.replace(", ", ",\n") for head in heads]
    panel = plots.Panel("Checkpoints of a GAN", places, axis, lines, 0.3, 1.02)
    text = table(heads, body, "Faults put into a GAN's images, and VRNs of two checkpoints")
    return text, [panel], 1, (800, 280)
