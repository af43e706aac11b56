"""Cells: measurements that are made once, kept as files, and left out when they are there."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tqdm import tqdm

from data import tables
from data.errors import UserError
from launch import stage


@dataclasses.dataclass(frozen=True)
class Cell:
    """One measurement: a study, what varies in it, and the seed.

    Attributes:
        study: e.g. 'main'.
        setting: what varies, e.g. {'family': 'absurd', 'rate': 0.3}.
        seed: of everything random.
    """

    study: str
    setting: Mapping[str, Any]
    seed: int

    def file(self, folder: pathlib.Path) -> pathlib.Path:
        """Where the result is kept."""
        words = [f"{key}={value}" for key, value in self.setting.items()]
        return folder / "cells" / self.study / f"{','.join([*words, f'seed={self.seed}'])}.json"


def run(
    cells: Sequence[Cell], folder: pathlib.Path, key: str, measure: Callable[[Cell], Any]
) -> None:
    """Measures the cells that have no file yet, with a bar that tells the time left.

    A file holds the 'result', the 'commit' of the code that measured it, and the 'cpu_seconds' that
    it took, programs it called among them.

    Args:
        cells: in the order in which they are measured.
        folder: takes their files.
        key: digest of the experiment; files of another one are refused.
        measure: gives the JSON value of a cell.

    Raises:
        UserError: the folder holds cells of another experiment.
    """
    mark = folder / "experiment.json"
    if mark.exists() and tables.read_json(mark) != key:
        raise UserError(
            f"{folder} holds measurements of another version of this experiment; give another "
            "--workdir, or delete it"
        )
    folder.mkdir(parents=True, exist_ok=True)
    tables.write_json(mark, key)
    commit = stage.code()
    todo = [cell for cell in cells if not cell.file(folder).exists()]
    with tqdm(total=len(cells), initial=len(cells) - len(todo), unit="cell") as bar:
        for cell in todo:
            bar.set_postfix_str(cell.file(folder).stem, refresh=False)
            cell.file(folder).parent.mkdir(parents=True, exist_ok=True)
            began = _cpu()
            result = measure(cell)
            spent = round(_cpu() - began, 1)
            made = {"result": result, "commit": commit, "cpu_seconds": spent}
            tables.write_json(cell.file(folder), made)
            bar.update()


def _cpu() -> float:
    """Seconds of a core that this process and those it waited for have spent."""
    return sum(os.times()[:4])


def read(folder: pathlib.Path, study: str, seeds: Sequence[int], **setting: Any) -> list[Any]:
    """Results of one setting, one per seed; empty where a seed is missing."""
    return [made["result"] for made in files(folder, study, seeds, **setting)]


def files(folder: pathlib.Path, study: str, seeds: Sequence[int], **setting: Any) -> list[Any]:
    """As `read`, with commit and seconds."""
    paths = [Cell(study, setting, seed).file(folder) for seed in seeds]
    return [tables.read_json(path) for path in paths] if all(p.exists() for p in paths) else []
