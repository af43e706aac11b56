"""Figures and tables of the studies that are complete."""

import pathlib
from collections.abc import Sequence

from benchmarks.vrn_truth import figures, main_figure, plots
from benchmarks.vrn_truth.results import Results
from data.tables import atomic_file

_PARTS = {
    "main": main_figure.part,
    "alone": main_figure.alone,
    "kinds": figures.kinds,
    "effort": figures.effort,
    "variants": figures.variants,
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
    texts = []
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
        aside.write_text("\n".join(texts) or "no study is complete\n")
    return folder / "tables.md"
