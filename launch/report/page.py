"""Renders index.html: one file, no scripts, nothing loaded from anywhere."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np
from markupsafe import Markup

from launch import annotate
from launch.report import charts, detection, environment, tiles, words
from launch.report.collect import Found, Translated
from launch.report.gallery import MAX_CLASSES, Gallery
from launch.report.tiles import Window

# Charts of each trained stage: title to the metrics drawn in it.
_CURVES = {
    "gan": {
        "GAN losses": ("d_loss", "g_loss"),
        "Discriminator logits": ("d_real", "d_fake"),
        "Gradient penalty": ("penalty",),
    },
    "translator": {
        "Translator losses": ("d_loss", "g_loss"),
        "Domains, in the discriminator's loss and the translator's": ("d_domain", "g_domain"),
        "Change where nothing should change": ("g_identity", "g_cycle"),
    },
    "features": {"Feature network: loss": ("loss",), "Feature network: accuracy": ("accuracy",)},
    "vrn": {"VRN: loss": ("loss",), "VRN: accuracy on its own batches": ("accuracy",)},
}
_MAX_SHEETS = 4
# How differences are coloured.
_KINDS = {words.GAIN: "vrn", words.LOSS: "loss"}


def render(
    found: Found, results: dict[str, Any], config: ml_collections.ConfigDict, name: str
) -> str:
    """Returns the page.

    Args:
      found: the work directory.
      results: content of results.json.
      config: experiment.
      name: of the run, for the title.
    """
    gallery = Gallery(found, config.report.images)
    size = found.real["train"].image_shape[0]
    return environment.template("template.html").render(
        name=name,
        results=results,
        metrics=words.METRICS,
        controls=words.CONTROLS,
        sentences=words.comparisons(results["paired"]),
        caveat=words.caveat(results["test"], len(results["paired"])),
        chart=_charts(found, results),
        grids={arm: _grid(choice) for arm, choice in results["choices"].items()},
        gallery=gallery,
        detection=detection.section(found.detection, gallery.window),
        method=annotate.automatic_method(config) or config.annotate.method,
        tile=size * tiles.enlargement(size, len(found.class_names)),
        grey=found.real["train"].image_shape[-1] != 3,
        window=gallery.window.told(found.real["train"].dtype),
        more_classes=max(0, len(found.class_names) - MAX_CLASSES),
        sheets=_sheets(found.sheets),
        stages=found.stages,
        config=json.dumps(_shown(config), indent=2, default=str),
        filter_names=list(found.filters),
        translated=config.generate.generator == "translator",
        unlabelled="unlabelled" in found.real,
        unlabelled_embedded="unlabelled" in found.embeddings,
    )


def render_translator(found: Translated, config: ml_collections.ConfigDict, name: str) -> str:
    """Returns the page of a run that has a translator and not the loop.

    Args:
      found: the work directory.
      config: experiment.
      name: of the run, for the title.
    """
    window = Window.of_records(found.train)
    numbers = found.detection["translator"].numbers
    return environment.template("translator.html").render(
        name=name,
        sentence=words.found(numbers),
        detection=detection.section(found.detection, window),
        grey=found.train.image_shape[-1] != 3,
        window=window.told(found.train.dtype),
        curves=_curves(found.curves, "translator"),
        sheets=_sheets(found.sheets),
        stages=found.stages,
        config=json.dumps(_shown(config), indent=2, default=str),
    )


def _shown(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """The configuration without the salt, which would tell whose digest is whose."""
    shown = config.to_dict()
    del shown["data"]["salt"]
    return shown


def _charts(found: Found, results: dict[str, Any]) -> dict[str, Any]:
    curves = {name: _curves(found.curves[name], name) for name in found.curves}
    vrn, seconds = results["vrn"], results["seconds"]
    return {
        "arms": _forest_of_arms(results["arms"]),
        "paired": _forest_of_differences(results["paired"]),
        "curves": curves,
        "reliability": charts.reliability(
            vrn["reliability"],
            title="Reliability of the VRN's probabilities",
            threshold=vrn["operating_point"]["probability"],
        ),
        "classes": charts.bullets(
            found.class_names,
            {
                key: (np.array(one["seen"]), np.array(one["asked"]))
                for key, one in results["histograms"].items()
                if key in ("real test images", "first pool", "second pool", "kept by vrn")
            },
            title="Classes asked for and classes seen",
        ),
        "seconds": charts.bars(
            seconds, [words.duration(s) for s in seconds.values()], title="Time per stage"
        ),
    }


def _curves(found: Mapping[str, Any], name: str) -> list[Markup]:
    """The charts of a trained stage, of its metrics."""
    return [
        charts.curves(
            {metric: found[metric] for metric in metrics if metric in found}, title=title, x="step"
        )
        for title, metrics in _CURVES[name].items()
        if any(metric in found for metric in metrics)
    ]


def _forest_of_arms(
    arms: dict[str, dict[str, Any]], metric: str = "balanced_accuracy"
) -> Markup | None:
    rows, text = [], []
    for name, values in arms.items():
        value = values[metric]
        if value["mean"] is None:
            continue
        ends = words.interval(value)
        rows.append(
            charts.Whisker(
                name,
                100 * value["mean"],
                None if ends is None else (100 * ends[0], 100 * ends[1]),
                [100 * seed for seed in value["seeds"] if seed is not None],
                "vrn" if name == "vrn" else "",
            )
        )
        text.append(words.with_interval(value))
    title = f"{words.METRICS[metric]} of every arm with 95 % interval"
    axis = f"{words.METRICS[metric]} on real test images, %"
    return charts.forest(rows, title=title, axis=axis, text=text) if rows else None


def _forest_of_differences(
    paired: dict[str, dict[str, Any]], metric: str = "balanced_accuracy"
) -> Markup | None:
    rows, text = [], []
    for name, values in paired.items():
        value = values[metric]
        if value["mean"] is None:
            continue
        ends = words.interval(value)
        rows.append(
            charts.Whisker(
                name.replace("-", f" {words.MINUS} ", 1),
                100 * value["mean"],
                None if ends is None else (100 * ends[0], 100 * ends[1]),
                kind=_KINDS.get(words.verdict(value), ""),
            )
        )
        text.append(words.with_interval(value, signed=True))
    if not rows:
        return None
    return charts.forest(
        rows,
        title="Paired differences with 95 % interval",
        axis=f"difference in {words.METRICS[metric]}, percentage points",
        text=text,
        sides=("control better", "VRN better"),
    )


def _grid(choice: dict[str, Any]) -> dict[str, Any]:
    """The search of one arm as a table: strengths by shares."""
    tried = {(row["share"], row["strength"]): row for row in choice["validation"]}
    return {
        "shares": sorted({share for share, _ in tried}),
        "strengths": sorted({strength for _, strength in tried}),
        "tried": tried,
    }


def _sheets(files: Sequence[pathlib.Path]) -> list[tuple[int, str]]:
    """Sample sheets evenly spread over the training, as (step, data URI)."""
    if not files:
        return []
    picked = np.linspace(0, len(files) - 1, min(_MAX_SHEETS, len(files)))
    paths = [files[round(index)] for index in picked]
    return [(int(path.stem), tiles.data_uri(path.read_bytes())) for path in paths]
