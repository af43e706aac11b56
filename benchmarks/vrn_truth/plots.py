"""Dots with whiskers over a few places of a common axis, in panels, drawn with Pillow."""

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Okabe and Ito's colours, told apart by people who see fewer.
COLOURS = {
    "vrn": "#d55e00", "discriminator": "#0072b2", "knn": "#009e73", "confidence": "#cc79a7",
    "random": "#999999", "oracle": "#000000", "unfiltered": "#e69f00", "real": "#56b4e9",
    "vrn, real positives": "#d55e00", "vrn, real and accepted positives": "#0072b2",
}  # fmt: skip
_SCALE = 2  # drawn at so many times the size, then reduced, for smooth lines
_BEYOND = 0.35  # how far bounds go beyond the outer places
_INK, _GRID = "#333333", "#e4e4e4"
_LEFT, _RIGHT, _TOP, _BOTTOM, _LEGEND = 46, 10, 38, 40, 26  # margins of a panel, pixels


@dataclasses.dataclass(frozen=True)
class Series:
    """One colour of a panel.

    Attributes:
        name: in the legend, and of `COLOURS` if it has one of its own.
        points: (mean, low, high) at every place, None where there is nothing.
        joined: whether a line joins the points.
        bound: drawn dashed, without whiskers.
    """

    name: str
    points: Sequence[tuple[float, float, float] | None]
    joined: bool = True
    bound: bool = False


@dataclasses.dataclass(frozen=True)
class Panel:
    """One chart: places along x, a range of y, and what is drawn in it."""

    title: str
    places: Sequence[str]
    axis: str
    series: Sequence[Series]
    low: float
    high: float
    label: str = ""


def figure(panels: Sequence[Panel], columns: int, size: tuple[int, int]) -> Image.Image:
    """Panels row by row, each of `size` (width, height) pixels, above one legend."""
    width, height = (_SCALE * side for side in size)
    rows = math.ceil(len(panels) / columns)
    names = list(dict.fromkeys(s.name for panel in panels for s in panel.series))
    picture = Image.new("RGB", (width * columns, height * rows + _SCALE * _LEGEND), "white")
    draw = ImageDraw.Draw(picture)
    for index, panel in enumerate(panels):
        left, top = (index % columns) * width, (index // columns) * height
        _panel(draw, panel, (left, top, left + width, top + height))
    _legend(draw, names, picture.size)
    return picture.resize([side // _SCALE for side in picture.size], Image.Resampling.LANCZOS)


def _panel(draw: ImageDraw.ImageDraw, panel: Panel, box: tuple[int, int, int, int]) -> None:
    left, top = box[0] + _SCALE * _LEFT, box[1] + _SCALE * _TOP
    right, bottom = box[2] - _SCALE * _RIGHT, box[3] - _SCALE * _BOTTOM
    step = (right - left) / len(panel.places)

    def at(place: float, value: float) -> tuple[float, float]:
        share = (np.clip(value, panel.low, panel.high) - panel.low) / (panel.high - panel.low)
        return left + step * (place + 0.5), bottom - share * (bottom - top)

    draw.text((left, box[1] + _SCALE * 6), panel.title, _INK, _font(12))
    draw.text((left, top - _SCALE * 3), panel.axis, "#777777", _font(9), anchor="lb")
    for value in _ticks(panel.low, panel.high):
        y = at(0, value)[1]
        draw.line((left, y, right, y), _GRID, _SCALE)
        draw.text((left - _SCALE * 4, y), f"{value:g}", _INK, _font(10), anchor="rm")
    for place, name in enumerate(panel.places):
        x = at(place, 0)[0]
        draw.multiline_text(
            (x, bottom + _SCALE * 3), name, _INK, _font(10), anchor="ma", align="center"
        )
    middle = (left + right) / 2
    draw.text((middle, box[3] - _SCALE * 2), panel.label, _INK, _font(10), anchor="mb")
    beside = [series.name for series in panel.series if not series.bound]
    for series in panel.series:
        dodge = 0 if series.bound else _dodge(beside.index(series.name), len(beside))
        shown = [(i + dodge, p) for i, p in enumerate(series.points) if p is not None]
        if series.bound and shown:  # a line even where there is one place
            (first, start), (last, end) = shown[0], shown[-1]
            shown = [(first - _BEYOND, start), *shown, (last + _BEYOND, end)]
        _series(draw, series, [(at(x, p[0]), at(x, p[1]), at(x, p[2])) for x, p in shown])


def _series(draw: ImageDraw.ImageDraw, series: Series, points: Sequence[tuple]) -> None:
    colour = COLOURS.get(series.name, COLOURS["vrn"])
    means = [mean for mean, _, _ in points]
    if series.bound:
        for start, end in itertools.pairwise(means):
            _dashed(draw, start, end, colour)
        return
    if series.joined:
        draw.line(means, colour, _SCALE)
    radius = 3 * _SCALE
    for (x, y), low, high in points:
        draw.line((*low, *high), colour, _SCALE + 1)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), colour)


def _dashed(draw: ImageDraw.ImageDraw, start: tuple, end: tuple, colour: str) -> None:
    length = math.dist(start, end)
    for where in np.arange(0, length, 8 * _SCALE):
        ends = [where, min(where + 5 * _SCALE, length)]
        line = [
            tuple(a + (b - a) * t / length for a, b in zip(start, end, strict=True)) for t in ends
        ]
        draw.line(line, colour, _SCALE)


def _dodge(index: int, count: int) -> float:
    """Sideways, so that whiskers don't hide each other; in places."""
    return 0.4 * ((index + 0.5) / count - 0.5)


def _legend(draw: ImageDraw.ImageDraw, names: Sequence[str], size: tuple[int, int]) -> None:
    x, y = _SCALE * _LEFT, size[1] - _SCALE * _LEGEND / 2
    for name in names:
        colour = COLOURS.get(name, COLOURS["vrn"])
        draw.ellipse((x, y - 3 * _SCALE, x + 6 * _SCALE, y + 3 * _SCALE), colour)
        draw.text((x + 9 * _SCALE, y), name, _INK, _font(10), anchor="lm")
        x += _SCALE * 22 + draw.textlength(name, _font(10))


def _ticks(low: float, high: float) -> list[float]:
    step = 10 ** math.floor(math.log10((high - low) / 2))
    while (high - low) / step > 6:
        step *= 2 if (high - low) / step < 12 else 2.5
    first = math.ceil(round(low / step, 6))
    return [round(i * step, 10) for i in range(first, math.floor(round(high / step, 6)) + 1)]


def _font(size: int) -> ImageFont.ImageFont:
    return ImageFont.load_default(_SCALE * size)
