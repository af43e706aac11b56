"""Convolutions with a bias and a leaky ReLU in their pass, against the operations one by one."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan.models import dcgan
from nn import conv as conv_lib
from nn import conv_cpu
from nn.conv import Conv, Geometry
from nn.native import build
from nn.native import conv as native
from nn.rectified import rectified_convs
from tests.nn.test_conv import BATCH, CASES, WIDE, arrays, assert_close

SLOPE = 0.2
# Images, their channels, those of the layers, kernel and stride.
STACKS = {
    "one_layer": ((8, 6), 2, (5,), 4, 2),
    "dcgan": ((8, 8), 1, (3, 9, 4), 4, 2),
    "down_to_a_pixel": ((4, 4), 2, (3, 4, 5), 4, 2),
    "without_strides": ((5, 7), 3, (9, 10), 3, 1),
    "volume": ((4, 4, 6), 1, (2, 3), 4, 2),
}


class Stack(nn.Module):
    """The layers in one, or as the operations that they are made of."""

    features: tuple[int, ...]
    kernel: int
    stride: int
    slope: float
    joined: bool

    @nn.compact
    def __call__(self, x):
        init = nn.initializers.normal(0.3)
        if self.joined:
            return rectified_convs(
                x,
                self.features,
                kernel=self.kernel,
                stride=self.stride,
                slope=self.slope,
                kernel_init=init,
            )
        for features in self.features:
            x = Conv(features, kernel=self.kernel, stride=self.stride, kernel_init=init)(x)
            x = jax.nn.leaky_relu(x, self.slope)
        return x


def stacks(case, dtype, slope):
    """Both stacks, their parameters, with biases that are not zero, and images."""
    size, channels, features, kernel, stride = STACKS[case]
    both = [Stack(features, kernel, stride, slope, joined) for joined in (True, False)]
    (x,) = arrays(3, (BATCH, *size, channels))
    x = jnp.asarray(x, dtype)
    rng = np.random.default_rng(4)
    like = jax.eval_shape(both[0].init, jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, like) == jax.tree.map(
        jnp.shape, jax.eval_shape(both[1].init, jax.random.key(0), x)
    )
    params = jax.tree.map(
        lambda leaf: jnp.asarray(0.3 * rng.standard_normal(leaf.shape), dtype), like
    )
    return both, params, x


def penalised(stack, params, x):
    """Value, gradients, and those of a gradient penalty beside them."""

    def score(params, x):
        y = stack.apply(params, x)
        return jnp.sum(jnp.sin(y) * jnp.linspace(0.5, 1.5, y.size).reshape(y.shape))

    def penalty(params, x):
        return sum(jnp.sum(jnp.sin(g)) for g in jax.tree.leaves(jax.grad(score, (0, 1))(params, x)))

    first = jax.value_and_grad(score, (0, 1))(params, x)
    return first, jax.grad(penalty, (0, 1))(params, x)


@pytest.mark.parametrize("slope", [0.0, SLOPE])
@pytest.mark.parametrize("case", STACKS)
def test_a_stack_and_its_derivatives_are_those_of_its_layers(case, slope):
    with jax.enable_x64(True):
        (ours, theirs), params, x = stacks(case, jnp.float64, slope)
        got = jax.jit(lambda params, x: penalised(ours, params, x))(params, x)
        assert_close(got, jax.jit(lambda params, x: penalised(theirs, params, x))(params, x))


@pytest.mark.skipif(not build.computes(jnp.float32), reason="nn/native is not compiled")
@pytest.mark.parametrize("case", STACKS)
def test_in_float32_it_is_as_near(case):
    with jax.enable_x64(True):
        (_, theirs), params, x = stacks(case, jnp.float64, SLOPE)
        expected = penalised(theirs, params, x)
    (ours, _), params, x = stacks(case, jnp.float32, SLOPE)
    got = penalised(ours, params, x)
    assert_close(got, jax.tree.map(lambda a: a.astype(jnp.float32), expected))


@pytest.mark.skipif(not build.computes(jnp.float32), reason="nn/native is not compiled")
@pytest.mark.parametrize("case", CASES | WIDE)
def test_the_compiled_passes_equal_the_operations_one_by_one(case, monkeypatch):
    monkeypatch.setattr(conv_cpu, "_FEW", 0)
    monkeypatch.setattr(native, "IMAGE", (10**6, 10**6))  # Winograd's form does no more than F, T
    size, inputs, outputs, kernel, strides, padding = (CASES | WIDE)[case]
    geometry = Geometry(size, kernel, strides, conv_lib._pads(padding, size, kernel, strides))
    out = (BATCH, *geometry.out_size, outputs)
    shapes = ((BATCH, *size, inputs), (*kernel, inputs, outputs), (outputs,), out)
    x, w, b, y = (jnp.asarray(a, jnp.float32) for a in arrays(5, *shapes))
    rectified = conv_cpu.rectified(geometry, x.dtype, SLOPE, w)
    gated = conv_cpu.gated(geometry, x.dtype, SLOPE, w)
    with jax.enable_x64(True):
        wide = [a.astype(jnp.float64) for a in (x, w, b, y)]
        sums = conv_lib._forward_plain(geometry, wide[0], wide[1]) + wide[2]
        back = conv_lib._input_gradient_plain(geometry, wide[3], wide[1])
        expected = (
            np.where(sums > 0, sums, SLOPE * sums),
            np.where(wide[0] > 0, back, SLOPE * back),
        )
    got = jax.jit(rectified)(x, w, b), jax.jit(gated)(y, w, x)
    assert_close(got, jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), expected))


@pytest.mark.skipif(not build.computes(jnp.float32), reason="nn/native is not compiled")
def test_a_discriminator_passes_over_no_image_but_in_its_convolutions():
    network = dcgan.Discriminator(size=32, channels=1, width=32, num_classes=2)
    x, labels = jnp.zeros((4, 32, 32, 1)), jnp.zeros(4, jnp.int32)
    params = network.init(jax.random.key(0), x, labels)
    program = jax.jit(network.apply).lower(params, x, labels).compile().as_text()
    images = ("f32[4,16,16,32]", "f32[4,8,8,64]")
    rectifiers = [line for line in program.splitlines() if "select(" in line or "maximum(" in line]
    assert all(image in program for image in images)
    assert not any(image in line for line in rectifiers for image in images)


@pytest.mark.skipif(not build.computes(jnp.float32), reason="nn/native is not compiled")
def test_a_gradient_penalty_takes_no_zeros_back_through_the_layers():
    (stack, _), params, x = stacks("dcgan", jnp.float32, SLOPE)

    def penalty(params):
        return jnp.square(jax.grad(lambda x: stack.apply(params, x).sum())(x)).sum()

    program = jax.jit(jax.grad(penalty)).lower(params).compile().as_text()
    # One for each kernel, by which the gradient of the images was made.
    assert program.count('custom_call_target="vrn_conv_scatter"') == len(stack.features)


def test_winograds_layers_are_rectified_behind_their_pass():
    shape = (1, 8, 8, 32)
    w = jnp.zeros((3, 3, 32, 32))
    geometry = conv_lib.geometry_of(shape, w, 1, "SAME")
    if build.computes(jnp.float32) and 32 % build.load().vrn_conv_lanes() == 0:
        assert native.winograd(geometry, native.IMAGE, (8, 8), (32, 32))
    assert conv_cpu.rectified(geometry, jnp.float32, SLOPE, w) is None
    assert conv_cpu.gated(geometry, jnp.float32, SLOPE, w) is None
