"""bfloat16 products: what is in it, what stays float32, and how far results move."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gan import penalties
from gan.models import MODELS
from gan.state import GanSpec, init_state
from gan.steps import train_step
from nn.conv import Conv, ConvTranspose
from nn.native import build
from nn.norm import group_norm
from nn.precision import DTYPES
from nn.resnet import ResNet
from vrn import classifier

BF16 = DTYPES["bfloat16"]


def gan(model, dtype, penalty="none"):
    family = MODELS[model]
    adam = optax.adam(1e-3, b1=0.5)
    return GanSpec(
        family.Generator(16, 1, 4, 3, z_dim=8, dtype=dtype),
        family.Discriminator(16, 1, 4, 3, dtype=dtype),
        adam,
        adam,
        penalty=penalty,
    )


def batch(rows=16):
    images = jax.random.uniform(jax.random.key(9), (rows, 16, 16, 1), minval=-1)
    return {"image": images, "label": jnp.arange(rows) % 3}


def products(lowered):
    """Operand types of all convolutions, and of all matrix products, in a lowered program."""
    text = lowered.as_text()
    found = {}
    for name in ("convolution", "dot_general"):
        lines = [line for line in text.splitlines() if f"stablehlo.{name}" in line]
        types = [re.findall(r"tensor<(?:\d+x)*(\w+)>", line.rsplit(" : ", 1)[1]) for line in lines]
        found[name] = [frozenset(each[:2]) for each in types]
    return found


@pytest.mark.parametrize("layer", [Conv(5, stride=2), ConvTranspose(5)])
def test_a_layer_multiplies_in_its_type_and_keeps_its_parameters(layer):
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    variables = layer.init(jax.random.key(1), x)
    small = dataclasses.replace(layer, dtype=BF16)
    assert jax.tree.map(jnp.shape, small.init(jax.random.key(1), x)) == jax.tree.map(
        jnp.shape, variables
    )
    y = small.apply(variables, x)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y, layer.apply(variables, x), atol=0.03)
    loss = lambda v, x: jnp.sum(jnp.square(small.apply(v, x).astype(jnp.float32)))  # noqa: E731
    lowered = jax.jit(jax.grad(loss, (0, 1))).lower(variables, x)
    kinds = products(lowered)
    assert set(kinds["convolution"] + kinds["dot_general"]) == {frozenset({"bf16"})}
    gradients = jax.grad(loss, (0, 1))(variables, x)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {jnp.dtype("float32")}


def test_statistics_are_taken_in_float32():
    # In bfloat16, whose numbers around 100 lie 0.5 apart, the sum of 4096 would be lost.
    x = (100 + jax.random.normal(jax.random.key(0), (1, 64, 64, 4))).astype(jnp.bfloat16)
    got = group_norm(x, 1, jnp.ones((1, 4)), jnp.zeros((1, 4)))
    assert got.dtype == jnp.bfloat16
    wide = np.asarray(x, np.float64)
    np.testing.assert_allclose(got, (wide - wide.mean()) / wide.std(), atol=0.02)


@pytest.mark.parametrize("model", ["dcgan", "resnet"])
def test_networks_return_float32_from_bfloat16_convolutions(model, monkeypatch):
    monkeypatch.setattr(build, "computes", lambda dtype: False)  # its calls show no types
    spec = gan(model, BF16)
    state = jax.eval_shape(functools.partial(init_state, spec), jax.random.key(0))
    floats = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    assert {leaf.dtype for leaf in floats} == {jnp.dtype("float32")}
    labels, z = jnp.zeros(2, jnp.int32), jnp.zeros((2, 8))
    images = jax.eval_shape(spec.generator.apply, {"params": state.g_params}, z, labels)
    logits = jax.eval_shape(spec.discriminator.apply, {"params": state.d_params}, images, labels)
    assert images.dtype == logits.dtype == jnp.float32

    step = jax.jit(functools.partial(train_step, spec=gan(model, BF16, "gp")))
    kinds = products(step.lower(state, batch(4), jax.random.key(0)))
    assert kinds["convolution"]
    assert set(kinds["convolution"]) == {frozenset({"bf16"})}
    plain = jax.jit(functools.partial(train_step, spec=gan(model, None, "gp")))
    kinds = products(plain.lower(state, batch(4), jax.random.key(0)))
    assert set(kinds["convolution"]) == {frozenset({"f32"})}


def gan_losses(spec, steps):
    state = init_state(spec, jax.random.key(0))
    step = jax.jit(functools.partial(train_step, spec=spec))
    losses = []
    for _ in range(steps):
        state, metrics = step(state, batch(), jax.random.key(1))
        losses.append([metrics[name] for name in ("d_loss", "g_loss", "penalty")])
    return np.array(losses), state


def test_twenty_steps_of_a_gan_stay_near_those_of_float32():
    exact, _ = gan_losses(gan("dcgan", None, "r1"), 20)
    rounded, state = gan_losses(gan("dcgan", BF16, "r1"), 20)
    assert not np.array_equal(exact, rounded)
    np.testing.assert_allclose(rounded[:, :2], exact[:, :2], atol=0.05)
    assert {leaf.dtype for leaf in jax.tree.leaves((state.ema_params, state.d_opt[0].mu))} == {
        jnp.dtype("float32")
    }


@pytest.mark.parametrize("model", ["dcgan", "resnet"])
def test_the_gradient_penalty_in_bfloat16_is_finite_and_close(model):
    exact, rounded = gan(model, None), gan(model, BF16)
    state, fake = init_state(exact, jax.random.key(3)), -batch()["image"]

    def penalty(params, spec):
        d_fn = lambda x: spec.discriminator.apply({"params": params}, x, batch()["label"])  # noqa: E731
        mix = jax.random.uniform(jax.random.key(4), (len(fake), 1, 1, 1))
        return penalties.gradient_penalty(d_fn, batch()["image"], fake, mix)

    run = jax.jit(jax.value_and_grad(penalty), static_argnames="spec")
    params = jax.tree.map(lambda leaf: 3 * leaf, state.d_params)
    (value, gradient), (expected, slope) = (run(params, spec=spec) for spec in (rounded, exact))
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, expected, rtol=0.02)
    difference = optax.tree.norm(optax.tree.sub(gradient, slope)) / optax.tree.norm(slope)
    assert float(difference) < 0.05


def test_twenty_steps_of_a_classifier_stay_near_those_of_float32():
    losses = {}
    for dtype in (None, BF16):
        spec = classifier.ClassifierSpec(ResNet(3, 10, 4, dtype=dtype), optax.adamw(1e-3), 3)
        state = classifier.init_state(jax.random.key(0), (16, 16, 1), spec=spec)
        step = jax.jit(functools.partial(classifier.train_step, spec=spec))
        logits = jax.eval_shape(
            functools.partial(classifier.predict, spec=spec), state.params, batch()["image"]
        )
        assert logits.dtype == jnp.float32
        losses[dtype] = []
        for _ in range(20):
            state, metrics = step(state, batch(), jax.random.key(1))
            losses[dtype].append(float(metrics["loss"]))
    assert losses[None][-1] < losses[None][0] - 0.1
    np.testing.assert_allclose(losses[BF16], losses[None], atol=0.05)
