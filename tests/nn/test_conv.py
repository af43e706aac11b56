"""Convolutions against JAX's own operations, values and gradients of first and second order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from nn import conv as conv_lib
from nn import conv_cpu
from nn.conv import Conv, ConvTranspose, Geometry, conv, conv_transpose, forked_conv
from nn.native import build
from nn.native import conv as native

# (size, channels in, channels out, kernel, strides, padding); the first two are the layers of a
# DCGAN, whose fast forms must not differ from the plain operation.
CASES = {
    "dcgan": ((8, 8), 4, 6, (4, 4), (2, 2), "SAME"),
    "dcgan_one_channel": ((8, 8), 1, 5, (4, 4), (2, 2), "SAME"),
    "dcgan_to_channels": ((8, 8), 3, 2, (4, 4), (2, 2), "SAME"),
    "resnet": ((6, 6), 3, 4, (3, 3), (1, 1), 1),
    "resnet_down": ((7, 7), 3, 4, (3, 3), (2, 2), 1),
    "shortcut": ((6, 6), 3, 5, (1, 1), (2, 2), 0),
    "pointwise": ((5, 5), 3, 5, (1, 1), (1, 1), "SAME"),
    "stem": ((15, 15), 1, 2, (7, 7), (2, 2), 3),
    "valid": ((9, 9), 2, 3, (4, 4), (2, 2), "VALID"),
    "valid_rest": ((10, 10), 2, 3, (3, 3), (3, 3), "VALID"),
    "whole_image": ((4, 4), 3, 2, (4, 4), (1, 1), "VALID"),
    "same_even_kernel": ((6, 6), 2, 3, (4, 4), (1, 1), "SAME"),
    "oblong": ((6, 10), 2, 3, (3, 5), (1, 2), "SAME"),
    "asymmetric": ((8, 8), 2, 3, (3, 4), (2, 1), ((0, 2), (3, 1))),
    "one_sided": ((8, 8), 2, 3, (4, 4), (2, 2), ((2, 0), (0, 2))),
    "odd_with_even_kernel": ((9, 9), 2, 3, (4, 4), (2, 2), "SAME"),
    "rich": ((6, 6), 32, 33, (3, 3), (1, 1), 1),
    "rich_down": ((6, 6), 8, 32, (3, 3), (2, 2), 1),
    "rich_pointwise": ((5, 5), 32, 8, (1, 1), (1, 1), 0),
    "stride_past_kernel": ((9, 9), 2, 3, (2, 2), (3, 3), "VALID"),
    "kernel_past_image": ((2, 2), 3, 4, (3, 3), (1, 1), 1),
    "kernel_past_image_down": ((3, 2), 3, 4, (5, 4), (2, 2), 2),
    "mostly_padding": ((2, 2), 3, 4, (4, 4), (2, 2), "SAME"),
    "one_pixel": ((1, 1), 3, 4, (3, 3), (1, 1), 1),
    "nothing_but_padding": ((2, 2), 3, 4, (2, 2), (3, 3), ((2, 0), (2, 0))),
}
# Channels past one tile of registers, one chunk of the cache, or both; many pixels, many images.
WIDE = {
    "two_blocks": ((9, 9), 70, 130, (3, 3), (1, 1), 1),
    "deep": ((3, 3), 1500, 17, (3, 3), (1, 1), 1),
    "deep_down": ((6, 6), 17, 1100, (4, 4), (2, 2), "SAME"),
    "large_kernel": ((5, 5), 200, 200, (3, 3), (1, 1), 1),
    "large_image": ((70, 65), 5, 7, (3, 3), (1, 1), 1),
    "past_the_border": ((4, 4), 2, 3, (3, 3), (1, 1), ((5, 4), (3, 6))),
    "cut": ((9, 9), 2, 3, (3, 3), (1, 1), ((-2, 1), (1, -3))),
    # Few channels: taps side by side, or vectors of the other side's channels.
    "stem_wide": ((21, 19), 1, 16, (7, 7), (2, 2), 3),
    "stem_two_blocks": ((12, 12), 3, 70, (4, 4), (2, 2), "SAME"),
    "to_few": ((9, 13), 40, 3, (3, 3), (1, 1), 1),
    "to_one": ((9, 13), 16, 1, (3, 3), (1, 1), 1),
    "to_few_deep": ((3, 3), 1500, 7, (3, 3), (1, 1), 1),
    "to_few_down": ((12, 12), 20, 2, (4, 4), (2, 2), "SAME"),
    "few_wide": ((7, 30), 3, 5, (3, 5), (1, 1), 2),
    "few_wide_down": ((7, 30), 5, 20, (3, 7), (2, 3), 3),
    # Filter gradients tap by tap: wide borders, a kernel past the image, threads that share it out.
    "wide_border_down": ((15, 13), 9, 10, (7, 7), (2, 2), 3),
    "rich_kernel_past_image_down": ((3, 2), 9, 10, (5, 4), (2, 2), 2),
    "few_channels_large_kernel": ((5, 5), 3, 5000, (3, 3), (1, 1), 1),
}
# As many channels as a vector has, or more or fewer; kernels three wide and not; rows of many
# pixels and few.
LANES = build.load().vrn_conv_lanes() if build.computes(jnp.float32) else 16
WIDE |= {
    "row": ((5, 37), LANES, LANES, (3, 3), (1, 1), 1),
    "row_to_fewer": ((5, 20), LANES, LANES - 1, (3, 3), (1, 1), 1),
    "row_to_blocks": ((5, 6), LANES, 4 * LANES + 3, (3, 3), (1, 1), 1),
    "row_from_more": ((20, 258), LANES + 3, LANES, (3, 3), (1, 1), 1),
    "row_down": ((7, 9), LANES, LANES, (3, 3), (2, 2), 1),
    "row_across": ((5, 9), LANES, LANES, (3, 3), (1, 2), 1),
    "row_past_the_border": ((4, 5), LANES, LANES, (3, 3), (1, 1), ((1, 0), (5, 4))),
    "row_cut": ((6, 9), LANES, LANES, (3, 3), (1, 1), ((0, 0), (-2, 1))),
    "row_narrow": ((4, 2), LANES, LANES, (3, 3), (1, 1), 1),
    "row_of_one_pixel": ((1, 1), LANES, LANES, (3, 3), (1, 1), 1),
    "row_of_two_taps": ((4, 9), LANES, LANES, (3, 2), (1, 1), "VALID"),
    "row_of_four_taps": ((4, 9), LANES, LANES, (2, 4), (1, 1), "SAME"),
    "row_flat": ((4, 9), LANES, LANES, (1, 3), (1, 1), 0),
    "row_valid": ((5, 18), LANES, LANES, (3, 3), (1, 1), "VALID"),
    "row_one_sided": ((6, 7), LANES, LANES, (3, 3), (1, 1), ((0, 2), (2, 0))),
    "row_tall": ((30, 6), LANES, LANES, (25, 3), (1, 1), "VALID"),
}
VOLUMES = {
    "volume": ((3, 5, 4), 2, 3, (3, 3, 3), (1, 1, 1), 1),
    "volume_down": ((4, 8, 6), 2, 3, (4, 4, 4), (2, 2, 2), "SAME"),
    "volume_pointwise": ((3, 4, 5), 2, 3, (1, 1, 1), (1, 2, 1), "VALID"),
}
RUNS = [(case, jnp.float64) for case in CASES | VOLUMES]
RUNS += [(case, jnp.float32) for case in ("dcgan", "resnet_down", "asymmetric")]
BATCH = 3


def plain(x, w, strides, padding):
    if isinstance(padding, int):
        padding = ((padding, padding),) * (x.ndim - 2)
    flat, deep = ("NHWC", "HWIO", "NHWC"), ("NDHWC", "DHWIO", "NDHWC")
    layout = flat if x.ndim == 4 else deep
    return lax.conv_general_dilated(x, w, strides, padding, dimension_numbers=layout)


def arrays(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


def derivatives(function, a, b):
    """Value, first and second derivatives of a scalar that is not linear in either argument."""

    def scalar(a, b):
        y = function(a, b)
        return jnp.sum(jnp.sin(y) * jnp.linspace(0.5, 1.5, y.size).reshape(y.shape))

    def first(a, b):
        return jax.grad(scalar, (0, 1))(a, b)

    def second(a, b):
        return sum(jnp.sum(jnp.sin(g) * jnp.cos(g + 1)) for g in first(a, b))

    return function(a, b), first(a, b), jax.grad(second, (0, 1))(a, b)


def assert_close(got, expected):
    # Relative to each array's own size: sums over the batch are larger than single outputs.
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        tolerance = 1e-12 if other.dtype == jnp.float64 else 1e-5
        scale = float(jnp.abs(other).max())
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize(("case", "dtype"), RUNS)
def test_conv_and_its_gradients_equal_those_of_the_plain_operation(case, dtype):
    size, inputs, outputs, kernel, strides, padding = (CASES | VOLUMES)[case]
    with jax.enable_x64(True):
        x, w = arrays(0, (BATCH, *size, inputs), (*kernel, inputs, outputs))
        x, w = jnp.asarray(x, dtype), jnp.asarray(w, dtype)
        ours = jax.jit(
            lambda x, w: derivatives(
                lambda x, w: conv(x, w, strides=strides, padding=padding), x, w
            )
        )
        theirs = jax.jit(lambda x, w: derivatives(lambda x, w: plain(x, w, strides, padding), x, w))
        assert_close(ours(x, w), theirs(x, w))


@pytest.mark.parametrize(
    ("case", "dtype"), [run for run in RUNS if run[0].startswith(("dcgan", "one", "odd", "volume"))]
)
def test_conv_transpose_is_the_input_gradient_of_conv(case, dtype):
    size, outputs, inputs, kernel, strides, padding = (CASES | VOLUMES)[case]
    with jax.enable_x64(True):
        x_shape = (BATCH, *size, outputs)
        x, w = arrays(1, x_shape, (*kernel, outputs, inputs))
        x, w = jnp.asarray(x, dtype), jnp.asarray(w, dtype)
        y = jnp.cos(plain(x, w, strides, padding))

        def transposed(y, w):
            return jax.linear_transpose(lambda x: plain(x, w, strides, padding), x)(y)[0]

        def ours(y, w):
            return conv_transpose(y, w, strides=strides, padding=padding, size=size)

        got = jax.jit(lambda y, w: derivatives(ours, y, w))(y, w)
        assert_close(got, jax.jit(lambda y, w: derivatives(transposed, y, w))(y, w))


@pytest.mark.parametrize(
    ("case", "dtype"), [run for run in RUNS if run[0].startswith(("resnet", "short", "volume"))]
)
def test_a_fork_adds_up_what_comes_back_for_its_images(case, dtype):
    size, inputs, outputs, kernel, strides, padding = (CASES | VOLUMES)[case]
    with jax.enable_x64(True):
        x, w = arrays(7, (BATCH, *size, inputs), (*kernel, inputs, outputs))
        x, w = jnp.asarray(x, dtype), jnp.asarray(w, dtype)

        def joined(y, x):
            return jnp.concatenate([y.ravel(), jnp.sin(2 * x).ravel()])

        def ours(x, w):
            return joined(*forked_conv(x, w, strides=strides, padding=padding))

        def theirs(x, w):
            return joined(plain(x, w, strides, padding), x)

        got = jax.jit(lambda x, w: derivatives(ours, x, w))(x, w)
        assert_close(got, jax.jit(lambda x, w: derivatives(theirs, x, w))(x, w))


@pytest.mark.parametrize("few", [0, 99], ids=["phases", "spread"])
@pytest.mark.parametrize("case", CASES)
def test_the_forms_for_cpu_equal_those_for_accelerators(case, few, monkeypatch):
    monkeypatch.setattr(conv_cpu, "_FEW", few)
    with jax.enable_x64(True):
        assert_forms_equal_plain(case, jnp.float64)


@pytest.mark.skipif(not build.computes(jnp.float32), reason="nn/native is not compiled")
@pytest.mark.parametrize("case", CASES | WIDE)
def test_the_compiled_maps_equal_those_for_accelerators(case, monkeypatch):
    monkeypatch.setattr(conv_cpu, "_FEW", 0)
    assert_forms_equal_plain(case, jnp.float32)


def assert_forms_equal_plain(case, dtype):
    size, inputs, outputs, kernel, strides, padding = (CASES | WIDE)[case]
    geometry = Geometry(size, kernel, strides, conv_lib._pads(padding, size, kernel, strides))
    shapes = (
        (BATCH, *size, inputs),
        (*kernel, inputs, outputs),
        (BATCH, *geometry.out_size, outputs),
    )
    x, w, y = (jnp.asarray(a, dtype) for a in arrays(5, *shapes))
    transposed = conv_cpu.input_gradient(geometry, dtype, inputs)
    forms = [
        (conv_cpu.forward(geometry, dtype), conv_lib._forward_plain, (x, w)),
        (transposed, conv_lib._input_gradient_plain, (y, w)),
        (transposed, conv_lib._input_gradient_plain, (y, w, x)),
        (conv_cpu.filter_gradient(geometry, dtype), conv_lib._filter_gradient_plain, (x, y)),
    ]
    compiled = build.computes(dtype)
    for ours, plain_form, operands in forms:
        assert not compiled or ours.func.__module__ == native.__name__
        if ours is not None:
            with jax.enable_x64(True):  # the reference
                expected = plain_form(geometry, *(a.astype(jnp.float64) for a in operands))
            assert_close(jax.jit(ours)(*operands), expected.astype(dtype))


def test_without_a_compiler_float32_takes_the_other_forms(monkeypatch):
    monkeypatch.setattr(build, "computes", lambda dtype: False)
    for case in ("dcgan", "pointwise", "kernel_past_image"):
        assert_forms_equal_plain(case, jnp.float32)


def test_conv_transpose_matches_lax_conv_transpose():
    y, w = (jnp.asarray(a, jnp.float32) for a in arrays(2, (2, 5, 5, 3), (4, 4, 6, 3)))
    expected = lax.conv_transpose(
        y, w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), transpose_kernel=True
    )
    np.testing.assert_allclose(conv_transpose(y, w, strides=(2, 2)), expected, atol=1e-5)


def test_conv_works_under_vmap():
    x, w = (jnp.asarray(a, jnp.float32) for a in arrays(3, (2, 3, 8, 8, 2), (4, 4, 2, 5)))
    batched = jax.vmap(lambda x: conv(x, w, strides=(2, 2)))(x)
    flat = conv(x.reshape(6, 8, 8, 2), w, strides=(2, 2))
    np.testing.assert_allclose(batched.reshape(flat.shape), flat, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 3, 4, 5])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_a_kernel_loses_the_edges_that_meet_no_image(size, kernel, stride):
    for pads in ((0, 0), (1, 1), (2, 1), (0, 3), (4, 4)):
        if size + sum(pads) < kernel:
            continue
        geometry = Geometry((size,), (kernel,), (stride,), (pads,))
        w = jnp.arange(kernel)[:, None, None]
        cut, left = conv_lib.met(geometry, w)
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(np.ones(size), pads), kernel)
        met = np.flatnonzero(windows[::stride].any(0))
        expected = range(met[0], met[-1] + 1) if len(met) else range(kernel)
        assert left.ravel().tolist() == list(expected)
        assert cut.out_size == geometry.out_size


def test_conv_rejects_an_unknown_padding():
    with pytest.raises(ValueError, match="'SOME' is unknown"):
        conv(jnp.zeros((1, 4, 4, 1)), jnp.zeros((3, 3, 1, 1)), padding="SOME")


def test_conv_rejects_a_kernel_for_other_channels():
    with pytest.raises(ValueError, match=r"kernel .* takes 2 channels.* 3"):
        conv(jnp.zeros((1, 4, 4, 3)), jnp.zeros((3, 3, 2, 1)))


def test_conv_transpose_rejects_a_size_that_cannot_be():
    with pytest.raises(ValueError, match="give conv_transpose another size"):
        conv_transpose(
            jnp.zeros((1, 4, 4, 1)), jnp.zeros((4, 4, 1, 1)), strides=(2, 2), size=(11, 8)
        )


def test_layers_have_their_shapes_and_bias():
    x = jnp.ones((2, 8, 8, 3))
    down = Conv(5, kernel=4, stride=2)
    y, variables = down.init_with_output(jax.random.key(0), x)
    assert y.shape == (2, 4, 4, 5)
    assert variables["params"]["kernel"].shape == (4, 4, 3, 5)
    shifted = jax.tree.map(lambda leaf: leaf, variables)
    shifted["params"]["bias"] = jnp.arange(5.0)
    np.testing.assert_allclose(
        down.apply(shifted, x) - y, jnp.broadcast_to(jnp.arange(5.0), y.shape), atol=1e-6
    )

    up = ConvTranspose(2, use_bias=False)
    x, variables = up.init_with_output(jax.random.key(0), y)
    assert x.shape == (2, 8, 8, 2)
    assert variables["params"]["kernel"].shape == (4, 4, 2, 5)
    assert "bias" not in variables["params"]


def test_a_first_layer_keeps_the_variance_of_its_input():
    x = jax.random.normal(jax.random.key(0), (8, 16, 16, 32))
    y, _ = Conv(64, kernel=3, padding="VALID").init_with_output(jax.random.key(1), x)
    assert float(y.std()) == pytest.approx(1, abs=0.1)
    # Each output of a stride-2 transposed convolution sums a quarter of the 16 taps.
    x, _ = ConvTranspose(64).init_with_output(jax.random.key(1), y)
    assert float(x.std() / y.std()) == pytest.approx(0.5, abs=0.1)
