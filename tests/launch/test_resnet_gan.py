"""The projection ResNet-GAN through the stages, interrupted and not, and its pool."""

import json
import shutil

import jax
import numpy as np
import pytest

from data import pools
from launch import generate, prepare, train_gan
from tests import tiny


@pytest.fixture(scope="module")
def config():
    config = tiny.get_config()
    gan = config.gan
    gan.model, gan.spectral, gan.loss, gan.penalty = "resnet", True, "hinge", "none"
    gan.width, gan.batch, gan.steps, gan.log_every, gan.checkpoint_every = 4, 8, 4, 1, 2
    config.generate.first_per_class = 3
    return config


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("resnet") / "run"
    prepare.run(config, workdir, overwrite=False)
    train_gan.run(config, workdir, overwrite=False)
    return workdir


def metrics_of(workdir):
    return (workdir / "gan" / "metrics.jsonl").read_text()


def test_it_trains_and_makes_a_pool(config, trained):
    lines = [json.loads(line) for line in metrics_of(trained).splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert all(np.isfinite(list(line.values())).all() for line in lines)
    spec, state = train_gan.restore(config, trained)
    assert spec.discriminator.spectral
    assert "kernel_spectral" in state.d_params["DownBlock_0"]["Conv_0"]
    generate.make_pool(config, trained, "first", overwrite=False)
    pool = pools.open_pool(trained / "pools" / "first")
    images = pool.read(np.arange(len(pool)))
    assert images.shape == (30, 16, 16, 1)
    assert images.std() > 0.01


def test_interrupted_it_goes_on_with_the_same_spectral_vectors(config, trained, tmp_path):
    again = tmp_path / "run"
    shutil.copytree(trained, again)
    shutil.rmtree(again / "gan" / "checkpoints" / "4")
    record = json.loads((again / "gan" / "stage.json").read_text())
    (again / "gan" / "stage.json").write_text(json.dumps(record | {"status": "running"}))
    train_gan.run(config, again, overwrite=False)
    states = [train_gan.restore(config, folder)[1] for folder in (trained, again)]
    jax.tree.map(np.testing.assert_array_equal, *states)
    assert metrics_of(again) == metrics_of(trained)
