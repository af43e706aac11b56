"""Projection ResNet-GAN against its formula; shapes, labels, spectral vectors in a step."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen
from jax import lax

from gan import penalties
from gan.models.resnet_gan import Discriminator, Generator
from gan.state import GanSpec, init_state
from gan.steps import train_step
from nn.conv import Conv
from nn.norm import group_count
from nn.spectral import advance


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("size", [16, 32, 64, 128])
def test_shapes_and_published_channels(size, channels):
    generator = Generator(size, channels, width=8, num_classes=3, z_dim=5)
    discriminator = Discriminator(size, channels, width=8, num_classes=3, spectral=True)
    z, labels = jnp.zeros((2, 5)), jnp.zeros((2,), jnp.int32)
    key = jax.random.key(0)
    images, g_variables = jax.eval_shape(generator.init_with_output, key, z, labels)
    assert images.shape == (2, size, size, channels)
    logits, d_variables = jax.eval_shape(discriminator.init_with_output, key, images, labels)
    assert logits.shape == (2,)

    ups = {16: [4] * 3, 32: [4] * 4, 64: [16, 8, 4, 2, 1], 128: [16, 16, 8, 4, 2, 1]}[size]
    downs = {16: [2] * 3, 32: [2] * 4, 64: [1, 2, 4, 8, 16], 128: [1, 2, 4, 8, 16, 16]}[size]
    g_params, d_params = g_variables["params"], d_variables["params"]
    assert g_params["from_latent"]["kernel"].shape == (5, 16 * 8 * ups[0])
    for index, (inputs, outputs) in enumerate(itertools.pairwise(ups)):
        block = g_params[f"UpBlock_{index}"]
        assert block["Conv_0"]["kernel"].shape == (3, 3, 8 * inputs, 8 * outputs)
        assert block["Conv_1"]["kernel"].shape == (3, 3, 8 * outputs, 8 * outputs)
        assert block["shortcut"]["kernel"].shape == (1, 1, 8 * inputs, 8 * outputs)
    first = d_params["DownBlock_0"]
    assert first["Conv_0"]["kernel"].shape == (3, 3, channels, 8 * downs[0])
    for index, (inputs, outputs) in enumerate(itertools.pairwise(downs), 1):
        block = d_params[f"DownBlock_{index}"]
        assert block["Conv_0"]["kernel"].shape == (3, 3, 8 * inputs, 8 * inputs)
        assert block["Conv_1"]["kernel"].shape == (3, 3, 8 * inputs, 8 * outputs)
    assert d_params["class_embedding"].shape == (3, 8 * downs[-1])


def shaken(params):
    """Beyond the initial values, at which classes are alike and biases zero."""
    return jax.tree.map(
        lambda leaf: leaf + 0.1 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), params
    )


@pytest.fixture(scope="module")
def generator():
    module = Generator(16, 2, width=4, num_classes=3, z_dim=5)
    z = jax.random.normal(jax.random.key(0), (4, 5))
    labels = jnp.array([0, 1, -1, 1])
    return module, shaken(jax.jit(module.init)(jax.random.key(1), z, labels)["params"]), z, labels


@pytest.fixture(scope="module")
def discriminator():
    module = Discriminator(16, 2, width=4, num_classes=3)
    images = jax.random.normal(jax.random.key(2), (4, 16, 16, 2))
    labels = jnp.array([0, 1, -1, 1])
    params = jax.jit(module.init)(jax.random.key(3), images, labels)["params"]
    return module, shaken(params), images, labels


def plain_conv(x, params):
    dims = ("NHWC", "HWIO", "NHWC")
    y = lax.conv_general_dilated(x, params["kernel"], (1, 1), "SAME", dimension_numbers=dims)
    return y + params["bias"]


def plain_norm(x, scale, shift):
    each = x.shape[-1] // group_count(x.shape[-1])
    parts = x.reshape(*x.shape[:-1], -1, each)
    mean, var = parts.mean((1, 2, 4), keepdims=True), parts.var((1, 2, 4), keepdims=True)
    x = ((parts - mean) / jnp.sqrt(var + 1e-5)).reshape(x.shape)
    return x * scale + shift


def test_the_generator_is_its_formula(generator):
    module, params, z, labels = generator

    def modulated(x, params):
        scale = jnp.where(labels[:, None] < 0, 1, params["scale"][labels])
        shift = jnp.where(labels[:, None] < 0, 0, params["shift"][labels])
        return jax.nn.relu(plain_norm(x, scale[:, None, None], shift[:, None, None]))

    up = lambda x: x.repeat(2, 1).repeat(2, 2)  # noqa: E731
    x = z @ params["from_latent"]["kernel"] + params["from_latent"]["bias"]
    x = x.reshape(4, 4, 4, 16)
    for index in range(2):
        block = params[f"UpBlock_{index}"]
        shortcut = plain_conv(up(x), block["shortcut"])  # As published, doubled first.
        x = plain_conv(up(modulated(x, block["ClassGroupNorm_0"])), block["Conv_0"])
        x = plain_conv(modulated(x, block["ClassGroupNorm_1"]), block["Conv_1"]) + shortcut
    last = params["last_norm"]
    x = jax.nn.relu(plain_norm(x, last["scale"], last["shift"]))
    expected = jnp.tanh(plain_conv(x, params["to_image"]))
    np.testing.assert_allclose(module.apply({"params": params}, z, labels), expected, atol=2e-5)


def test_the_discriminator_is_its_formula(discriminator):
    module, params, images, labels = discriminator
    pool = functools.partial(linen.avg_pool, window_shape=(2, 2), strides=(2, 2))

    def convs(x, block):
        return plain_conv(jax.nn.relu(plain_conv(x, block["Conv_0"])), block["Conv_1"])

    block = params["DownBlock_0"]
    x = pool(convs(images, block)) + plain_conv(pool(images), block["shortcut"])
    block = params["DownBlock_1"]
    # Published order: the shortcut's convolution before its pooling.
    x = pool(convs(jax.nn.relu(x), block)) + pool(plain_conv(x, block["shortcut"]))
    features = jax.nn.relu(convs(jax.nn.relu(x), params["DownBlock_2"]) + x).sum((1, 2))
    embedding = jnp.where(labels[:, None] < 0, 0, params["class_embedding"][labels])
    expected = features @ params["realness"][:, 0] + params["realness_bias"]
    expected += (embedding * features).sum(-1)
    np.testing.assert_allclose(
        module.apply({"params": params}, images, labels), expected, rtol=2e-5
    )


def test_an_image_does_not_depend_on_the_others_in_its_batch(generator):
    module, params, z, labels = generator
    apply = jax.jit(lambda z, labels: module.apply({"params": params}, z, labels))
    others = apply(z.at[1:].set(2.0), labels.at[1:].set(0))
    np.testing.assert_array_equal(apply(z, labels)[0], others[0])


def test_missing_labels_give_no_gradient_to_the_class_embedding(discriminator):
    module, params, images, labels = discriminator
    loss = lambda p, y: jnp.sum(module.apply({"params": p}, images, y) ** 2)  # noqa: E731
    embedding = jax.grad(loss)(params, labels)["class_embedding"]
    assert jnp.any(embedding[0] != 0)
    assert not jnp.any(embedding[2])
    missing = jax.grad(loss)(params, jnp.full_like(labels, -1))
    assert not jnp.any(missing["class_embedding"])
    assert jnp.any(missing["realness"] != 0)


@pytest.fixture(scope="module")
def spectral():
    adam = optax.adam(1e-3, b1=0.0)
    spec = GanSpec(
        Generator(16, 1, width=4, num_classes=3, z_dim=8),
        Discriminator(16, 1, width=4, num_classes=3, spectral=True),
        adam,
        adam,
        loss="hinge",
        penalty="r1",
    )
    images = jax.random.uniform(jax.random.key(9), (8, 16, 16, 1), minval=-1)
    batch = {"image": images, "label": jnp.arange(8) % 4 - 1}
    return spec, batch, jax.jit(functools.partial(train_step, spec=spec))


def sigmas(params):
    """Every normalised matrix's largest singular value as NumPy finds it and as the layers do."""
    found = []
    for path, vector in jax.tree_util.tree_leaves_with_path(params):
        *parents, name = (entry.key for entry in path)
        if name.endswith("_spectral"):
            owner = functools.reduce(lambda tree, key: tree[key], parents, params)
            kernel = np.asarray(owner[name.removesuffix("_spectral")])
            matrix = kernel.reshape(-1, kernel.shape[-1])
            found.append((np.linalg.svd(matrix)[1][0], np.linalg.norm(matrix @ vector)))
    return np.array(found)


