"""Figures and tables of the studies that are complete."""

import pathlib
from collections.abc import Sequence

import numpy as np

from benchmarks.vrn_truth import figures, main_figure, plots, robust, studies
from benchmarks.vrn_truth.results import Results, table
from data.tables import atomic_file

_PARTS = {
    "main": main_figure.part,
    "alone": main_figure.alone,
    "kinds": figures.kinds,
    "effort": figures.effort,
    "variants": figures.variants,
    "trap": robust.trap,
    "transfer": robust.transferred,
    "generator": figures.generator,
}
_COLOURS = 256  # of the files, which are smaller so


def write(folder: pathlib.Path, pictures: pathlib.Path, seeds: Sequence[int]) -> pathlib.Path:
    """Writes `truth_*.png` into `pictures`, and `folder`/tables.md; returns the latter's path.

    Args:
        folder: with the cells.
        pictures: made when missing.
        seeds: what has no result of one of them is left out.
    """
    found = Results(folder, seeds)
    pictures.mkdir(parents=True, exist_ok=True)
    texts = [_origin(found)]
    for name, make in _PARTS.items():
        made = make(found)
        if made is None:
            continue
        text, panels, columns, size = made
        texts.append(text)
        picture = plots.figure(panels, columns, size).quantize(_COLOURS)
        with atomic_file(pictures / f"truth_{name}.png") as aside:
            picture.save(aside, "PNG", optimize=True)
    with atomic_file(folder / "tables.md") as aside:
        aside.write_text("\n".join(texts))
    return folder / "tables.md"


def _origin(found: Results) -> str:
    body = {}
    for name in studies.STUDIES:
        if made := found.made(name):
            seconds = [cell["cpu_seconds"] for cell in made]
            commits = " ".join(sorted({cell["commit"] for cell in made}))
            body[name] = [
                str(len(made)),
                f"{np.median(seconds):.0f}",
                f"{sum(seconds):.0f}",
                commits,
            ]
    heads = ("cells", "seconds of one core, median", "all", "commit of the code")
    return table(heads, body, "Studies, as far as they are measured")
