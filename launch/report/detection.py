"""Translations and maps of disease: what `launch.evaluate` found, as a section of the page."""

import dataclasses
import pathlib
import zipfile
from typing import Any

import numpy as np
from markupsafe import Markup

from data import tables
from data.errors import UserError
from evaluation import localisation
from launch import stage
from launch.report import charts, colours, overlay
from launch.report.tiles import Tile, Window, data_uri

_AGAIN = "run `python -m launch.evaluate` with the same --config and --workdir"
_COLUMNS = {
    "images": "image",
    "own": "in its own domain",
    "healthy": "made healthy",
    "maps": "map",
    "overlay": "outlines",
    "twins": "healthy twin",
}
_KINDS = {
    "diseased": "Diseased, at equal steps of the score",
    "healthy": "Healthy, at equal steps of the score",
    "missed": "Worst misses: diseased, of the lowest scores",
    "false": "Worst false alarms: healthy, of the highest scores",
}
_LIGHTEST = 0.995  # quantile of the maps shown from which on all have the lightest colour
_TILE = 132  # about how many pixels an image is shown at


@dataclasses.dataclass(frozen=True)
class Judged:
    """What one kind of maps was found to do.

    Attributes:
      numbers: content of its detection*.json.
      examples: arrays of the npz beside it, as `launch.examples` keeps them.
    """

    numbers: dict[str, Any]
    examples: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Row:
    """An image of the sheet.

    Attributes:
      score: of its map.
      above: share of the healthy images whose score is lower.
      cells: one for each column.
    """

    score: float
    above: float
    cells: list[Tile | Markup]


@dataclasses.dataclass(frozen=True)
class Sheet:
    """Images with their maps.

    Attributes:
      columns: titles.
      groups: title to rows.
      scale: the colours of the maps.
    """

    columns: list[str]
    groups: dict[str, list[Row]]
    scale: Markup


@dataclasses.dataclass(frozen=True)
class Section:
    """What the template draws.

    Attributes:
      numbers: name of the maps to the content of their file.
      roc: chart of all maps.
      froc: likewise; None where there are no masks.
      twins: whether images have healthy twins.
      sheets: name of the maps to their sheet.
      tile: pixels at which an image is shown.
    """

    numbers: dict[str, dict[str, Any]]
    roc: Markup
    froc: Markup | None
    twins: bool
    sheets: dict[str, Sheet]
    tile: int


def said(workdir: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Content of the detection*.json of a work directory, by the name of the maps; maybe none.

    Raises:
      UserError: one is damaged, or of another network than that trained.
    """
    found = {}
    for path in sorted((workdir / "evaluation").glob("detection*.json")):
        name = path.stem.removeprefix("detection").removeprefix("-") or "translator"
        found[name] = numbers = tables.read_json(path)
        if name in ("translator", *stage.DETECTORS):
            of = name if name == "translator" else f"detectors/{name}"
            trained = stage.require(workdir, of)["facts"]["checkpoint_digest"]
            if numbers["checkpoint_digest"] != trained:
                raise UserError(
                    f"{path} is of another {name} than that trained; {_AGAIN} and --maps={name}"
                )
    return found


def read(workdir: pathlib.Path) -> dict[str, Judged]:
    """All maps that were judged in a work directory, the translator's first; maybe none.

    Raises:
      UserError: as `said`, or a file lacks its curves or examples.
    """
    found = {}
    for name, numbers in said(workdir).items():
        kind = "" if name == "translator" else f"-{name}"
        path = workdir / "evaluation" / f"detection{kind}.npz"
        try:
            examples = tables.map_npz(path)
            curves = numbers["curves"]
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise UserError(
                f"{path.with_suffix('.json')} has no curves and examples beside it; {_AGAIN} and "
                f"--maps={name}"
            ) from error
        found[name] = Judged(numbers | {"curves": curves}, examples)
    return dict(sorted(found.items(), key=lambda item: item[0] != "translator"))


def numbers(found: dict[str, Judged]) -> dict[str, Any]:
    """What results.json keeps: all but the curves."""
    return {
        name: {key: value for key, value in one.numbers.items() if key != "curves"}
        for name, one in found.items()
    }


def section(found: dict[str, Judged], window: Window) -> Section | None:
    """Draws everything, or nothing where there is nothing.

    Args:
      found: of `read`.
      window: of grey levels.
    """
    if not found:
        return None
    size = next(iter(found.values())).examples["images"].shape[1]
    roc, froc = ({name: one.numbers["curves"][kind] for name, one in found.items()
                  if kind in one.numbers["curves"]} for kind in ("roc", "froc"))  # fmt: skip
    areas = {name: one.numbers["auc"][one.numbers["score"]]["mean"] for name, one in found.items()}
    at_one = {
        name: one.numbers["localisation"]["threshold"]["1.0"]["mean"]
        for name, one in found.items()
        if name in froc
    }
    return Section(
        numbers={name: one.numbers for name, one in found.items()},
        roc=charts.rates(
            roc, title="Which images are diseased?", x="share of healthy images called diseased",
            y="share of diseased images found", notes=areas, heading="AUC",
            chance=True,
        ),
        froc=charts.rates(
            froc, title="Where is the lesion?", x="false positives per image",
            y="share of lesions found", notes=at_one, heading="share at 1",
            marks=localisation.RATES,
        ) if froc else None,
        twins=any("twin" in one.numbers for one in found.values()),
        sheets={name: _sheet(one.examples, window) for name, one in found.items()},
        tile=size * max(1, round(_TILE / size)),
    )  # fmt: skip


def _sheet(examples: dict[str, np.ndarray], window: Window) -> Sheet:
    there = set(examples) | ({"overlay"} if {"masks", "found"} & set(examples) else set())
    columns = [name for name in _COLUMNS if name in there]
    most = float(np.quantile(examples["maps"], _LIGHTEST))
    groups: dict[str, list[Row]] = {}
    for i, kind in enumerate(examples["kind"]):
        one = {name: array[i] for name, array in examples.items()}
        cells = [_cell(name, one, window, most) for name in columns]
        groups.setdefault(_KINDS[str(kind)], []).append(
            Row(float(one["score"]), float(one["above"]), cells)
        )
    return Sheet([_COLUMNS[name] for name in columns], groups, charts.colour_scale(most))


def _cell(name: str, one: dict[str, np.ndarray], window: Window, most: float) -> Tile | Markup:
    tip = f"real test image, row {int(one['row'])}"
    if name == "overlay":
        picture = window.to_uint8(one["images"])
        outlines = {kind: one[key] for kind, key in (("lesion", "masks"), ("candidate", "found"))
                    if key in one}  # fmt: skip
        words = f"{tip}, with the outlines of {' and '.join(f'its {k}s' for k in outlines)}"
        return overlay.draw(data_uri(picture), picture.shape[:2], outlines, words)
    if name == "maps":
        return Tile(data_uri(colours.painted(one["maps"], most)), f"map of {tip}", kind="map")
    words = {"images": "", "own": "translated to its own domain: ",
             "healthy": "translated to the healthy domain: ",
             "twins": "healthy twin of "}[name]  # fmt: skip
    return Tile(data_uri(window.to_uint8(one[name])), words + tip, tip=tip)
