"""The compiled library: when it is compiled, what happens where it cannot be, and its order."""

import logging
import os
import stat

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nn.conv import Geometry
from nn.native import build
from nn.native import conv as native

COMPILER = """#!/bin/sh
if [ "$1" = --version ]; then echo one; exit; fi
echo run >> "$(dirname "$0")/runs"
{action}
"""


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """Writes a program that stands for the compiler."""

    def write(action):
        path = tmp_path / "compiler"
        path.write_text(COMPILER.format(action=action))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("CXX", os.fspath(path))
        monkeypatch.setenv("XDG_CACHE_HOME", os.fspath(tmp_path / "cache"))

    return write


# The name of the result is the compiler's last argument.
MADE = 'for last; do :; done; echo compiled > "$last"'


def test_the_library_is_compiled_once(compiler, tmp_path):
    compiler(MADE)
    first = build._compiled()
    assert first.read_text() == "compiled\n"
    assert build._compiled() == first
    assert (tmp_path / "runs").read_text() == "run\n"
    assert [path.name for path in first.parent.iterdir()] == [first.name]


def test_another_compiler_compiles_anew(compiler, tmp_path):
    compiler(MADE)
    first = build._compiled()
    script = tmp_path / "compiler"
    script.write_text(script.read_text().replace("echo one", "echo two"))
    assert build._compiled() != first


@pytest.mark.parametrize("action", ["echo cannot >&2; exit 1", MADE], ids=["fails", "no_library"])
def test_without_a_library_there_is_a_warning_and_nothing_left(compiler, tmp_path, caplog, action):
    compiler(action)
    with caplog.at_level(logging.WARNING, logger="absl"):
        assert build.load.__wrapped__() is None
    assert "name one in $CXX" in caplog.text
    left = [path.suffix for path in (tmp_path / "cache" / "vrn" / "native").iterdir()]
    assert ".part" not in left


def test_a_missing_compiler_is_named(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("CXX", os.fspath(tmp_path / "absent"))
    with caplog.at_level(logging.WARNING, logger="absl"):
        assert build.load.__wrapped__() is None
    assert "absent" in caplog.text


def test_the_library_can_be_declined(monkeypatch):
    monkeypatch.setenv("VRN_NATIVE", "0")
    assert build.load.__wrapped__() is None


needs_library = pytest.mark.skipif(
    not native.computes(jnp.float32), reason="nn/native/conv.cc is not compiled"
)
GEOMETRY = Geometry((9, 7), (3, 3), (2, 2), ((1, 1), (1, 1)))


@needs_library
@pytest.mark.parametrize("form", [native.forward, native.input_gradient])
def test_an_image_gives_the_same_bits_in_every_batch(form):
    rng = np.random.default_rng(0)
    size = GEOMETRY.out_size if form is native.input_gradient else GEOMETRY.size
    images = jnp.asarray(rng.standard_normal((13, *size, 40)), jnp.float32)
    w = jnp.asarray(rng.standard_normal((3, 3, 40, 40)), jnp.float32)
    compiled = jax.jit(form, static_argnums=0)
    together = compiled(GEOMETRY, images, w)
    for begin, end in ((0, 1), (3, 10)):
        np.testing.assert_array_equal(compiled(GEOMETRY, images[begin:end], w), together[begin:end])


@needs_library
def test_filter_gradients_repeat_to_the_bit():
    rng = np.random.default_rng(0)
    x, y = (
        jnp.asarray(rng.standard_normal((64, *size, 24)), jnp.float32)
        for size in (GEOMETRY.size, GEOMETRY.out_size)
    )
    compiled = jax.jit(native.filter_gradient, static_argnums=0)
    first = compiled(GEOMETRY, x, y)
    for _ in range(20):
        np.testing.assert_array_equal(compiled(GEOMETRY, x, y), first)


@needs_library
def test_no_images_give_no_gradient():
    none = jnp.zeros((0, *GEOMETRY.size, 5)), jnp.zeros((0, *GEOMETRY.out_size, 6))
    w = jnp.zeros((3, 3, 5, 6))
    assert native.forward(GEOMETRY, none[0], w).shape == none[1].shape
    assert native.input_gradient(GEOMETRY, none[1], w).shape == none[0].shape
    np.testing.assert_array_equal(native.filter_gradient(GEOMETRY, *none), w)
