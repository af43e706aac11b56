"""Both sides compute the same, and a side that does not is found out."""

import dataclasses

import jax.numpy as jnp
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from benchmarks.train_step import agreement, flops, main, measure, ours, torch_steps  # noqa: E402
from benchmarks.train_step.rows import TRANSLATORS, Row, Translator  # noqa: E402

CPU = torch_steps.Manner()
# The ResNet-GANs have plain blocks and equal channels, or none and a change in each.
TINY = [
    Row("dcgan", 16, 4, 4), Row("wgan_gp", 16, 4, 4), Row("resnet_gan", 32, 2, 4),
    Row("resnet_gan", 64, 2, 4), Row("vrn_resnet18", 32, 4, 4), Row("vrn_resnet50", 32, 4, 4),
    Row("target_resnet10", 64, 4, 4), Row("translator", 16, 4, 4),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _small_translator(monkeypatch):
    # As published it takes a minute to compile.
    monkeypatch.setitem(TRANSLATORS, "translator", Translator(blocks=1, n_critic=2))


@pytest.mark.parametrize("row", TINY, ids=lambda row: row.name)
def test_pytorch_finds_the_same_losses_and_gradients(row):
    found = agreement.check(ours.build(row), CPU)
    agreement.verdict(found)
    assert found["ten_losses"] < 1e-8


@pytest.mark.parametrize("name", agreement.LIMITS)
@pytest.mark.parametrize("value", [0.5, float("nan")])
def test_a_difference_beyond_its_limit_is_refused(name, value):
    found = dict.fromkeys(agreement.LIMITS, 0.0) | {name: value}
    with pytest.raises(measure.DisagreementError, match=name):
        agreement.verdict(found)


def test_a_wrong_step_is_reported_and_fails_the_program(monkeypatch, capsys):
    main.FLAGS.mark_as_parsed()
    monkeypatch.setattr(main, "rows", lambda platform, sizes: [Row("dcgan", 16, 4, 4)])
    monkeypatch.setattr(main.host, "prepare", lambda: None)
    monkeypatch.setattr(measure, "matmul_rate", lambda dtype: 1e9)
    wrong = lambda real, fake: (fake - 1.01 * real).mean()  # noqa: E731
    monkeypatch.setitem(
        torch_steps._LOSSES, "non_saturating", (wrong, torch_steps._LOSSES["hinge"][1])
    )
    for name, value in {"torch_compile": False, "repeats": 1, "steps": 1}.items():
        monkeypatch.setattr(main.FLAGS[name], "value", value)
    assert main.main(["train_step"]) == 1
    assert "FAILED: the two sides differ: first_loss" in capsys.readouterr().out


def test_a_compiler_that_fails_leaves_the_other_columns(monkeypatch):
    work = ours.build(Row("dcgan", 16, 4, 4))
    monkeypatch.setattr(main.shutil, "which", lambda name: None)
    assert main._compiled_side(work, CPU) == (None, "torch.compile needs g++")
    monkeypatch.setattr(main.shutil, "which", lambda name: name)

    def fail(module):
        raise OSError("no headers")

    monkeypatch.setattr(torch, "compile", lambda module: lambda *args: fail(module))
    assert main._compiled_side(work, CPU) == (None, "torch.compile failed: OSError")


@pytest.mark.parametrize("row", TINY[:1] + TINY[2:3] + TINY[4:-1], ids=lambda row: row.name)
def test_operations_are_those_that_pytorch_counts(row):
    work = ours.build(row)
    side = torch_steps.build(work, CPU)
    with FlopCounterMode(display=False) as counter:
        side.take()
    # Spectral norms and heads by hand differ a little. It cannot count gradients of gradients.
    assert flops.needed(work) == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_autocast_and_channels_last_change_little():
    work = ours.build(Row("dcgan", 16, 8, 16))
    exact = torch_steps.build(work, CPU).take(ours.draws(work, 0))
    manner = dataclasses.replace(CPU, bfloat16=True, channels_last=True)
    rounded = torch_steps.build(work, manner).take(ours.draws(work, 0))
    for name, value in exact.items():
        assert rounded[name].dtype == torch.float32
        assert float(rounded[name]) == pytest.approx(float(value), rel=0.05, abs=0.01)
    assert jnp.isfinite(float(rounded["g_loss"]))
