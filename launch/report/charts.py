"""Charts as inline SVG: they follow the page's light and dark colours and stay sharp when enlarged.

But for the scale of maps, nothing here has a colour of its own: elements carry classes, the page's
style sheet paints them.
Text goes in through ElementTree, so class names with `<` or `&` in them are escaped.
"""

import dataclasses
import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from launch.report import colours
from launch.report.tiles import data_uri


@dataclasses.dataclass(frozen=True)
class Whisker:
    """One row of a forest plot.

    Attributes:
      label: at the left.
      mean: the dot.
      interval: ends of the whisker, or None where there is none.
      seeds: faint ticks, one per seed.
      kind: CSS class of the row, e.g. `vrn`.
    """

    label: str
    mean: float
    interval: tuple[float, float] | None
    seeds: Sequence[float] = ()
    kind: str = ""


class _Svg:
    """An SVG under construction, with a title and description for screen readers."""

    def __init__(self, width: float, height: float, title: str, description: str):
        self.root = ET.Element(
            "svg",
            {
                "class": "chart",
                "role": "img",
                "viewBox": f"0 0 {width:g} {height:g}",
                "style": f"max-width:{width:g}px",
                "aria-label": f"{title}. {description}",
            },
        )

    def add(
        self, tag: str, text: str | None = None, tip: str | None = None, **attributes: object
    ) -> None:
        """Adds an element; `kind` becomes its class, and `tip` what a pointer over it shows."""
        names = {"kind": "class"}
        element = ET.SubElement(
            self.root,
            tag,
            {
                names.get(key, key.replace("_", "-")): (
                    f"{value:.2f}" if isinstance(value, float) else str(value)
                )
                for key, value in attributes.items()
            },
        )
        element.text = text
        if tip is not None:
            ET.SubElement(element, "title").text = tip

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        """Adds a straight line."""
        self.add("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), kind=kind)

    def text(self, x: float, y: float, text: str, kind: str = "", **attributes: object) -> None:
        """Adds text with its baseline at `y`."""
        self.add("text", text, x=float(x), y=float(y), kind=kind, **attributes)

    def markup(self) -> Markup:
        """The finished element."""
        return Markup(ET.tostring(self.root, encoding="unicode"))


class _Scale:
    """A linear map from values to pixels whose ends are round numbers."""

    def __init__(self, values: Sequence[float], low: float, high: float, count: int = 5):
        self.ticks, self.decimals = nice_ticks(min(values), max(values), count)
        self._low, self._high = low, high

    def __call__(self, value: float) -> float:
        first, last = self.ticks[0], self.ticks[-1]
        return self._low + (value - first) / (last - first) * (self._high - self._low)

    def label(self, tick: float) -> str:
        """A tick as text, with a true minus sign."""
        return f"{tick:.{self.decimals}f}".replace("-", "\N{MINUS SIGN}")


def nice_ticks(low: float, high: float, count: int = 5) -> tuple[list[float], int]:
    """Returns ticks at 1, 2 or 5 times a power of ten around [low, high], and their decimals."""
    if high - low < 1e-9 * max(1.0, abs(low)):
        low, high = low - 0.5, high + 0.5
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [round(i * step, 12) for i in range(first, last + 1)], decimals


def forest(
    rows: Sequence[Whisker],
    *,
    title: str,
    axis: str,
    text: Sequence[str],
    sides: tuple[str, str] | None = None,
) -> Markup:
    """A dot and its 95 % interval per row, the numbers at the right.

    Args:
      rows: from top to bottom.
      title: for screen readers.
      axis: label of the axis.
      text: the numbers, one text per row.
      sides: what lies left and right of zero; asks for a zero line.
    """
    row, top = 30, 8 if sides is None else 30
    label_width = 16 + 7.4 * max(len(r.label) for r in rows)
    text_width = 34 + 6.8 * max(len(t) for t in text)
    width, bottom = 760, top + row * len(rows)
    values = [v for r in rows for v in (r.mean, *(r.interval or ()), *r.seeds)]
    scale = _Scale(values + ([0.0] if sides else []), label_width, width - text_width)
    summary = "; ".join(f"{r.label} {t}" for r, t in zip(rows, text, strict=True))
    svg = _Svg(width, bottom + 44, title, summary)
    for tick in scale.ticks:
        svg.line(scale(tick), top, scale(tick), bottom, "grid")
        svg.text(scale(tick), bottom + 17, scale.label(tick), "tick middle")
    svg.text((label_width + width - text_width) / 2, bottom + 37, axis, "axis middle")
    if sides is not None:
        svg.line(scale(0), top - 6, scale(0), bottom, "zero")
        svg.text(scale(0) - 10, 16, f"\N{LEFTWARDS ARROW} {sides[0]}", "side end")
        svg.text(scale(0) + 10, 16, f"{sides[1]} \N{RIGHTWARDS ARROW}", "side")
    for index, (r, numbers) in enumerate(zip(rows, text, strict=True)):
        y = top + row * (index + 0.5)
        svg.text(label_width - 14, y + 4.5, r.label, f"name end {r.kind}")
        for seed in r.seeds:
            svg.line(scale(seed), y - 7, scale(seed), y + 7, f"seed {r.kind}")
        if r.interval is not None:
            svg.line(scale(r.interval[0]), y, scale(r.interval[1]), y, f"whisker {r.kind}")
        svg.add(
            "circle", tip=f"{r.label}: {numbers}", cx=scale(r.mean), cy=y, r=5.5,
            kind=f"dot {r.kind}",
        )  # fmt: skip
        svg.text(width, y + 4.5, numbers, f"number end {r.kind}")
    return svg.markup()


def curves(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, title: str, x: str
) -> Markup:
    """Lines over training steps, named at the top.

    Args:
      series: name to (x values, y values); the first is drawn in the main colour.
      title: of the chart, shown above it.
      x: label of the x axis.
    """
    width, height, left, right, top, bottom = 372, 240, 44, 12, 44, 198
    xs = [value for points in series.values() for value in points[0]]
    ys = [value for points in series.values() for value in points[1]]
    last = {name: points[1][-1] for name, points in series.items()}
    svg = _Svg(
        width, height, title, "; ".join(f"{name} ends at {v:.3g}" for name, v in last.items())
    )
    svg.text(0, 14, title, "title")
    h, v = _Scale([0, *xs], left, width - right), _Scale(ys, bottom, top)
    for tick in v.ticks:
        svg.line(left, v(tick), width - right, v(tick), "grid")
        svg.text(left - 8, v(tick) + 4, v.label(tick), "tick end")
    for tick in h.ticks:
        svg.text(h(tick), bottom + 18, h.label(tick), "tick middle")
    svg.text((left + width - right) / 2, height - 6, x, "axis middle")
    offset = left
    for index, (name, points) in enumerate(series.items()):
        path = " ".join(f"{h(a):.1f},{v(b):.1f}" for a, b in zip(*points, strict=True))
        svg.add("polyline", tip=name, points=path, kind=f"curve s{index % 4}")
        if len(series) > 1:  # one line alone is named by the title
            svg.line(offset, 30, offset + 18, 30, f"curve s{index % 4}")
            svg.text(offset + 23, 34, name, "tick")
            offset += 40 + 7 * len(name)
    return svg.markup()


def rates(
    series: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    title: str,
    x: str,
    y: str,
    notes: Mapping[str, float],
    heading: str,
    marks: Sequence[float] = (),
    chance: bool = False,
) -> Markup:
    """What is found against what is falsely found, one curve of steps for each name.

    Args:
      series: name to 'false' and 'true'; the first is drawn in the main colour.
      title: above the chart.
      x: label of the axis of what is falsely found.
      y: label of the other axis, a share.
      notes: name to the number that is written after it.
      heading: of these numbers.
      marks: values of x with a line of their own.
      chance: draws what guessing would give.
    """
    left, top, side, legend = 52, 30, 290, 190
    bottom, width = top + side, left + side + 14 + legend
    words = "; ".join(f"{name} {notes[name]:.2f}" for name in series)
    svg = _Svg(width, bottom + 44, title, f"{heading}: {words}")
    svg.text(0, 14, title, "title")
    largest = max(*marks, *(one["false"][-1] for one in series.values()), 0)
    h = _Scale([0, largest], left, left + side, 4)
    v = _Scale([0, 1], bottom, top)
    for tick in v.ticks:
        svg.line(left, v(tick), left + side, v(tick), "grid")
        svg.text(left - 8, v(tick) + 4, v.label(tick), "tick end")
    for tick in h.ticks:
        svg.line(h(tick), top, h(tick), bottom, "grid")
        svg.text(h(tick), bottom + 17, h.label(tick), "tick middle")
    for mark in marks:
        svg.line(h(mark), top, h(mark), bottom, "zero dashed thin")
    if chance:
        svg.line(h(0), v(0), h(h.ticks[-1]), v(1), "zero dashed thin")
    for index, (name, one) in reversed(list(enumerate(series.items()))):  # the first on top
        points = [f"{h(a):.1f},{v(b):.1f}" for a, b in zip(one["false"], one["true"], strict=True)]
        svg.add("polyline", tip=name, points=" ".join(points), kind=f"curve s{index % 6}")
        place, height = left + side + 18, top + 32 + 20 * index
        svg.line(place, height, place + 20, height, f"curve s{index % 6}")
        svg.text(place + 27, height + 4, f"{name} {notes[name]:.2f}", "tick")
    svg.text(left + side + 18, top + 12, heading, "tick")
    svg.text(left + side / 2, bottom + 38, x, "axis middle")
    middle = top + side / 2
    svg.text(13, middle, y, "axis middle", transform=f"rotate(-90 13 {middle:g})")
    return svg.markup()


def colour_scale(most: float) -> Markup:
    """The colours of maps from 0 to `most` and more, with numbers under them."""
    left, width, height = 8, 320, 14
    words = f"black is 0, the lightest {most:.3g} and more"
    svg = _Svg(left + width + 24, height + 26, "Colours of the maps", words)
    svg.add(
        "image", href=data_uri(colours.scale()[None]), x=left, y=0, width=width, height=height,
        preserveAspectRatio="none",
    )  # fmt: skip
    ticks, decimals = nice_ticks(0, most, 4)
    for tick in (one for one in ticks if one <= most):
        place = left + width * tick / most if most > 0 else left
        svg.line(place, height, place, height + 4, "mark thin")
        svg.text(place, height + 18, f"{tick:.{decimals}f}", "tick middle")
    return svg.markup()


def reliability(
    curve: Mapping[str, Sequence[float]], *, title: str, threshold: float | None = None
) -> Markup:
    """Share of real-like images against the VRN's probability, with the interval of each bin.

    Args:
      curve: 'predicted', 'observed', 'low', 'high' and 'count', one number per bin each, as
        `evaluation.calibration.reliability` gives them.
      title: for screen readers.
      threshold: probability from which the VRN accepts, marked on the axis.
    """
    left, top, side, width = 52, 10, 300, 372
    bottom = top + side
    bins = list(
        zip(*(curve[k] for k in ("predicted", "observed", "low", "high", "count")), strict=True)
    )
    words = "; ".join(f"predicted {p:.2f}, found {o:.0%} of {n:g}" for p, o, _, _, n in bins)
    svg = _Svg(width, bottom + 44, title, words)
    h, v = _Scale([0, 1], left, left + side), _Scale([0, 1], bottom, top)
    for tick in h.ticks:
        svg.line(left, v(tick), left + side, v(tick), "grid")
        svg.line(h(tick), top, h(tick), bottom, "grid")
        svg.text(left - 8, v(tick) + 4, v.label(tick), "tick end")
        svg.text(h(tick), bottom + 17, h.label(tick), "tick middle")
    svg.line(h(0), v(0), h(1), v(1), "zero dashed")
    if threshold is not None:
        svg.line(h(threshold), top, h(threshold), bottom, "mark")
        words, room = "accepts \N{RIGHTWARDS ARROW}", threshold < 0.8
        place = h(threshold) + (6 if room else -6)
        svg.text(place, bottom - 8, words, "tick" if room else "tick end")
    path = " ".join(f"{h(p):.1f},{v(o):.1f}" for p, o, *_ in bins)
    svg.add("polyline", points=path, kind="curve s0")
    largest = max(n for *_, n in bins)
    for predicted, observed, low, high, count in bins:
        svg.line(h(predicted), v(low), h(predicted), v(high), "whisker thin vrn")
        svg.add(
            "circle", tip=f"{count:g} images, predicted {predicted:.2f}, found {observed:.0%}",
            cx=h(predicted), cy=v(observed), r=2.5 + 3.5 * math.sqrt(count / largest),
            kind="dot vrn",
        )  # fmt: skip
    svg.text(left + side / 2, bottom + 38, "VRN probability of real-like", "axis middle")
    middle = top + side / 2
    svg.text(13, middle, "share annotated real-like", "axis middle",
             transform=f"rotate(-90 13 {middle:g})")  # fmt: skip
    return svg.markup()


def bullets(
    names: Sequence[str], panels: Mapping[str, tuple[np.ndarray, np.ndarray]], *, title: str
) -> Markup:
    """Per class, a bar for the share found and a mark for the share expected, panels side by side.

    Args:
      names: of the K classes.
      panels: title of the panel to (found [K], expected [K]), both shares that sum to 1.
      title: for screen readers.
    """
    row, top, gap = 24, 34, 44
    label_width = 12 + 7.2 * max(len(name) for name in names)
    panel = max(120.0, (980 - label_width) / len(panels) - gap)
    width, bottom = label_width + (panel + gap) * len(panels), top + row * len(names)
    largest = max(float(max(np.max(f), np.max(e))) for f, e in panels.values())
    svg = _Svg(width, bottom + 24, title, "; ".join(
        f"{key}: " + ", ".join(f"{n} {f:.0%}" for n, f in zip(names, found, strict=True))
        for key, (found, _) in panels.items()
    ))  # fmt: skip
    for i, name in enumerate(names):
        svg.text(label_width - 10, top + row * (i + 0.5) + 4.5, name, "name end")
    for p, (key, (found, expected)) in enumerate(panels.items()):
        left = label_width + p * (panel + gap)
        scale = _Scale([0, largest], left, left + panel, 3)
        svg.text(left, 16, key, "title")
        for tick in scale.ticks:
            svg.line(scale(tick), top, scale(tick), bottom, "grid")
            svg.text(scale(tick), bottom + 17, f"{100 * tick:.0f} %", "tick middle")
        for i, name in enumerate(names):
            y = top + row * i
            tip = f"{name}: {found[i]:.1%}, expected {expected[i]:.1%}"
            svg.add("rect", tip=tip, x=left, y=float(y + 6), height=float(row - 12),
                    width=scale(found[i]) - left, kind="bar vrn")  # fmt: skip
            mark = scale(expected[i])
            svg.line(mark, y + 3, mark, y + row - 3, "mark")
    return svg.markup()


def bars(rows: Mapping[str, float], text: Sequence[str], *, title: str) -> Markup:
    """Horizontal bars from zero, with a text at the end of each."""
    row, top = 24, 4
    label_width = 12 + 7.2 * max(len(name) for name in rows)
    text_width = 12 + 7 * max(len(t) for t in text)
    width, largest = 620, max(max(rows.values()), 1e-9)
    summary = "; ".join(f"{name} {t}" for name, t in zip(rows, text, strict=True))
    svg = _Svg(width, top + row * len(rows) + 4, title, summary)
    for index, ((name, value), words) in enumerate(zip(rows.items(), text, strict=True)):
        y, length = top + row * index, (width - label_width - text_width) * value / largest
        svg.text(label_width - 10, y + row / 2 + 4.5, name, "name end")
        svg.add("rect", x=label_width, y=float(y + 5), width=max(length, 1.0),
                height=float(row - 10), kind="bar vrn")  # fmt: skip
        svg.text(label_width + length + 8, y + row / 2 + 4.5, words, "number")
    return svg.markup()
