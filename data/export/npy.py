"""NumPy arrays as they are stored, each with FILE.npy.json that says what it is."""

import json
import pathlib

import numpy as np

from data.export.about import About

SUFFIX = ".npy"


def check(shape: tuple[int, ...], bits: int) -> None:
    """Any shape will do."""


def write(path: pathlib.Path, image: np.ndarray, about: About, bits: int) -> None:
    """Write stored pixels [H, W, C] or [D, H, W, C] in their own type, and the sidecar."""
    del bits
    facts = about.as_json()
    if about.has_units():
        facts["values"] = [about.low, about.high]
    if about.has_spacing():
        facts["spacing"] = [x if np.isfinite(x) else None for x in about.spacing]
    if about.affine is not None:
        facts["affine"] = about.affine.tolist()
    with path.open("wb") as file:
        np.save(file, image, allow_pickle=False)
    sidecar = path.with_name(path.name + ".json")
    sidecar.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
