"""Convolutions of volumes by the compiled library, slice by slice."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from nn import conv as conv_lib
from nn.conv import Geometry, conv, conv_transpose
from nn.native import build, volume

# Size, kernel, strides and padding of x; channels of x and y.
CASES = {
    "plain": (Geometry((3, 5, 4), (3, 3, 3), (1, 1, 1), ((1, 1),) * 3), 2, 3),
    "winograd": (Geometry((2, 5, 6), (3, 3, 3), (1, 1, 1), ((1, 1),) * 3), 32, 32),
    "down": (Geometry((4, 8, 6), (4, 4, 4), (2, 2, 2), ((1, 1),) * 3), 2, 3),
    "pointwise": (Geometry((3, 4, 5), (1, 1, 1), (1, 1, 1), ((0, 0),) * 3), 2, 3),
    "jumped": (Geometry((5, 4, 3), (2, 1, 3), (3, 2, 1), ((0, 0),) * 3), 2, 3),
    "cut": (Geometry((7, 4, 4), (3, 3, 3), (2, 1, 1), ((-1, 2), (1, 1), (0, 2))), 2, 3),
    "flat": (Geometry((1, 4, 4), (5, 3, 3), (1, 1, 1), ((2, 2), (1, 1), (1, 1))), 2, 3),
}
MAPS = {
    "forward": (volume.forward, conv_lib._forward_plain),
    "input_gradient": (volume.input_gradient, conv_lib._input_gradient_plain),
    "filter_gradient": (volume.filter_gradient, conv_lib._filter_gradient_plain),
}


@pytest.fixture(autouse=True)
def _library():
    if not build.computes(jnp.float32):
        pytest.skip("there is no compiled library")


def operands(case, seed=0):
    """x, w and y of small whole numbers, of which float32 makes exact sums."""
    geometry, inputs, outputs = CASES[case]
    rng = np.random.default_rng(seed)
    shapes = (
        (2, *geometry.size, inputs),
        (*geometry.kernel, inputs, outputs),
        (2, *geometry.out_size, outputs),
    )
    return [rng.integers(-4, 5, shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("case", CASES)
def test_the_maps_are_those_of_the_plain_operation(case, name):
    x, w, y = operands(case)
    left, right = {"forward": (x, w), "input_gradient": (y, w), "filter_gradient": (x, y)}[name]
    ours, plain = (jax.jit(functools.partial(form, CASES[case][0])) for form in MAPS[name])
    np.testing.assert_array_equal(ours(left, right), plain(left, right))


def test_a_gradient_goes_on_top_of_other_volumes():
    x, w, y = operands("down")
    ours = functools.partial(volume.input_gradient, CASES["down"][0])
    np.testing.assert_array_equal(jax.jit(ours)(y, w, x), x + ours(y, w))


@pytest.mark.parametrize("case", ["plain", "down"])
def test_gradients_of_both_orders_are_those_in_float64(case):
    geometry = CASES[case][0]
    given = [0.1 * one for one in operands(case)]

    def plain(x, w):
        layout = ("NDHWC", "DHWIO", "NDHWC")
        return lax.conv_general_dilated(
            x, w, geometry.strides, geometry.pads, dimension_numbers=layout
        )

    def ours(x, w):
        return conv(x, w, strides=geometry.strides, padding=geometry.pads)

    def back(forward):
        """As networks have them: down, and up again."""

        def loss(x, w):
            y = forward(x, w)
            return jnp.square(y).sum() + (y[..., :1] ** 3).mean()

        def penalty(x, w):
            return jnp.square(jax.grad(loss)(x, w)).mean()

        return lambda x, w: (loss(x, w), jax.grad(penalty, (0, 1))(x, w))

    found = jax.jit(back(ours))(*given[:2])
    assert "vrn_conv" in jax.jit(back(ours)).lower(*given[:2]).as_text()
    with jax.enable_x64(True):
        expected = jax.jit(back(plain))(*(np.asarray(one, np.float64) for one in given[:2]))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-6 * np.abs(other).max())


def test_transposed_they_make_volumes_larger():
    _, w, y = operands("down")
    grown = conv_transpose(y, w, strides=2)
    assert grown.shape == (2, *CASES["down"][0].size, 2)
    plain = conv_lib._input_gradient_plain(CASES["down"][0], y, w)
    np.testing.assert_array_equal(grown, plain)
