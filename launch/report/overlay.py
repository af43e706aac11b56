"""An image with outlines of a mask and of candidates, as inline SVG: sharp at any size."""

import xml.etree.ElementTree as ET

import numpy as np
from markupsafe import Markup


def outline(inside: np.ndarray) -> str:
    """The edges between places [H, W] that are inside and those that are not, as an SVG path."""
    return " ".join(
        [
            *(f"M{start} {line}h{length}" for line, start, length in _edges(inside)),
            *(f"M{line} {start}v{length}" for line, start, length in _edges(inside.T)),
        ]
    )


def _edges(inside: np.ndarray) -> list[tuple[int, int, int]]:
    """Between rows: the line, where the edge starts, and how long it is."""
    padded = np.pad(inside.astype(np.int8), ((1, 1), (0, 0)))
    # Where inside is above a line and where it is below are edges of their own: they may touch.
    found = []
    for side in (1, -1):
        for line, edge in enumerate(np.diff(padded, axis=0) == side):
            ends = np.flatnonzero(np.diff(np.pad(edge.astype(np.int8), 1)))
            found += [(line, int(a), int(b - a)) for a, b in ends.reshape(-1, 2)]
    return found


def draw(uri: str, size: tuple[int, int], outlines: dict[str, np.ndarray], words: str) -> Markup:
    """The picture.

    Args:
      uri: `data:` address of the image.
      size: its height and width.
      outlines: CSS class to places [H, W], drawn in this order.
      words: for screen readers.
    """
    height, width = size
    root = ET.Element(
        "svg",
        {"class": "overlay", "role": "img", "viewBox": f"0 0 {width} {height}",
         "aria-label": words},
    )  # fmt: skip
    ET.SubElement(root, "image", {"href": uri, "width": str(width), "height": str(height)})
    for kind, inside in outlines.items():
        if inside.any():
            ET.SubElement(root, "path", {"class": kind, "d": outline(inside)})
    return Markup(ET.tostring(root, encoding="unicode"))
