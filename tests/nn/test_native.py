"""The compiled library: when it is compiled, what happens where it cannot be, and its order."""

import _ctypes
import errno
import logging
import os
import shutil
import stat
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nn.conv import Geometry, conv
from nn.native import build
from nn.native import conv as native

COMPILER = """#!/bin/sh
if [ "$1" = --version ]; then echo one; exit; fi
echo run >> "$(dirname "$0")/runs"
{action}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the library is kept, on a machine that wants one."""
    monkeypatch.delenv("VRN_NATIVE", raising=False)
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    monkeypatch.setenv("XDG_CACHE_HOME", os.fspath(tmp_path / "cache"))
    return tmp_path / "cache" / "vrn" / "native"


@pytest.fixture
def compiler(folder, tmp_path, monkeypatch):
    """Writes a program that stands for the compiler."""
    del folder

    def write(action):
        path = tmp_path / "compiler"
        path.write_text(COMPILER.format(action=action))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("CXX", os.fspath(path))

    return write


# The name of the result is the compiler's last argument; any library will do.
MADE = f'for last; do :; done; cp "{_ctypes.__file__}" "$last"'


def runs(tmp_path):
    return len((tmp_path / "runs").read_text().split())


def test_the_library_is_compiled_once(compiler, folder, tmp_path):
    compiler(MADE)
    build._compiled()
    (kept,) = folder.iterdir()
    assert build._compiled()._name == os.fspath(kept)
    assert runs(tmp_path) == 1


def test_another_compiler_or_option_compiles_anew(compiler, folder, tmp_path, monkeypatch):
    compiler(MADE)
    build._compiled()
    script = tmp_path / "compiler"
    script.write_text(script.read_text().replace("echo one", "echo two"))
    build._compiled()
    monkeypatch.setenv("CXX", f"{script} -O1")
    script.write_text(script.read_text().replace('"$1" = --version', '"$2" = --version'))
    build._compiled()
    assert len(list(folder.iterdir())) == runs(tmp_path) == 3


def test_a_broken_library_is_made_again(compiler, folder, tmp_path, monkeypatch):
    compiler(MADE)
    build._compiled()
    (whole,) = folder.iterdir()
    # In another folder, since a process opens a library of one path once.
    monkeypatch.setenv("XDG_CACHE_HOME", os.fspath(tmp_path / "other"))
    broken = tmp_path / "other" / "vrn" / "native" / whole.name
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"")
    assert build._compiled()._name == os.fspath(broken)
    assert broken.read_bytes() == whole.read_bytes()
    assert runs(tmp_path) == 2


@pytest.mark.parametrize(
    ("action", "left"),
    [("echo cannot >&2; exit 1", 0), ("true", 0), (MADE, 1)],
    ids=["fails", "writes_nothing", "writes_another_library"],
)
def test_without_a_library_there_is_a_warning(compiler, folder, caplog, action, left):
    compiler(action)
    with caplog.at_level(logging.WARNING, logger="absl"):
        assert build.load.__wrapped__() is None
    assert "name one in $CXX" in caplog.text
    assert len(list(folder.glob("*"))) == left


def no_space(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "fault",
    [None, (shutil, "copyfile"), (os, "replace")],
    ids=["no_folder", "full_disk", "read_only"],
)
def test_without_a_folder_to_keep_it_the_library_serves_this_process(
    compiler, folder, tmp_path, monkeypatch, caplog, fault
):
    compiler(MADE)
    if fault is None:
        folder.parent.parent.write_text("a file")
    else:
        monkeypatch.setattr(*fault, no_space)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(temporary))
    with caplog.at_level(logging.WARNING, logger="absl"):
        library = build._compiled()
    assert library.PyInit__ctypes
    assert "name another folder in $XDG_CACHE_HOME" in caplog.text
    assert not list(temporary.iterdir())
    assert not list(folder.glob("*"))
    assert runs(tmp_path) == 1


@pytest.mark.parametrize(("named", "said"), [("/absent", "absent"), ('"open', "quotation")])
def test_a_compiler_that_cannot_be_is_named(folder, monkeypatch, caplog, named, said):
    monkeypatch.setenv("CXX", named)
    with caplog.at_level(logging.WARNING, logger="absl"):
        assert build.load.__wrapped__() is None
    assert said in caplog.text
    assert not folder.exists()


def test_the_library_can_be_declined(monkeypatch):
    monkeypatch.setenv("VRN_NATIVE", "0")
    assert build.load.__wrapped__() is None


needs_library = pytest.mark.skipif(
    not build.computes(jnp.float32), reason="nn/native is not compiled"
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


@needs_library
@pytest.mark.parametrize(("inputs", "outputs"), [(0, 3), (3, 0), (0, 0)])
def test_no_channels_give_zeros_of_their_shape(inputs, outputs):
    x, y = jnp.ones((2, *GEOMETRY.size, inputs)), jnp.ones((2, *GEOMETRY.out_size, outputs))
    w = jnp.ones((3, 3, inputs, outputs))
    np.testing.assert_array_equal(native.forward(GEOMETRY, x, w), jnp.zeros_like(y))
    np.testing.assert_array_equal(native.input_gradient(GEOMETRY, y, w), jnp.zeros_like(x))
    np.testing.assert_array_equal(native.filter_gradient(GEOMETRY, x, y), jnp.zeros_like(w))


@needs_library
@pytest.mark.parametrize("size", [(4, 2), (2, 4), (2, 2)])
def test_a_kernel_that_does_not_fit_gives_nothing(size):
    x, w = jnp.ones((1, *size, 1)), jnp.ones((5, 5, 1, 1))
    y, back = jax.jit(lambda w: jax.vjp(lambda w: conv(x, w, padding="VALID"), w))(w)
    assert y.shape == (1, 0, 0, 1)
    np.testing.assert_array_equal(back(y)[0], 0)


@needs_library
@pytest.mark.parametrize("channels", [1, 9])
def test_a_kernel_wider_than_the_image_gives_no_gradient(channels):
    x, w = jnp.ones((1, 4, 2, channels)), jnp.ones((3, 3, channels, 1))
    gradient = jax.grad(lambda w: conv(x, w, padding="VALID").sum())(w)
    np.testing.assert_array_equal(gradient, 0)
