"""Residual networks: the paper's sizes, shapes, stems, independence of images, training."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from nn.resnet import HEADS, ResNet


def count(tree):
    return sum(np.prod(leaf.shape, dtype=int) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("depth", "parameters"),
    # torchvision's counts for 1000 classes; batch and group norm have as many parameters.
    [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032), (101, 44_549_160)],
)
def test_parameter_counts_are_those_of_the_paper(depth, parameters):
    network = ResNet(1000, depth=depth, stem="imagenet")
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
    assert count(shapes) == parameters


@pytest.mark.parametrize(
    ("size", "stem", "last"),
    [(16, "auto", 2), (64, "auto", 8), (65, "auto", 3), (128, "auto", 4), (32, "imagenet", 1)],
)
def test_the_stem_follows_the_size(size, stem, last):
    network = ResNet(3, depth=10, width=4, stem=stem)
    x = jnp.zeros((2, size, size, 1))
    _, state = jax.eval_shape(
        lambda key: network.init_with_output(
            key, x, capture_intermediates=True, mutable=["params", "intermediates"]
        ),
        jax.random.key(0),
    )
    blocks = state["intermediates"]["blocks_3"]["__call__"][0]
    assert blocks.shape == (2, last, last, 32)
    assert state["intermediates"]["__call__"][0].shape == (2, 3)


@pytest.fixture(scope="module")
def network():
    module = ResNet(2, depth=10, width=8)
    x = jax.random.normal(jax.random.key(0), (4, 16, 16, 1))
    return module, jax.jit(module.init)(jax.random.key(1), x), x


def test_logits_are_the_head_on_the_features_of_each_image_alone(network):
    module, variables, x = network

    @jax.jit
    def apply(x):
        return module.apply(variables, x), module.apply(variables, x, method=ResNet.features)

    logits, features = apply(x)
    assert features.shape == (4, 64)
    head = variables["params"]["head"]
    np.testing.assert_allclose(logits, features @ head["kernel"] + head["bias"], atol=1e-5)
    in_other_company, _ = apply(x.at[1:].set(-3))
    np.testing.assert_array_equal(logits[0], in_other_company[0])


@pytest.mark.parametrize(("depth", "length"), [(10, 64), (18, 64), (50, 256), (101, 256)])
def test_length_of_the_features(depth, length):
    module, x = ResNet(3, depth=depth, width=8), jnp.zeros((2, 16, 16, 2))
    features, _ = jax.eval_shape(
        lambda key: module.init_with_output(key, x, method=ResNet.features), jax.random.key(0)
    )
    assert features.shape == (2, length)


def test_it_fits_two_classes_of_stripes(network):
    module, variables, _ = network
    labels = jnp.arange(16) % 2
    ramp = jnp.sin(jnp.arange(16) * 1.5)
    across = jnp.broadcast_to(ramp, (16, 16))
    images = jnp.where(labels[:, None, None] == 0, across, across.T)[..., None]
    images = images + 0.3 * jax.random.normal(jax.random.key(0), images.shape)
    params = variables["params"]
    tx = optax.adam(3e-3)

    def loss(params):
        logits = module.apply({"params": params}, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    @jax.jit
    def step(params, opt):
        value, gradient = jax.value_and_grad(loss)(params)
        change, opt = tx.update(gradient, opt)
        return optax.apply_updates(params, change), opt, value

    opt = tx.init(params)
    values = []
    for _ in range(12):
        params, opt, value = step(params, opt)
        values.append(float(value))
    assert values[-1] < 0.2 < values[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 20}, "depth 20 is unknown"),
        ({"stem": "tiny"}, "stem 'tiny' is unknown"),
        ({"head": "max"}, "head 'max' is unknown"),
    ],
)
def test_unknown_settings_are_refused(settings, message):
    network = ResNet(2, **settings)
    with pytest.raises(ValueError, match=message):
        network.init(jax.random.key(0), jnp.zeros((1, 16, 16, 1)))


def test_heads_by_their_formulas():
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 3))
    x[1, ..., 2] = 0  # a dead channel
    found = {name: np.asarray(head(jnp.asarray(x))) for name, head in HEADS.items()}
    np.testing.assert_allclose(found["average"], x.mean((1, 2)), rtol=1e-5)
    for image, channel in np.ndindex(2, 3):
        highest = sorted(x[image, ..., channel].ravel())[-4:]  # a quarter of 16 places
        assert found["top"][image, channel] == pytest.approx(np.mean(highest), rel=1e-5)
    assert found["bilinear"].shape == (2, 9)
    for image in range(2):
        pairs = sum(np.outer(v, v) for v in x[image].reshape(16, 3)) / 16
        roots = np.sign(pairs) * np.sqrt(np.abs(pairs))
        expected = (roots / np.linalg.norm(roots)).ravel()
        np.testing.assert_allclose(found["bilinear"][image], expected, atol=1e-4)


@pytest.mark.parametrize("name", HEADS)
def test_a_patch_counts_more_for_heads_that_keep_patches(name):
    quiet, patch = np.zeros((1, 4, 4, 1)), np.zeros((1, 4, 4, 1))
    patch[0, 1, 2] = 1
    change = float(np.abs(HEADS[name](jnp.asarray(patch)) - HEADS[name](jnp.asarray(quiet))).sum())
    expected = {"average": 1 / 16, "top": 1 / 4, "bilinear": 1.0}[name]
    assert change == pytest.approx(expected, abs=0.002)


@pytest.mark.parametrize("name", HEADS)
def test_gradients_of_heads_are_finite_where_nothing_is(name):
    x = jnp.zeros((2, 4, 4, 3)).at[0, 0, 0, 0].set(1.0)
    gradient = jax.grad(lambda x: (HEADS[name](x) ** 2).sum() + HEADS[name](x).sum())(x)
    assert jnp.isfinite(gradient).all()