def test_spectral_norms_follow_the_weights_through_training(spectral):
    spec, batch, step = spectral
    state = init_state(spec, jax.random.key(0))
    for _ in range(12):
        state, metrics = step(state, batch, jax.random.key(1))
    assert all(np.isfinite(value) for value in metrics.values())
    found = sigmas(state.d_params)
    # Two convolutions in each of three blocks, two shortcuts, both vectors of the head.
    assert len(found) == 10
    np.testing.assert_allclose(found[:, 1], found[:, 0], rtol=0.02)
    first = sigmas(init_state(spec, jax.random.key(0)).d_params)
    assert not np.allclose(first[:, 0], found[:, 0], rtol=0.005)


class _ToyGenerator(linen.Module):
    z_dim: int = 2
    num_classes: int = 2

    @linen.compact
    def __call__(self, z, labels):
        return linen.Dense(16)(z).reshape(-1, 4, 4, 1)


class _ToyDiscriminator(linen.Module):
    @linen.compact
    def __call__(self, x, labels):
        return Conv(3, spectral=True)(x).sum((1, 2, 3))


def test_the_vectors_are_advanced_once_per_update():
    still = optax.set_to_zero()
    spec = GanSpec(_ToyGenerator(), _ToyDiscriminator(), still, still, n_critic=2)
    batch = {"image": jnp.ones((4, 4, 4, 1)), "label": jnp.zeros(4, jnp.int32)}
    state = init_state(spec, jax.random.key(0))
    away = {"kernel_spectral": jnp.array([1.0, 0.0, 0.0])}
    state = state.replace(d_params={"Conv_0": state.d_params["Conv_0"] | away})
    after, _ = jax.jit(functools.partial(train_step, spec=spec))(state, batch, jax.random.key(1))
    vector = after.d_params["Conv_0"]["kernel_spectral"]
    once = advance(state.d_params)
    np.testing.assert_allclose(vector, advance(once)["Conv_0"]["kernel_spectral"], rtol=1e-5)
    assert not np.allclose(vector, once["Conv_0"]["kernel_spectral"], rtol=1e-3)


