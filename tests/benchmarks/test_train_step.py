"""The benchmark's rows, filter and file, and that both sides compute the same thing."""

import json

import jax
import numpy as np
import pytest
from absl import app, flags
from absl.testing import flagsaver

from benchmarks import train_step as benchmark
from gan.losses import LOSSES

SMALL = benchmark.Row(size=16, width=4, penalty=True)
KEYS = {
    "name", "size", "width", "penalty", "batch", "ours_ms", "torch_eager_ms", "torch_compile_ms",
    "ratio_eager", "ratio_compile",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _parsed_flags():
    flags.FLAGS.mark_as_parsed()


def test_the_rows_cover_every_setting():
    settings = {(row.size, row.width, row.penalty) for row in benchmark.ROWS}
    assert settings == {(s, w, p) for s in (32, 64) for w in (32, 64) for p in (False, True)}
    assert len({row.name for row in benchmark.ROWS}) == 8


def test_the_draws_are_those_of_the_first_step():
    ours = benchmark.build_ours(SMALL)
    spec, state = ours.spec, ours.state
    images, labels = ours.batch["image"], ours.batch["label"]
    draws = benchmark.first_draws(ours)

    @jax.jit
    def by_hand(d_latents, mix):
        fake = spec.generator.apply({"params": state.g_params}, d_latents, labels)
        d_fn = lambda x: spec.discriminator.apply({"params": state.d_params}, x, labels)  # noqa: E731
        loss = LOSSES[spec.loss].discriminator(d_fn(images), d_fn(fake))
        return loss, jax.grad(lambda x: d_fn(x).sum())(images + mix * (fake - images))

    loss, gradient = by_hand(draws["d_latents"], draws["mix"])
    lengths = np.sqrt(np.sum(np.square(gradient, dtype=np.float64), (1, 2, 3)))
    metrics = benchmark.our_steps(ours)()
    np.testing.assert_allclose(metrics["d_loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(metrics["penalty"], np.mean((lengths - 1) ** 2), rtol=1e-4)


def test_without_pytorch_its_columns_are_empty(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "ROWS", [SMALL, benchmark.Row(16, 4, False)])
    monkeypatch.setattr(benchmark, "keep_freed_memory", lambda: True)
    path = tmp_path / "rows.json"
    with flagsaver.flagsaver(json=str(path), rows="_gp$", torch=False, repeats=1, steps=1):
        benchmark.main(["train_step"])
    (row,) = json.loads(path.read_text())
    assert row.keys() >= KEYS
    assert row["name"] == SMALL.name == "dcgan_16px_width4_gp"
    assert (row["size"], row["width"], row["penalty"], row["batch"]) == (16, 4, True, 64)
    assert row["ours_ms"] > 0
    assert {row[key] for key in KEYS if "torch" in key or "ratio" in key} == {None}
    assert SMALL.name in capsys.readouterr().out


def test_a_filter_that_matches_nothing_is_refused():
    with (
        flagsaver.flagsaver(rows="volume"),
        pytest.raises(app.UsageError, match="--rows=volume matches none of dcgan_32px_width32,"),
    ):
        benchmark.main(["train_step"])


@pytest.mark.parametrize("penalty", [False, True])
def test_pytorch_finds_the_same_losses(penalty):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    row = SMALL._replace(penalty=penalty)
    ours = benchmark.build_ours(row)
    metrics = benchmark.our_steps(ours)()
    theirs = benchmark.torch_steps(row, ours, compiled=False)(benchmark.first_draws(ours))
    assert benchmark.first_step_difference(metrics, theirs) < 1e-4
