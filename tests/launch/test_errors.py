"""What a user can do wrong: one sentence, the flag or file, exit code 2, nothing half-written."""

import json

import numpy as np
import pytest

from tests.launch import programs


def _fails(*flags, program="pipeline"):
    done = programs.run(program, *flags)
    assert done.returncode == 2, done.stdout + done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "Traceback" not in done.stderr
    return last


def _npz(path, count=40, classes=2, **changes):
    rng = np.random.default_rng(0)
    content = {"class_names": np.array(["healthy", "sick"])}
    for split, number in (("train", count), ("val", 20), ("test", 20)):
        content[f"{split}_images"] = rng.integers(0, 256, (number, 16, 16), dtype=np.uint8)
        content[f"{split}_labels"] = (np.arange(number) % classes)[:, None].astype(np.uint8)
    np.savez(path, **(content | changes))
    return path


def _npz_flags(path, tmp_path):
    return (
        programs.TINY, f"--workdir={tmp_path / 'run'}", f"--config.data.source=npz:{path}",
        "--config.data.real_per_class=5",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "--config is missing"),
        (("--config=configs/nowhere.py", "--workdir=x"), "configs/nowhere.py"),
        ((programs.TINY,), "--workdir is missing"),
        ((programs.TINY, "--workdir=x", "--config.gan.stepz=5"), "stepz"),
        ((programs.TINY, "--workdir=x", "--config.gan.steps=many"), "steps"),
        ((programs.TINY, "--workdir=x", "--wrokdir=y"), "wrokdir"),
        ((programs.TINY, "--workdir=x", "stray"), "stray"),
        ((programs.TINY, "--workdir=x", "--config.vrn.positives=all"), "vrn.positives"),
    ],
)
def test_flags(flags, words):
    assert words in _fails(*flags)


def test_missing_file(tmp_path):
    assert "nowhere.npz" in _fails(*_npz_flags(tmp_path / "nowhere.npz", tmp_path))
    assert not (tmp_path / "run" / "data" / "stage.json").exists()


def test_truncated_file(tmp_path):
    path = _npz(tmp_path / "set.npz")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "set.npz" in _fails(*_npz_flags(path, tmp_path))


def test_empty_class(tmp_path):
    labels = np.zeros((40, 1), np.uint8)
    path = _npz(tmp_path / "set.npz", train_labels=labels)
    assert "sick" in _fails(*_npz_flags(path, tmp_path))


def test_label_out_of_range(tmp_path):
    labels = np.full((40, 1), 7, np.uint8)
    path = _npz(tmp_path / "set.npz", train_labels=labels)
    assert "7" in _fails(*_npz_flags(path, tmp_path))


def test_nan_image(tmp_path):
    images = np.zeros((40, 16, 16), np.float32)
    images[3, 2, 1] = np.nan
    path = _npz(tmp_path / "set.npz", train_images=images)
    assert "NaN" in _fails(*_npz_flags(path, tmp_path))


def test_per_class_that_is_not_json(tmp_path):
    flags = (programs.TINY, f"--workdir={tmp_path / 'run'}", "--config.data.per_class=viral=3")
    assert "per_class" in _fails(*flags)


def test_a_stage_before_its_time_names_the_program_to_run_first(tmp_path):
    flags = (programs.TINY, f"--workdir={tmp_path / 'run'}")
    assert "launch.prepare" in _fails(*flags, program="train_gan")


def test_nothing_to_check(tmp_path):
    flags = (programs.TINY, f"--workdir={tmp_path / 'run'}")
    assert "--augment" in _fails(*flags, program="check_data")


def test_too_few_negatives(tmp_path):
    # No real image is ever stranger than all others of its class, so nothing is rejected.
    flags = (
        programs.TINY, f"--workdir={tmp_path / 'run'}", "--config.extract.max_rounds=2",
        "--config.extract.min_negatives=100000",
    )  # fmt: skip
    message = _fails(*flags)
    assert "max_rounds=2" in message
    record = json.loads((tmp_path / "run" / "pools" / "first" / "stage.json").read_text())
    assert record["config"]["rounds"] == 2
