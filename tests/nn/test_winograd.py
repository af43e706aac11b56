"""Winograd's form of the three maps, in every size: the definition in float64, and its order."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nn import conv as conv_lib
from nn.conv import Geometry
from nn.native import build
from nn.native import conv as native
from tests.nn.test_conv import assert_close, derivatives, plain

pytestmark = pytest.mark.skipif(not build.computes(jnp.float32), reason="nn/native is not compiled")
LANES = build.load().vrn_conv_lanes() if build.computes(jnp.float32) else 16
ONE = ((1, 1), (1, 1))
# (H, W), channels of x and y in vectors, padding.
CASES = {
    "even": ((8, 12), 2, 2, ONE),
    "odd": ((7, 9), 3, 5, ONE),
    "one_pixel": ((1, 1), 1, 1, ONE),
    "two_rows": ((2, 11), 1, 2, ONE),
    "valid": ((6, 5), 2, 1, ((0, 0), (0, 0))),
    "one_sided": ((6, 7), 2, 2, ((0, 2), (2, 0))),
    "cut": ((6, 9), 1, 2, ((-1, 2), (3, -2))),
    "far_past_the_border": ((3, 4), 1, 1, ((5, 4), (0, 6))),
    "several_blocks": ((5, 4), 9, 6, ONE),
    "many_patches": ((40, 34), 4, 4, ONE),
}
MAPS = ("forward", "input_gradient", "filter_gradient")


@pytest.fixture
def everywhere(monkeypatch):
    """Takes Winograd's form wherever there is one."""
    monkeypatch.setattr(native, "IMAGE", (0, 0))
    monkeypatch.setattr(native, "_KERNEL", (0, 0))


def operands(name, geometry, inputs, outputs, images):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((images, *geometry.size, inputs))
    y = rng.standard_normal((images, *geometry.out_size, outputs))
    w = rng.standard_normal((3, 3, inputs, outputs))
    return {"forward": (x, w), "input_gradient": (y, w), "filter_gradient": (x, y)}[name]


def compiled(name, geometry):
    def form(left, right):  # jit would find an equal function of another test's thresholds
        return getattr(native, name)(geometry, left, right)

    return jax.jit(form)


def takes_winograd(form, *values):
    return "vrn_winograd" in form.lower(*values).as_text()


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("case", CASES)
def test_every_map_is_that_of_the_definition(everywhere, case, name):
    size, inputs, outputs, pads = CASES[case]
    geometry = Geometry(size, (3, 3), (1, 1), pads)
    pair = operands(name, geometry, inputs * LANES, outputs * LANES, images=3)
    narrow = [jnp.asarray(a, jnp.float32) for a in pair]
    form = compiled(name, geometry)
    assert takes_winograd(form, *narrow)
    with jax.enable_x64(True):
        definition = getattr(conv_lib, f"_{name}_plain")
        expected = definition(geometry, *(jnp.asarray(a, jnp.float64) for a in narrow))
    # Half of what assert_close allows: the definition itself rounds to 2e-7 of the largest number.
    error = np.abs(np.asarray(form(*narrow), np.float64) - np.asarray(expected)).max()
    assert error <= 5e-6 * np.abs(expected).max()


@pytest.mark.parametrize("case", CASES)
def test_sums_go_on_top_of_other_images(everywhere, case):
    size, inputs, outputs, pads = CASES[case]
    geometry = Geometry(size, (3, 3), (1, 1), pads)
    x, w = operands("forward", geometry, inputs * LANES, outputs * LANES, images=3)
    y, _ = operands("input_gradient", geometry, inputs * LANES, outputs * LANES, images=3)
    x, w, y = (jnp.asarray(a, jnp.float32) for a in (x, w, y))
    alone = jax.jit(functools.partial(native.input_gradient, geometry))
    onto = jax.jit(lambda y, w, x: native.input_gradient(geometry, y, w, x))
    assert takes_winograd(onto, y, w, x)
    before = np.array(x)
    np.testing.assert_array_equal(onto(y, w, x), before + alone(y, w))
    np.testing.assert_array_equal(x, before)  # somebody still has them: they were copied


def test_first_and_second_derivatives(everywhere):
    x, w = (jnp.asarray(a, jnp.float32) for a in operands("forward", *_layer(), images=2))
    w = 0.05 * w  # else sines of large numbers would magnify what float32 rounds
    ours = jax.jit(lambda x, w: derivatives(conv_lib.conv, x, w))
    assert ours.lower(x, w).as_text().count("vrn_winograd_kernel") > 1
    with jax.enable_x64(True):
        wide = (x.astype(jnp.float64), w.astype(jnp.float64))
        theirs = derivatives(lambda x, w: plain(x, w, (1, 1), "SAME"), *wide)
    assert_close(ours(x, w), jax.tree.map(lambda a: a.astype(jnp.float32), theirs))


@pytest.mark.parametrize("name", ["forward", "input_gradient"])
def test_an_image_gives_the_same_bits_in_every_batch(everywhere, name):
    images, w = (jnp.asarray(a, jnp.float32) for a in operands(name, *_layer(), images=13))
    form = compiled(name, _layer()[0])
    together = form(images, w)
    for begin, end in ((0, 1), (3, 10)):
        np.testing.assert_array_equal(form(images[begin:end], w), together[begin:end])


def test_filter_gradients_repeat_to_the_bit(everywhere):
    x, y = (jnp.asarray(a, jnp.float32) for a in operands("filter_gradient", *_layer(), images=64))
    form = compiled("filter_gradient", _layer()[0])
    first = form(x, y)
    for _ in range(20):
        np.testing.assert_array_equal(form(x, y), first)


def test_no_images_give_no_gradient(everywhere):
    geometry, inputs, outputs = _layer()
    for name in MAPS:
        values = operands(name, geometry, inputs, outputs, images=0)
        result = compiled(name, geometry)(*(jnp.asarray(a, jnp.float32) for a in values))
        assert not np.asarray(result).any()


@pytest.mark.parametrize(
    ("channels", "size", "kernel", "stride", "names"),
    [
        (2 * LANES, 8, 3, 1, MAPS),
        (2 * LANES, 4, 3, 1, MAPS[:2]),
        (LANES, 8, 3, 1, MAPS[2:]),
        (2 * LANES + 1, 8, 3, 1, ()),
        (2 * LANES, 8, 5, 1, ()),
        (2 * LANES, 8, 3, 2, ()),
    ],
)
@pytest.mark.skipif(LANES != 16, reason="the numbers are for vectors of sixteen")
def test_what_takes_it(channels, size, kernel, stride, names):
    geometry = Geometry((size, size), (kernel,) * 2, (stride,) * 2, ((kernel // 2,) * 2,) * 2)
    w = jnp.zeros((kernel, kernel, channels, channels))
    x, y = (jnp.zeros((2, *s, channels)) for s in (geometry.size, geometry.out_size))
    values = {"forward": (x, w), "input_gradient": (y, w), "filter_gradient": (x, y)}
    taken = [n for n in MAPS if takes_winograd(compiled(n, geometry), *values[n])]
    assert taken == list(names)


def _layer():
    return Geometry((9, 6), (3, 3), (1, 1), ONE), 3 * LANES, 5 * LANES
