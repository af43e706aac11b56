"""The page of `launch.check_data`: what is in a source, and what is doubtful about it.

One file that loads nothing, in the style of the report.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image

from data import checks, records
from data.check import duplicates, findings
from data.check.facts import BINS, RANGES
from data.check.survey import Survey
from launch import report
from launch.report import charts, tiles, words
from launch.report.gallery import MAX_CLASSES

_PAIRS = 16  # shown
_TILE = 128  # longest side of a shown image, pixels
_ROWS = 12  # of a table of shapes, of unreadable files
_CURVES = 4  # colours that charts have
_LEVELS = 64  # steps of a drawn histogram
_BLACK = 20  # per cent in its first step, above which that is not drawn


def render(
    survey: Survey,
    found: findings.Doubles,
    sentences: Sequence[findings.Finding],
    groups: Sequence[Mapping[str, Any]],
    config: str,
) -> str:
    """Returns the page.

    Args:
      survey: what was looked at.
      found: its duplicates.
      sentences: what is said of it.
      groups: what `subgroups` found.
      config: text of the configuration file.
    """
    here = pathlib.Path(__file__).parent
    style = pathlib.Path(report.__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([here, style]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": words.number, "percent": words.percent}
    return environment.get_template("page.html").render(
        survey=survey,
        name=survey.spec.rpartition("/")[2],
        findings=sentences,
        summary=findings.summary(sentences),
        counts=counts(survey),
        subgroups=groups,
        shapes=_shapes(survey),
        types=_types(survey),
        histograms=_histograms(survey),
        black=_BLACK,
        ratios=_ratios(survey),
        pairs=_pairs(survey, found),
        total_pairs=len(found.pairs),
        threshold=duplicates.THRESHOLD,
        strips=_strips(survey),
        more_classes=max(0, len(survey.class_names) - MAX_CLASSES),
        unreadable=list(survey.unreadable.items())[:_ROWS],
        config=config,
        tile=_TILE,
    )


def class_name(survey: Survey, label: int) -> str:
    """The name of a class; what stands there where there is none."""
    return survey.class_names[label] if 0 <= label < len(survey.class_names) else "no label"


def counts(survey: Survey) -> dict[str, Any]:
    """Images, and known patients, of every class in every split, with their sums."""
    splits = [s for s in ("train", "val", "test", "all") if (survey.splits == s).any()]
    labels = sorted(set(survey.labels.tolist()), key=lambda k: (k < 0, k))
    rows = {}
    for label in [*labels, None]:
        of_class = survey.labels == label if label is not None else np.ones(len(survey), bool)
        name = "all classes" if label is None else class_name(survey, label)
        rows[name] = [_cell(survey, of_class & (survey.splits == split)) for split in splits]
    return {"splits": splits, "rows": rows, "patients": bool((survey.groups != "").any())}


def _cell(survey: Survey, mask: np.ndarray) -> tuple[int, int]:
    groups = survey.groups[mask]
    return int(mask.sum()), len(np.unique(groups[groups != ""]))


def subgroups(survey: Survey) -> list[dict[str, Any]]:
    """Of every shown column: images of each value, in every split by class and together."""
    shown = counts(survey)
    classes = list(shown["rows"])[:-1]
    named = np.array([class_name(survey, k) for k in survey.labels.tolist()])
    found = []
    for name, column in findings.shown_columns(survey).items():
        rows = {}
        for value in np.unique(column):
            here = [(column == value) & (survey.splits == split) for split in shown["splits"]]
            rows[str(value) or "(none)"] = [
                [*(int((mask & (named == one)).sum()) for one in classes), int(mask.sum())]
                for mask in here
            ]
        found.append(
            {
                "name": name,
                "splits": shown["splits"],
                "classes": [*classes, "all classes"],
                "rows": rows,
                "association": findings.association(column, survey.labels),
            }
        )
    return found


def _shapes(survey: Survey) -> dict[str, Any]:
    volumes = survey.depths.max() > 1
    known = np.column_stack([survey.depths, survey.shapes]) if volumes else survey.shapes
    shapes, counts = np.unique(known, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    rows = [(tuple(shapes[i].tolist()), int(counts[i])) for i in order[:_ROWS]]
    ratios = survey.shapes[:, 1] / survey.shapes[:, 0]
    return {
        "head": ("depth x " if volumes else "") + "height x width x channels",
        "rows": rows,
        "more": len(counts) - len(rows),
        "ratios": np.percentile(ratios, [0, 5, 50, 95, 100]).tolist(),
    }


def _types(survey: Survey) -> list[dict[str, Any]]:
    """Per type: images, range, and percentiles of all pixels as far as the histogram tells them."""
    rows = []
    for dtype in sorted(set(survey.dtypes.tolist())):
        here = survey.dtypes == dtype
        total = sum((h for (t, _), h in survey.histograms.items() if t == dtype), np.zeros(BINS))
        quantiles = [None] * 3
        if total.any():
            bins = np.searchsorted(np.cumsum(total) / total.sum(), [0.01, 0.5, 0.99])
            low, high = RANGES[dtype]
            quantiles = (low + bins.clip(max=BINS - 1) * (high - low) / (BINS - 1)).tolist()
        rows.append(
            {
                "dtype": dtype,
                "images": int(here.sum()),
                "low": float(survey.values[here, 0].min()),
                "high": float(survey.values[here, 1].max()),
                "mean": float(survey.values[here, 2].mean()),
                "quantiles": quantiles,
            }
        )
    return rows


def _histograms(survey: Survey) -> list[Markup]:
    """One chart per type: share of the pixels at each level, a curve per class."""
    drawn = []
    for dtype in sorted({dtype for dtype, _ in survey.histograms}):
        of_type = {label: h for (t, label), h in survey.histograms.items() if t == dtype}
        if len(of_type) > _CURVES:
            of_type = {None: sum(of_type.values(), np.zeros(BINS, np.int64))}
        low, high = RANGES[dtype]
        edges = np.linspace(low, high, _LEVELS + 1)
        series = {}
        for label, histogram in sorted(of_type.items(), key=lambda one: str(one[0])):
            share = 100 * histogram.reshape(_LEVELS, -1).sum(axis=1) / max(histogram.sum(), 1)
            name = "all classes" if label is None else class_name(survey, label)
            # Much of a medical image is black; all else would lie flat on the axis.
            first = int(share[0] > _BLACK)
            series[name] = (edges[first:-1].tolist(), share[first:].tolist())
        drawn.append(charts.curves(series, title=f"Pixels by value, {dtype}, %", x="stored value"))
    return drawn


def _ratios(survey: Survey) -> Markup:
    """Images by width over height, in steps of a quarter octave."""
    steps = np.rint(4 * np.log2(survey.shapes[:, 1] / survey.shapes[:, 0])).astype(int)
    rows = {f"{2 ** (k / 4):.2f}": int((steps == k).sum()) for k in np.unique(steps)}
    text = [str(count) for count in rows.values()]
    return charts.bars(rows, text, title="Images by width over height")


def _pairs(survey: Survey, found: findings.Doubles) -> list[dict[str, Any]]:
    shown = []
    for i in found.ranked(_PAIRS):
        a, b = int(found.pairs.a[i]), int(found.pairs.b[i])
        marks = [
            text
            for mask, text in (
                (found.across, "two splits"), (found.labels, "two labels"),
                (found.patients, "two patients"),
            )
            if mask[i]
        ]  # fmt: skip
        shown.append(
            {
                "tiles": [_thumbnail(survey, row) for row in (a, b)],
                "text": "same pixels" if found.exact[i] else f"{found.pairs.distance[i]:.3f}",
                "marks": ", ".join(marks),
            }
        )
    return shown


def _thumbnail(survey: Survey, row: int) -> tiles.Tile:
    where = f"{class_name(survey, int(survey.labels[row]))}, {survey.splits[row]}"
    uri = tiles.data_uri(survey.thumbnails[row])
    return tiles.Tile(uri, where, caption=where, tip=str(survey.ids[row]))


def _strips(survey: Survey) -> list[tiles.Strip]:
    """Some images of each class; one window for all that are not of 8 bits."""
    shown = {k: survey.tiles[k] for k in list(survey.tiles)[:MAX_CLASSES]}
    units = [_unit(pixels) for listed in shown.values() for _, pixels in listed]
    eight = all(pixels.dtype == np.uint8 for listed in shown.values() for _, pixels in listed)
    window = tiles.Window(-1.0, 1.0)
    if not eight:
        window = tiles.Window.of(np.concatenate([x.ravel() for x in units]), np.dtype(np.uint16))
    strips = []
    for label, listed in shown.items():
        name = class_name(survey, label)
        made = [
            tiles.Tile(_picture(window, pixels), name, tip=str(survey.ids[row]))
            for row, pixels in listed
        ]
        strips.append(tiles.Strip(name, made))
    return strips


def _unit(pixels: np.ndarray) -> np.ndarray:
    """Any pixels as float32 in [-1, 1]; what is not stored in a known type, from end to end."""
    if pixels.dtype in checks.STORAGE_DTYPES:
        return records.to_unit(pixels)
    low, high = float(pixels.min()), float(pixels.max())
    return ((pixels - low) / max(high - low, 1e-12) * 2 - 1).astype(np.float32)


def _picture(window: tiles.Window, pixels: np.ndarray) -> str:
    image = Image.fromarray(window.to_uint8(np.nan_to_num(_unit(pixels))))
    image.thumbnail((_TILE, _TILE), Image.Resampling.BOX)
    zoom = max(1, _TILE // max(image.size))
    return tiles.data_uri(np.asarray(image).repeat(zoom, axis=0).repeat(zoom, axis=1))
