"""The lead's page: what the raters' answers say, in the style of the report."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from launch.report import charts, environment, words

# Title, factor and words of what is drawn.
_TURING = {
    "balanced_accuracy": ("Balanced accuracy of the Turing test, %", 100, words.with_interval),
    "auc": ("AUC of the Turing test", 1, words.plain),
}
_MEAN = "mean of raters"


def render(found: Mapping[str, Any], name: str) -> str:
    """Returns the page.

    Args:
      found: as `numbers.gather` gives it, without NaN.
      name: of the run.
    """
    template = environment.template("statistics.html", pathlib.Path(__file__).parent)
    return template.render(
        name=name,
        found=found,
        headline=headline(found),
        turing=_turing(found),
        effort=_effort(found["effort"]),
    )


def headline(found: Mapping[str, Any]) -> str:
    """One sentence: can the raters tell synthetic from real?"""
    accuracy = found["together"]["turing"]["balanced_accuracy"]
    ends = words.interval(accuracy)
    if not any(one["answers"]["images"] for one in found["raters"].values()):
        return "Nobody has labelled an image yet."
    if accuracy["mean"] is None or ends is None:
        return "Not both real and synthetic images are labelled yet: no Turing test so far."
    told = f"{words.percent(accuracy['mean'], 0)} balanced accuracy, 50{words.THIN}% by chance"
    if ends[0] > 0.5:
        return f"The raters tell real from synthetic images better than chance: {told}."
    if ends[1] < 0.5:
        return f"The raters take synthetic images for real ones: {told}."
    return f"That the raters tell real from synthetic images is not shown: {told}."


def lines(found: Mapping[str, Any]) -> list[str]:
    """The statistics in a few lines of text, values in per cent as (95 % interval)."""
    said = [headline(found)]
    for name, one in found["raters"].items():
        answers, seconds = one["answers"], one["seconds"]
        said.append(
            f"{name}: {answers['images']} images ({answers['real_like']} real-like, "
            f"{answers['unsure']} unsure, {answers['non_real_like']} not), Turing balanced "
            f"accuracy {words.with_interval(one['turing']['balanced_accuracy'])}, "
            f"AUC {words.plain(one['turing']['auc'])}; same when repeated "
            f"{words.with_interval(one['repeatability']['same'])}; "
            f"{words.number(seconds['median'], 1)} s per image"
        )
    together = found["together"]
    said += [f"{' and '.join(p['raters'])}: Cohen's kappa {words.plain(p['kappa'])}"
             for p in together["cohen"]]  # fmt: skip
    said.append(
        f"Fleiss' kappa {words.plain(together['fleiss'])}, Krippendorff's alpha "
        f"{words.plain(together['krippendorff'])}"
    )
    machines = found["machines"] | ({"VRN": found["vrn"]} if found["vrn"] else {})
    said += [
        f"{name}{', which learnt from these labels' if one.get('taught') else ''}, beside the "
        f"raters: AUC {words.plain(one['auc'])}, "
        f"kappa {words.plain(one['kappa'])}, {one['auc']['count']} images"
        for name, one in machines.items()
    ]
    return said


def _turing(found: Mapping[str, Any]) -> list[Markup]:
    everyone = {name: one["turing"] for name, one in found["raters"].items()}
    if len(everyone) > 1:
        everyone[_MEAN] = found["together"]["turing"]
    drawn = []
    for key, (title, scale, write) in _TURING.items():
        rows, text = [], []
        for name, one in everyone.items():
            if one[key]["mean"] is None:
                continue
            ends = words.interval(one[key])
            within = None if ends is None else (scale * ends[0], scale * ends[1])
            kind = "vrn" if name == _MEAN else ""
            rows.append(charts.Whisker(name, scale * one[key]["mean"], within, [], kind))
            text.append(write(one[key]))
        if rows:
            drawn.append(charts.forest(rows, title=title, axis=title, text=text))
    return drawn


def _effort(effort: Mapping[str, Any] | None) -> list[Markup]:
    if effort is None:
        return []
    areas: dict[str, tuple[list[float], list[float]]] = {}
    kept: dict[str, tuple[list[float], list[float]]] = {}
    for point in effort["points"]:
        if point["auc"]["mean"] is None:
            continue
        for series, value in (
            (areas, point["auc"]["mean"]), (kept, float(np.mean(point["kept_real_like"]))),
        ):  # fmt: skip
            sizes, values = series.setdefault(point["variant"], ([], []))
            sizes.append(point["reviewed"])
            values.append(value)
    if not areas:
        return []
    sizes = [point["reviewed"] for point in effort["points"]]
    base = effort["real_like_of_held_out"]
    kept["all, unfiltered"] = ([min(sizes), max(sizes)], [base, base])
    return [
        charts.curves(areas, title="VRN: AUC within synthetic images", x="reviewed images"),
        charts.curves(kept, title="Real-like among the kept images", x="reviewed images"),
    ]
