"""Renders index.html: one file, no scripts, nothing loaded from anywhere."""

import json
import pathlib
from typing import Any

import jinja2
import ml_collections
import numpy as np
from markupsafe import Markup

from launch import annotate
from launch.report import charts, tiles, words
from launch.report.collect import Found
from launch.report.gallery import MAX_CLASSES, Gallery

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
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": words.number,
        "percent": words.percent,
        "duration": words.duration,
        "with_interval": words.with_interval,
        "plain": words.plain,
        "verdict": words.verdict,
    }
    return environment.get_template("template.html").render(
        name=name,
        results=results,
        metrics=words.METRICS,
        controls=words.CONTROLS,
        sentences=words.comparisons(results["paired"]),
        caveat=words.caveat(results["test"], len(results["paired"])),
        chart=_charts(found, results),
        grids={arm: _grid(choice) for arm, choice in results["choices"].items()},
        gallery=gallery,
        method=annotate.automatic_method(config) or config.annotate.method,
        tile=size * tiles.enlargement(size, len(found.class_names)),
        grey=found.real["train"].image_shape[-1] != 3,
        window=_window(gallery, found),
        more_classes=max(0, len(found.class_names) - MAX_CLASSES),
        sheets=_sheets(found),
        stages=found.stages,
        config=json.dumps(_shown(config), indent=2, default=str),
        filter_names=list(found.filters),
        translated=config.generate.generator == "translator",
        unlabelled="unlabelled" in found.real,
        unlabelled_embedded="unlabelled" in found.embeddings,
    )


def _shown(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """The configuration without the salt, which would tell whose digest is whose."""
    shown = config.to_dict()
    del shown["data"]["salt"]
    return shown


def _charts(found: Found, results: dict[str, Any]) -> dict[str, Any]:
    curves = {
        name: [
            charts.curves(
                {m: found.curves[name][m] for m in metrics if m in found.curves[name]},
                title=title, x="step",
            )
            for title, metrics in wanted.items()
            if any(m in found.curves[name] for m in metrics)
        ]
        for name, wanted in _CURVES.items()
        if name in found.curves
    }  # fmt: skip
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


def _window(gallery: Gallery, found: Found) -> str:
    """Says in stored units which grey levels are black and white."""
    dtype = np.dtype(found.real["train"].dtype)
    if dtype == np.uint8:
        return "8-bit images, shown as they are"
    ends = np.array([gallery.window.low, gallery.window.high])
    if dtype == np.uint16:
        ends = (ends + 1) * 32767.5
        return f"16-bit images, window {ends[0]:.0f} (black) to {ends[1]:.0f} (white)"
    return f"window {ends[0]:.2f} (black) to {ends[1]:.2f} (white) of \N{MINUS SIGN}1 to 1"


def _sheets(found: Found) -> list[tuple[int, str]]:
    """Sample sheets evenly spread over the GAN's training, as (step, data URI)."""
    if not found.sheets:
        return []
    picked = np.linspace(0, len(found.sheets) - 1, min(_MAX_SHEETS, len(found.sheets)))
    paths = [found.sheets[round(index)] for index in picked]
    return [(int(path.stem), tiles.data_uri(path.read_bytes())) for path in paths]