def test_the_penalty_of_a_spectral_discriminator_has_the_gradient_of_finite_differences(spectral):
    with jax.enable_x64(True):
        module = Discriminator(16, 1, width=2, num_classes=2, spectral=True)
        x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 16, 1)))
        labels = jnp.array([0, 1])
        params = module.init(jax.random.key(0), x, labels)["params"]
        params = jax.tree.map(jnp.float64, params)
        # At their fixed points the singular vectors, though constants, give sigma's derivative.
        converged = jax.jit(lambda p: lax.fori_loop(0, 3000, lambda _, p: advance(p), p))(params)

        @jax.jit
        def penalty(params):
            return penalties.r1(lambda x: module.apply({"params": params}, x, labels), x)

        gradient = jax.jit(jax.grad(penalty))(converged)
        rng = np.random.default_rng(1)
        for block, conv in (("DownBlock_0", "Conv_0"), ("DownBlock_1", "Conv_1")):
            direction = rng.normal(size=converged[block][conv]["kernel"].shape)

            def moved(step, block=block, conv=conv, direction=direction):
                kernel = converged[block][conv]["kernel"] + step * direction
                layer = converged[block][conv] | {"kernel": kernel}
                return penalty(converged | {block: converged[block] | {conv: layer}})

            slope = (moved(1e-6) - moved(-1e-6)) / 2e-6
            np.testing.assert_allclose(
                jnp.sum(gradient[block][conv]["kernel"] * direction), slope, rtol=1e-4
            )


def test_images_of_another_size_are_refused(discriminator):
    module, params, _, labels = discriminator
    with pytest.raises(ValueError, match=r"takes images \(16, 16, 2\)"):
        module.apply({"params": params}, jnp.zeros((4, 32, 32, 2)), labels)


def test_unsupported_sizes_are_refused():
    with pytest.raises(ValueError, match="size 48 is not supported"):
        Generator(48, 1, 8, 3).init(jax.random.key(0), jnp.zeros((1, 128)), jnp.zeros(1, jnp.int32))
