"""The whole loop on real images, through the command line, killed and not killed."""

import json
import shutil
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from data import pools, records
from tests.launch import programs
from vrn import labels


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of the tiny digits loop."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    done = programs.run("pipeline", programs.TINY, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().splitlines()[-1] == str(workdir / "report" / "index.html")
    return workdir


def _results(workdir):
    found = json.loads((workdir / "report" / "results.json").read_text())
    return {key: found[key] for key in ("arms", "paired", "vrn")}


def test_report_holds_every_arm_seed_and_pair(finished):
    found = json.loads((finished / "report" / "results.json").read_text())
    assert set(found["arms"]) == {"real", "random", "vrn"}
    assert set(found["paired"]) == {"vrn-real", "vrn-random"}
    assert set(found["vrn"]) >= {"auc_within_synthetic", "acceptance_rate", "ece"}
    assert found["seconds"]["gan"] > 0
    for arm, metrics in found["arms"].items():
        seeds = [
            json.loads((finished / "target" / arm / str(seed) / "result.json").read_text())
            for seed in range(2)
        ]
        assert metrics["accuracy"]["seeds"] == pytest.approx([s["accuracy"] for s in seeds])
        low, high = metrics["accuracy"]["ci95"]
        assert low <= metrics["accuracy"]["mean"] <= high


def test_second_call_does_nothing_and_says_so(finished):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    began = time.monotonic()
    done = programs.run("pipeline", programs.TINY, f"--workdir={finished}")
    assert done.returncode == 0
    assert "up to date" in done.stdout
    assert time.monotonic() - began < 30
    after = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    assert after == before


def test_pools_open_with_tfds_and_carry_their_provenance(finished):
    pool = finished / "pools" / "first"
    source = tfds.builder_from_directory(pool).as_data_source("train")
    table = pq.read_table(pool / "manifest.parquet").to_pydict()
    assert len(source) == len(table["sample_id"]) >= 200
    assert all(table["synthetic"])
    assert len(set(table["sample_id"])) == len(source)
    second = pq.read_table(finished / "pools" / "second" / "manifest.parquet").to_pydict()
    assert not set(table["seed"]) & set(second["seed"])


def test_any_image_is_made_again_from_its_id(finished, tmp_path):
    pool = pools.open_pool(finished / "pools" / "second")
    rows = [3, 57, 110]
    ids = ",".join(pool.ids[rows])
    done = programs.run(
        "generate", programs.TINY, f"--workdir={finished}", f"--sample_ids={ids}",
        f"--out={tmp_path}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for row in rows:
        again = np.asarray(Image.open(tmp_path / f"{pool.ids[row]}.png"))
        np.testing.assert_array_equal(again, pool.read_raw(np.array([row]))[0, ..., 0])


def test_test_images_are_in_nothing_that_learns(finished):
    test = records.open_records(finished / "data", "test")
    train = records.open_records(finished / "data", "train")
    val = records.open_records(finished / "data", "val")
    assert not set(test.ids) & (set(train.ids) | set(val.ids))
    assert len(train) == 100


def _copy(finished, tmp_path, *stages):
    """A work directory with these stages of a finished one."""
    for name in stages:
        shutil.copytree(finished / name, tmp_path / "run" / name)
    return tmp_path / "run"


def test_vrn_with_accepted_positives(finished, tmp_path):
    workdir = _copy(finished, tmp_path, "data", "gan", "features", "pools", "annotation")
    shutil.copytree(finished / "extraction", workdir / "extraction")
    done = programs.run(
        "train_vrn", programs.TINY, f"--workdir={workdir}", "--config.vrn.positives=real+accepted",
        "--config.vrn.calibration=isotonic",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((workdir / "vrn" / "calibration.json").read_text())
    assert found["method"] == "isotonic"
    assert 0 <= found["auc_within_synthetic"] <= 1


def test_an_experts_labels_overrule_and_teach_the_annotator(finished, tmp_path):
    workdir = _copy(finished, tmp_path, "data", "gan", "features", "pools")
    pool = pools.open_pool(workdir / "pools" / "first")
    # An expert with a rule: the first ten images of every class are bad, the next ten are good.
    place = np.array([np.sum(pool.labels[:row] == pool.labels[row]) for row in range(len(pool))])
    seen = np.flatnonzero(place < 20)
    expert = labels.from_scores(pool.ids[seen], "reader1", (place[seen] >= 10) * 1.0, 3.0)
    labels.write_labels(tmp_path / "labels.parquet", expert)
    done = programs.run(
        "annotate", programs.TINY, f"--workdir={workdir}", "--config.annotate.method=sklearn:SVC",
        f"--config.annotate.given={tmp_path / 'labels.parquet'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    table = labels.read_labels(workdir / "annotation" / "labels.parquet")
    assert set(table.rater) == {"reader1", "auto:sklearn:SVC"}
    resolved = labels.resolve(table, pool.ids)
    np.testing.assert_array_equal(resolved[seen], place[seen] >= 10)


def test_unlabelled_images_and_several_critic_steps(tmp_path):
    flags = (
        programs.TINY, f"--workdir={tmp_path / 'run'}", "--config.data.unlabelled=200",
        '--config.data.per_class={"7": 3}', "--config.gan.n_critic=2", "--config.gan.steps=4",
        "--config.gan.loss=wasserstein", "--config.gan.penalty=gp",
        "--config.gan.penalty_weight=10",
    )  # fmt: skip
    for program in ("prepare", "train_gan"):
        done = programs.run(program, *flags)
        assert done.returncode == 0, done.stderr[-3000:]
    unlabelled = records.open_records(tmp_path / "run" / "data", "unlabelled")
    assert len(unlabelled) == 200
    assert (unlabelled.labels == -1).all()
    train = records.open_records(tmp_path / "run" / "data", "train")
    assert np.bincount(train.labels).tolist() == [10] * 7 + [3] + [10] * 2


@pytest.mark.parametrize("run", ["first", "second"])
def test_work_directory_of_another_config_is_refused(finished, run):
    flag = {"first": "--config.gan.steps=61", "second": "--config.target.lr=0.5"}[run]
    done = programs.run("pipeline", programs.TINY, f"--workdir={finished}", flag)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert flag.split(".", 1)[1].split("=")[0] in done.stderr


def test_kill_minus_nine_in_gan_vrn_and_target_changes_nothing(finished, tmp_path):
    """Kills the run in each training stage, past a checkpoint; the same command goes on."""
    workdir, log = tmp_path / "run", tmp_path / "log"
    flags = (programs.TINY, f"--workdir={workdir}")
    killed_at = {
        "gan": workdir / "gan" / "checkpoints" / "20",
        "vrn": workdir / "vrn" / "checkpoints" / "10",
        "target": workdir / "target" / "random" / "0" / "checkpoints" / "10",
    }
    for stage, mark in killed_at.items():
        process = programs.start("pipeline", *flags, log=log)
        deadline = time.monotonic() + 240
        while not mark.exists():
            assert process.poll() is None, f"ended before {stage}: {log.read_text()[-3000:]}"
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.kill()
        process.wait()
        record = json.loads((workdir / stage / "stage.json").read_text())
        assert record["status"] == "running", f"{stage} was over before the kill"
    done = programs.run("pipeline", *flags)
    assert done.returncode == 0, done.stderr[-3000:]
    assert _results(workdir) == _results(finished)
