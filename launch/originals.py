"""What the source told of its images, and how files that are made of them say it."""

import json
import pathlib
from typing import Any

import numpy as np

from data import tables

_SPACING = ("pixel_slice", "pixel_row", "pixel_column")
# What the source tells of an image, until it does.
UNKNOWN: dict[str, Any] = dict.fromkeys(("low", "high", *_SPACING), np.nan) | {"affine": ""}


def read(path: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Image id -> the columns of `UNKNOWN` that are in the table; {} without a table."""
    if not path.exists():
        return {}
    columns = tables.read_parquet(path)
    names = [name for name in UNKNOWN if name in columns]
    rows = zip(*(columns[name].tolist() for name in names), strict=True)
    return {
        id_: dict(zip(names, row, strict=True))
        for id_, row in zip(columns["id"].tolist(), rows, strict=True)
    }


def place(known: dict[str, Any]) -> dict[str, Any]:
    """Units, spacing and affine as the arguments of `data.export.About`."""
    of = UNKNOWN | known
    return {
        "low": of["low"],
        "high": of["high"],
        "spacing": tuple(of[name] for name in _SPACING),
        "affine": _affine(of["affine"]),
    }


def _affine(text: str) -> np.ndarray | None:
    """The affine [4, 4] of an image from its upper three rows as JSON; None where unknown."""
    return np.array([*json.loads(text), [0, 0, 0, 1]], np.float64) if text else None
