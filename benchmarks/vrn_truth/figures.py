"""Figures and tables of the other studies."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.vrn_truth import measures, plots, pools, studies
from benchmarks.vrn_truth.main_figure import WORDS
from benchmarks.vrn_truth.results import (
    FILTERS,
    SIZE,
    Part,
    Results,
    differences,
    points,
    rows,
    series,
    table,
)

_VARIANTS = {
    "noise": "mistakes of the experts",
    "positives": "positives of the VRN",
    "head": "head of the VRN",
    "lr": "learning rate of the VRN",
    "depth": "depth of the VRN",
}
_WIDE = (800, 280)


def kinds(found: Results) -> Part | None:
    """AUC by kind of fault."""
    results = {
        kind: found("main", family=family, rate=studies.RATE)
        for family, names in pools.FAMILIES.items()
        for kind in names
    }
    if not all(results.values()):
        return None
    lines, body, kept = [], {}, {}
    for name in FILTERS:
        kept[name] = [
            measures.text(measures.collect(one, "filters", name, "kept_by_kind", kind))
            for kind, one in results.items()
        ]
        values = [
            measures.collect(one, "filters", name, "auc_by_kind", kind)
            for kind, one in results.items()
        ]
        shown = [measures.interval(value) for value in values]
        if name == "random":  # which has no kind
            shown = [(0.5, 0.5, 0.5)] * len(results)
        bound = name in ("random", "oracle")
        lines.append(plots.Series(name, shown, joined=False, bound=bound))
        if not bound:
            body[name] = [measures.text(value) for value in values]
    places = [kind.replace("_", "\n") for kind in results]
    axis = "AUC, sound against this fault"
    panel = plots.Panel("Which faults each filter sees", places, axis, lines, 0.2, 1.02)
    heads = [kind.replace("_", " ") for kind in results]
    text = table(heads, body, "AUC by kind of fault, 30 % faults")
    text += "\n" + table(heads, kept, "Share of each kind that is in the kept half, 30 % faults")
    return text, [panel], 1, _WIDE


def effort(found: Results) -> Part | None:
    """AUC by the number of annotated images, beside filters that need none."""
    panels, texts = [], []
    for family in pools.FAMILIES:
        others = found("main", family=family, rate=studies.RATE)
        by_count = {
            n: others if n == studies.EFFORT else found("effort", family=family, count=n)
            for n in studies.EFFORTS
        }
        by_count = {n: one for n, one in by_count.items() if one}
        if not others or len(by_count) < 2:
            continue
        settings = list(by_count.values())
        lines = [plots.Series("vrn", points(settings, "vrn", "auc"))]
        lines += series(FILTERS[1:], [others] * len(settings), "filters", "*", "auc")
        places, label = [str(n) for n in by_count], "annotated images"
        title = f"faults of {WORDS[family]}"
        panels.append(plots.Panel(title, places, "AUC", lines, 0.3, 1.02, label))
        body = rows(["auc", "fault_rate", "recall"], settings, "vrn", "*")
        heads = [f"{n} annotated" for n in by_count]
        texts.append(table(heads, body, f"The VRN by effort, 30 % faults: {family}"))
    return ("\n".join(texts), panels, len(panels), SIZE) if panels else None


def variants(found: Results) -> Part | None:
    """The VRN with one thing changed, beside the VRN of the main study."""
    panels, texts = [], []
    for study, title in _VARIANTS.items():
        settings = studies.STUDIES[study][0]
        for family in dict.fromkeys(setting["family"] for setting in settings):
            results = {"as is": found("main", family=family, rate=studies.RATE)}
            for setting in settings:
                if setting["family"] == family:
                    results[setting["variant"]] = found(study, **setting)
            results = {name: one for name, one in results.items() if one}
            if len(results) > 1 and "as is" in results:
                panels.append(_variant_panel(f"{title} ({family})", results))
                texts.append(_variant_table(f"{title}, faults: {family}", results))
    return ("\n".join(texts), panels, 2, SIZE) if panels else None


def _variant_panel(title: str, results: Mapping[str, Sequence[Any]]) -> plots.Panel:
    count, settings = len(results), list(results.values())
    lines = [
        plots.Series("vrn", points(settings, "vrn", "auc"), joined=False),
        plots.Series("random", [(0.5, 0.5, 0.5)] * count, bound=True),
        plots.Series("oracle", [(1.0, 1.0, 1.0)] * count, bound=True),
    ]
    places = [name.replace(", ", ",\n").replace("two ", "two\n") for name in results]
    return plots.Panel(title, places, "AUC", lines, 0.4, 1.02)


def _variant_table(title: str, results: Mapping[str, Sequence[Any]]) -> str:
    base = measures.collect(results["as is"], "vrn", "auc")
    body = {}
    for name, one in results.items():
        auc = measures.collect(one, "vrn", "auc")
        body[name] = [
            measures.text(auc),
            measures.text(differences(auc, base), sign="+") if name != "as is" else "",
            measures.text(measures.collect(one, "vrn", "fault_rate")),
            measures.text(measures.collect(one, "auc_real_sound")),
        ]
    heads = ("AUC within synthetic", "minus as is", "faults in the kept half",
             "AUC, real against sound synthetic")  # fmt: skip
    return table(heads, body, title)


def generator(found: Results) -> Part | None:
    """What the analyser finds in a GAN's images, before and after each filter."""
    if not found.all("generator"):
        return None
    results = found("generator")
    parts, filters = list(results[0]["faults"]), list(results[0]["auc"])
    titles = {
        "faults": "Findings in a GAN's images, before and after each filter",
        "disease": "Lesions seen in a GAN's images, and where nodules lie",
    }
    texts = []
    for topic, title in titles.items():
        # Where no nodule is seen there is no place of nodules.
        every = [set(cell[topic][part]) for cell in results for part in parts]
        heads = [name for name in results[0][topic]["real"] if all(name in one for one in every)]
        body = {
            part: [measures.text(measures.collect(results, topic, part, name)) for name in heads]
            for part in parts
        }
        texts.append(table([head.replace("_", " ") for head in heads], body, title))
    if all(cell["auc"]["vrn"] is not None for cell in results):
        body = rows(filters, [results], "auc", "*")
        texts.append(table(["AUC"], body, "AUC, images without a finding against the others"))
    places = [part for part in parts if part not in ("random", "oracle")]
    shown = [measures.interval(measures.collect(results, "faults", p, "any")) for p in places]
    lines = [plots.Series("with a finding", shown, joined=False)]
    lines += series(("random", "oracle"), [results] * len(places), "faults", "*", "any")
    title = "Real images, a GAN's half-way and at the end, and what each filter keeps of the last"
    axis = "share of images with a finding of the analyser"
    panel = plots.Panel(title, places, axis, lines, 0, 1)
    return "\n".join(texts), [panel], 1, _WIDE
