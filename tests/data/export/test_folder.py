import math
import pathlib
from collections.abc import Callable

import numpy as np
import pytest

from data import tables
from data.errors import UserError
from data.export import FORMATS, About, write
from tests.data.conftest import make_records


def _place(row: int) -> tuple[pathlib.PurePath, About]:
    about = About(
        name=f"i{row}", class_name="c", synthetic=True, facts={}, owner="", group="g",
        low=math.nan, high=math.nan, software="VRN 1",
    )  # fmt: skip
    return pathlib.PurePath("c", about.name), about


def _write(folder: pathlib.Path, kind: str = "png", place: Callable = _place, **options) -> bool:
    records = make_records((400, 200))
    facts = options.pop("facts", {"synthetic": True})
    parts = [(records, np.arange(len(records)), place)]
    return write(folder, parts, kind=kind, bits=16, facts=facts, **options)


def _content(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("kind", FORMATS)
def test_a_stopped_export_goes_on_to_the_same_bytes(tmp_path, kind):
    assert _write(tmp_path / "whole", kind)
    written = []

    def stop(row: int) -> tuple[pathlib.PurePath, About]:
        written.append(row)
        if len(written) == 300:
            raise KeyboardInterrupt
        return _place(row)

    with pytest.raises(KeyboardInterrupt):
        _write(tmp_path / "stopped", kind, stop)
    assert not (tmp_path / "stopped").exists()
    again = []

    def note(row: int) -> tuple[pathlib.PurePath, About]:
        again.append(row)
        return _place(row)

    assert _write(tmp_path / "stopped", kind, note)
    assert min(again[:344]) == 256  # the first chunk was not made again
    whole = _content(tmp_path / "whole")
    assert _content(tmp_path / "stopped") == whole
    assert len([name for name in whole if name.endswith(FORMATS[kind].SUFFIX)]) == 600
    assert tables.read_json(tmp_path / "whole" / "export.json")["synthetic"] is True
    assert len((tmp_path / "whole" / "labels.csv").read_text().splitlines()) == 601
    assert not _write(tmp_path / "whole", kind)  # up to date


def test_other_folders_are_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    with pytest.raises(UserError, match="holds something else"):
        _write(tmp_path / "mine", overwrite=True)
    _write(tmp_path / "a")
    with pytest.raises(UserError, match="holds another export"):
        _write(tmp_path / "a", "npy")
    assert _write(tmp_path / "a", "npy", overwrite=True)
    assert not list((tmp_path / "a").rglob("*.png"))
