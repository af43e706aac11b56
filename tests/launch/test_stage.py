import datetime
import json
import os

import pytest

from data.errors import UserError
from launch import stage


def _complete(workdir, settings, overwrite=False):
    begun = stage.begin(workdir, "data", settings, overwrite=overwrite)
    if begun is not None:
        (begun.folder / "made").write_text("x")
        begun.finish(images=3)
    return begun


def test_complete_stage_is_skipped_and_tells_what_it_was_made_with(tmp_path):
    assert _complete(tmp_path, {"size": 16, "names": ("a", "b")}) is not None
    assert _complete(tmp_path, {"size": 16, "names": ("a", "b")}) is None
    record = json.loads((tmp_path / "data" / "stage.json").read_text())
    assert record["status"] == "complete"
    assert record["config"] == {"size": 16, "names": ["a", "b"]}
    assert record["facts"] == {"images": 3}
    assert record["versions"]["jax"]


def test_other_settings_are_refused_by_name_and_leave_the_folder_alone(tmp_path):
    _complete(tmp_path, {"data": {"size": 16}})
    with pytest.raises(UserError, match=r"data\.size=16, not 32.*--overwrite"):
        _complete(tmp_path, {"data": {"size": 32}})
    assert (tmp_path / "data" / "made").exists()


def test_overwrite_starts_from_an_empty_folder(tmp_path):
    _complete(tmp_path, {"size": 16})
    begun = stage.begin(tmp_path, "data", {"size": 32}, overwrite=True)
    assert begun is not None
    assert not (tmp_path / "data" / "made").exists()


def test_unfinished_stage_goes_on_with_what_is_there(tmp_path):
    begun = stage.begin(tmp_path, "data", {"size": 16})
    (begun.folder / "half").write_text("x")
    assert stage.begin(tmp_path, "data", {"size": 16}) is not None
    assert (tmp_path / "data" / "half").exists()


def test_seconds_of_a_stage_that_was_stopped_add_up(tmp_path):
    first = stage.begin(tmp_path, "data", {"size": 16})
    began = datetime.datetime.fromisoformat(first.record["start"]).timestamp()
    (first.folder / "half").write_text("x")
    os.utime(first.folder / "half", (began + 100, began + 100))  # then it was killed
    second = stage.begin(tmp_path, "data", {"size": 16})
    began = datetime.datetime.fromisoformat(second.record["start"]).timestamp()
    os.utime(first.folder / "half", (began + 20, began + 20))  # and again
    third = stage.begin(tmp_path, "data", {"size": 16})
    third.finish()
    assert third.record["resumed"]
    assert 119 <= third.record["seconds"] <= 125


def test_a_changed_input_makes_what_follows_stale(tmp_path):
    _complete(tmp_path, {"size": 16})
    stage.begin(tmp_path, "gan", {"steps": 5}, needs=("data",)).finish()
    _complete(tmp_path, {"size": 32}, overwrite=True)
    with pytest.raises(UserError, match="another data"):
        stage.begin(tmp_path, "gan", {"steps": 5}, needs=("data",))


def test_missing_or_unfinished_input_names_the_program_to_run(tmp_path):
    with pytest.raises(UserError, match=r"is missing; run `python -m launch\.train_gan`"):
        stage.require(tmp_path, "gan")
    stage.begin(tmp_path, "gan", {})
    with pytest.raises(UserError, match="is unfinished"):
        stage.require(tmp_path, "gan")


def test_damaged_record_is_named(tmp_path):
    (tmp_path / "gan").mkdir()
    (tmp_path / "gan" / "stage.json").write_text('{"stage": "g')
    with pytest.raises(UserError, match=r"stage\.json is damaged"):
        stage.require(tmp_path, "gan")
