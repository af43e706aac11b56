"""Residual networks: the paper's sizes, shapes, stems, independence of images, training."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from nn.resnet import ResNet


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


@pytest.mark.parametrize(("depth", "features"), [(10, 64), (50, 256)])
def test_features_and_logits(depth, features):
    network = ResNet(3, depth=depth, width=8)
    x = jax.random.normal(jax.random.key(0), (2, 16, 16, 2))
    variables = jax.jit(network.init)(jax.random.key(1), x)
    pooled = jax.jit(lambda v: network.apply(v, x, method=ResNet.features))(variables)
    assert pooled.shape == (2, features)
    head = variables["params"]["head"]
    logits = jax.jit(network.apply)(variables, x)
    np.testing.assert_allclose(logits, pooled @ head["kernel"] + head["bias"], atol=1e-5)


def test_an_image_is_scored_alike_in_any_company():
    network = ResNet(2, depth=10, width=8)
    x = jax.random.normal(jax.random.key(0), (4, 16, 16, 1))
    variables = jax.jit(network.init)(jax.random.key(1), x)
    apply = jax.jit(network.apply)
    other = x.at[1:].set(-3)
    np.testing.assert_array_equal(apply(variables, x)[0], apply(variables, other)[0])


def test_it_fits_two_classes_of_stripes():
    network = ResNet(2, depth=10, width=8)
    labels = jnp.arange(16) % 2
    ramp = jnp.sin(jnp.arange(16) * 1.5)
    across = jnp.broadcast_to(ramp, (16, 16))
    images = jnp.where(labels[:, None, None] == 0, across, across.T)[..., None]
    images = images + 0.3 * jax.random.normal(jax.random.key(0), images.shape)
    params = jax.jit(network.init)(jax.random.key(1), images)
    tx = optax.adam(3e-3)

    def loss(params):
        logits = network.apply(params, images)
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
    [({"depth": 20}, "depth 20 is unknown"), ({"stem": "tiny"}, "stem 'tiny' is unknown")],
)
def test_unknown_settings_are_refused(settings, message):
    network = ResNet(2, **settings)
    with pytest.raises(ValueError, match=message):
        network.init(jax.random.key(0), jnp.zeros((1, 16, 16, 1)))
