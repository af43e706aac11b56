"""Figures and tables of the studies that are complete."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.vrn_truth import cells, measures, plots, pools, studies
from data.tables import atomic_file

FILTERS = ("vrn", "discriminator", "knn", "confidence", "random", "oracle")
_SIZE = (400, 230)


def write(folder: pathlib.Path, figures: pathlib.Path, seeds: Sequence[int]) -> pathlib.Path:
    """Writes `truth_*.png` into `figures` and `folder`/tables.md; returns the latter's path.

    Args:
        folder: with the cells.
        figures: made when missing.
        seeds: a study with a missing seed is left out.
    """
    found = _Found(folder, seeds)
    figures.mkdir(parents=True, exist_ok=True)
    texts = []
    for name, make in _PARTS.items():
        made = make(found)
        if made is None:
            continue
        text, panels, columns, size = made
        texts.append(text)
        with atomic_file(figures / f"truth_{name}.png") as aside:
            plots.figure(panels, columns, size).quantize(64).save(aside, "PNG", optimize=True)
    with atomic_file(folder / "tables.md") as aside:
        aside.write_text("\n".join(texts) or "no study is complete\n")
    return folder / "tables.md"


class _Found:
    """Results by study and setting, one per seed."""

    def __init__(self, folder: pathlib.Path, seeds: Sequence[int]):
        self._folder, self._seeds = folder, seeds

    def __call__(self, study: str, **setting: Any) -> list[Any]:
        return cells.read(self._folder, study, self._seeds, **setting)

    def all(self, study: str) -> bool:
        return all(self(study, **setting) for setting in studies.STUDIES[study][0])


Part = tuple[str, list[plots.Panel], int, tuple[int, int]]


def _points(results: Sequence[Sequence[Any]], *path: str) -> list[tuple[float, float, float]]:
    return [measures.interval(measures.collect(one, *path)) for one in results]


def table(head: Sequence[str], rows: Mapping[str, Sequence[str]], title: str) -> str:
    """A table in Markdown under a heading."""
    lines = [f"## {title}", "", "| | " + " | ".join(head) + " |", "|---" * (len(head) + 1) + "|"]
    return "\n".join([*lines, *(f"| {k} | " + " | ".join(v) + " |" for k, v in rows.items()), ""])


def _main(found: _Found) -> Part | None:
    if not (found.all("main") and found.all("real")):
        return None
    places, panels, texts = [f"{rate:.0%}" for rate in studies.RATES], [], []
    real = measures.collect(found("real"), "accuracy")
    results = {
        family: [found("main", family=family, rate=rate) for rate in studies.RATES]
        for family in pools.FAMILIES
    }
    for family, by_rate in results.items():
        series = [
            plots.Series(n, _points(by_rate, "filters", n, "auc"), bound=n in ("random", "oracle"))
            for n in FILTERS
        ]
        title = f"faults of {_WORDS[family]}"
        panels.append(plots.Panel(title, places, "AUC, sound against faulty", series, 0.3, 1.02))
    for by_rate in results.values():
        series = [
            plots.Series(
                n, _points(by_rate, "filters", n, "fault_rate"), bound=n in ("random", "oracle")
            )
            for n in FILTERS
        ]
        panels.append(plots.Panel("", places, "share of faults in the kept half", series, 0, 0.5))
    for by_rate in results.values():
        series = [
            plots.Series(
                n, _points(by_rate, "accuracy", n), bound=n in ("random", "oracle", "unfiltered")
            )
            for n in (*FILTERS, "unfiltered")
        ]
        values = [point for one in series for point in one.points]
        lowest, highest = min(p[1] for p in values), max(p[2] for p in values)
        panels.append(
            plots.Panel(
                "", places, "balanced accuracy of the target model", series,
                lowest, highest, "faults in the pool",
            )
        )  # fmt: skip
    heads = [f"{family}, {place}" for family in results for place in places]
    every = [one for by_rate in results.values() for one in by_rate]
    for title, path in (("AUC", "auc"), ("Share of faults in the kept half", "fault_rate"),
                        ("Share of the sound images that is kept", "recall")):  # fmt: skip
        rows = {
            n: [measures.text(measures.collect(one, "filters", n, path)) for one in every]
            for n in FILTERS
        }
        texts.append(table(heads, rows, title))
    rows = {
        n: [measures.text(measures.collect(one, "accuracy", n), 100, 1) for one in every]
        for n in ("unfiltered", *FILTERS)
    }
    rows["real"] = [measures.text(real, 100, 1)] * len(every)
    texts.append(table(heads, rows, "Balanced accuracy of the target model, %"))
    rows = {
        f"vrn - {n}": [
            measures.text(
                [a - b for a, b in zip(*(measures.collect(one, "accuracy", m) for m in ("vrn", n)),
                                       strict=True)],
                100, 1, "+",
            )
            for one in every
        ]
        for n in ("unfiltered", *FILTERS[1:])
    }  # fmt: skip
    rows["vrn - real"] = [
        measures.text(
            [a - b for a, b in zip(measures.collect(one, "accuracy", "vrn"), real, strict=True)],
            100, 1, "+",
        )
        for one in every
    ]  # fmt: skip
    texts.append(table(heads, rows, "Differences of balanced accuracy, points, paired by seed"))
    for title, path in (("AUC", "auc"), ("Share of the faulty called real-like", "missed"),
                        ("Share of the sound called real-like", "recall")):  # fmt: skip
        rows = {
            n: [measures.text(measures.collect(one, "annotators", n, path)) for one in every]
            for n in studies.AUTOMATIC
        }
        texts.append(table(heads, rows, f"Annotators without labels: {title}"))
    names = ("auc_within_synthetic", "ece", "accepted_of_real", "accepted_of_sound",
             "accepted_of_faulty")  # fmt: skip
    rows = {
        n: [
            measures.text(measures.collect(one, "calibration", n))
            if all(cell["calibration"] for cell in one)
            else ""
            for one in every
        ]
        for n in names
    }
    texts.append(table(heads, rows, "The VRN at its own operating point"))
    return "\n".join(texts), panels, len(results), _SIZE


_WORDS = {"absurd": "anatomy: right in every patch, absurd as a whole", "texture": "texture"}


def _kinds(found: _Found) -> Part | None:
    if not found.all("main"):
        return None
    results = {
        kind: found("main", family=family, rate=studies.RATE)
        for family, kinds in pools.FAMILIES.items()
        for kind in kinds
    }
    series = []
    for name in FILTERS:
        if name == "random":
            points = [(0.5, 0.5, 0.5)] * len(results)
        else:
            points = [
                measures.interval(measures.collect(one, "filters", name, "auc_by_kind", kind))
                for kind, one in results.items()
            ]
        bound = name in ("random", "oracle")
        series.append(plots.Series(name, points, joined=False, bound=bound))
    places = [kind.replace("_", "\n") for kind in results]
    panel = plots.Panel(
        "Which faults each filter sees", places, "AUC, sound against this fault", series, 0.2, 1.02
    )
    rows = {
        kind.replace("_", " "): [
            measures.text(measures.collect(one, "filters", n, "auc_by_kind", kind))
            for n in FILTERS[:-2]
        ]
        for kind, one in results.items()
    }
    return table(FILTERS[:-2], rows, "AUC by kind of fault, 30 % faults"), [panel], 1, (800, 280)


def _effort(found: _Found) -> Part | None:
    if not (found.all("effort") and found.all("main")):
        return None
    panels, rows = [], {}
    for family in pools.FAMILIES:
        others = found("main", family=family, rate=studies.RATE)
        by_count = [
            others if n == studies.EFFORT else found("effort", family=family, count=n)
            for n in studies.EFFORTS
        ]
        series = [plots.Series("vrn", _points(by_count, "vrn", "auc"))]
        for name in FILTERS[1:]:
            point = measures.interval(measures.collect(others, "filters", name, "auc"))
            bound = name in ("random", "oracle")
            series.append(plots.Series(name, [point] * len(studies.EFFORTS), bound=bound))
        places = [str(n) for n in studies.EFFORTS]
        panels.append(
            plots.Panel(
                f"faults of {_WORDS[family]}", places, "AUC", series, 0.3, 1.02, "annotated images"
            )
        )
        rows[family] = [measures.text(measures.collect(one, "vrn", "auc")) for one in by_count]
        rows[f"{family}, faults in the kept half"] = [
            measures.text(measures.collect(one, "vrn", "fault_rate")) for one in by_count
        ]
    heads = [f"{n} annotated" for n in studies.EFFORTS]
    return table(heads, rows, "The VRN's AUC by effort, 30 % faults"), panels, 2, _SIZE


def _variants(found: _Found) -> Part | None:
    panels, texts = [], []
    for study, title in _TITLES.items():
        if not (found.all(study) and found.all("main")):
            continue
        settings = studies.STUDIES[study][0]
        for family in dict.fromkeys(setting["family"] for setting in settings):
            results = {"as is": found("main", family=family, rate=studies.RATE)} | {
                s["variant"]: found(study, **s) for s in settings if s["family"] == family
            }
            panels.append(_variant_panel(f"{title} ({family})", results))
            texts.append(_variant_table(f"{title}, faults: {family}", results))
    return ("\n".join(texts), panels, 2, _SIZE) if panels else None


_TITLES = {
    "guard": "guards against traces",
    "noise": "mistakes of the experts",
    "positives": "positives of the VRN",
    "head": "head of the VRN",
    "depth": "depth of the VRN",
}


def _variant_panel(title: str, results: Mapping[str, Sequence[Any]]) -> plots.Panel:
    count = len(results)
    series = [
        plots.Series("vrn", _points(list(results.values()), "vrn", "auc"), joined=False),
        plots.Series("random", [(0.5, 0.5, 0.5)] * count, bound=True),
        plots.Series("oracle", [(1.0, 1.0, 1.0)] * count, bound=True),
    ]
    if title.startswith(_TITLES["guard"]):
        trap = _points(list(results.values()), "auc_real_sound")
        series.insert(1, plots.Series("real", trap, joined=False))
    places = [name.replace(", ", ",\n").replace("two ", "two\n") for name in results]
    return plots.Panel(title, places, "AUC", series, 0.4, 1.02)


def _variant_table(title: str, results: Mapping[str, Sequence[Any]]) -> str:
    base = measures.collect(results["as is"], "vrn", "auc")
    rows = {}
    for name, one in results.items():
        auc = measures.collect(one, "vrn", "auc")
        difference = [a - b for a, b in zip(auc, base, strict=True)]
        rows[name] = [
            measures.text(auc),
            measures.text(difference, sign="+") if name != "as is" else "",
            measures.text(measures.collect(one, "vrn", "fault_rate")),
            measures.text(measures.collect(one, "auc_real_sound")),
        ]
    heads = ("AUC within synthetic", "minus as is", "faults in the kept half",
             "AUC, real against sound synthetic")  # fmt: skip
    return table(heads, rows, title)


def _generator(found: _Found) -> Part | None:
    if not found.all("generator"):
        return None
    results = found("generator")
    parts, filters = list(results[0]["faults"]), list(results[0]["auc"])
    texts = []
    titles = {
        "faults": "Findings in a GAN's images, before and after each filter",
        "disease": "Lesions seen in a GAN's images, and where nodules lie",
    }
    for topic, title in titles.items():
        # Where no nodule is seen there is no place of nodules.
        every = [set(cell[topic][part]) for cell in results for part in parts]
        heads = [name for name in results[0][topic]["real"] if all(name in one for one in every)]
        rows = {
            part: [measures.text(measures.collect(results, topic, part, f)) for f in heads]
            for part in parts
        }
        texts.append(table([head.replace("_", " ") for head in heads], rows, title))
    rows = {name: [measures.text(measures.collect(results, "auc", name))] for name in filters}
    texts.append(table(["AUC"], rows, "AUC, images without a finding against the others"))
    places = [part for part in parts if part not in ("random", "oracle")]
    points = [measures.interval(measures.collect(results, "faults", p, "any")) for p in places]
    series = [plots.Series("with a finding", points, joined=False)]
    for bound in ("random", "oracle"):
        point = measures.interval(measures.collect(results, "faults", bound, "any"))
        series.append(plots.Series(bound, [point] * len(places), bound=True))
    panel = plots.Panel(
        "Real images, a GAN's half-way and at the end, and what each filter keeps of the last",
        places, "share of images with a finding of the analyser", series, 0, 1,
    )  # fmt: skip
    return "\n".join(texts), [panel], 1, (800, 260)


_PARTS = {
    "main": _main,
    "kinds": _kinds,
    "effort": _effort,
    "variants": _variants,
    "generator": _generator,
}
