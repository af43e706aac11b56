"""Real GAN, VRN and target trainings: stopped and resumed, they end with the same bits.

Each is stopped by SIGTERM half-way. Along the way the compilations are counted: a stage compiles
its step once, also when it resumes.
"""

import os
import signal

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from data import loader
from launch import loop, models, preemption, prepare, rng, train_gan
from tests import tiny

STEPS, HALF = 14, 7


@pytest.fixture(scope="module", autouse=True)
def compiled(tmp_path_factory):
    """Keeps compilations on disk, as the programs do: what is loaded must compute the same."""
    compilation_cache.reset_cache()
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("compiled")))
    yield
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()


@pytest.fixture
def compilations():
    """Names of what is compiled during a test, or loaded from disk instead."""
    names = []

    def listen(event, seconds, **details):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(details.get("fun_name"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("prepared")
    prepare.run(_config(), workdir, False)
    return workdir


def _config():
    config = tiny.get_config()
    config.gan.update(steps=STEPS, log_every=2, checkpoint_every=3, penalty="none", diffaugment=())
    for section in (config.vrn, config.target):
        section.update(steps=STEPS, log_every=2, checkpoint_every=3, depth=10)
    return config


def _terminate(number, state):
    if number == HALF:
        os.kill(os.getpid(), signal.SIGTERM)


def _steps(names):
    return sum("guarded_step" in name for name in names)


def _metrics(folder):
    return (folder / "metrics.jsonl").read_bytes()


def _same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_gan(prepared, tmp_path, monkeypatch, compilations):
    """The whole stage, both optimisers, moving average and loader included."""
    config, ends = _config(), {}
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data").symlink_to(prepared / "data")
    train = loop.train

    def keep_end(**arguments):
        ends[arguments["folder"].parent.name] = end = train(**arguments)
        return end

    monkeypatch.setattr(loop, "train", keep_end)
    monkeypatch.setattr(train_gan, "_sheets", lambda *_: None)
    train_gan.run(config, tmp_path / "whole", False)
    assert _steps(compilations) == 1

    monkeypatch.setattr(train_gan, "_sheets", lambda *_: _terminate)
    with pytest.raises(preemption.PreemptedError, match=f"GAN: .* saved at step {HALF}, "):
        train_gan.run(config, tmp_path / "parts", False)
    assert "parts" not in ends
    assert _steps(compilations) == 2
    monkeypatch.setattr(train_gan, "_sheets", lambda *_: None)
    train_gan.run(config, tmp_path / "parts", False)
    assert _steps(compilations) == 3

    _same(ends["whole"], ends["parts"])
    assert len(jax.tree.leaves(ends["whole"])) > 25
    assert _metrics(tmp_path / "whole" / "gan") == _metrics(tmp_path / "parts" / "gan")


@pytest.mark.parametrize("kind", ["vrn", "target"])
def test_classifiers(prepared, tmp_path, monkeypatch, compilations, kind):
    """One trainer for all seeds and arms of a stage, so one compilation for all their runs."""
    config = _config()
    real = prepare.open_split(prepared, "train")
    if kind == "vrn":
        spec = models.vrn_spec(config)
        parts = [loader.Part(real, 8, label=1), loader.Part(real, 8, label=0)]
    else:
        spec = models.classifier_spec(config.target, 10, STEPS)
        parts = [loader.Part(real, 16)]
    trainer = models.Trainer(spec, real.image_shape, config, kind)
    ends = []
    train = loop.train
    monkeypatch.setattr(
        loop, "train", lambda **arguments: ends.append(train(**arguments)) or ends[-1]
    )

    def run(folder, seed=0, **options):
        return trainer.train(
            parts, tmp_path / folder, name=kind, seed=rng.fold(seed, kind), steps=STEPS,
            augment=tuple(config.data.augment), strength=0.5, show=False, **options,
        )  # fmt: skip

    params = run("whole")
    with pytest.raises(preemption.PreemptedError, match=f"saved at step {HALF}, "):
        run("parts", hook=_terminate)
    _same(run("parts"), params)
    _same(*ends)
    assert _metrics(tmp_path / "whole") == _metrics(tmp_path / "parts")
    other = run("other", seed=1)
    assert not np.array_equal(jax.tree.leaves(other)[0], jax.tree.leaves(params)[0])
    assert _steps(compilations) == 1
