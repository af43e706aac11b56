"""DCGAN generator and discriminator: shapes, ranges, and what labels may and may not do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan.models.dcgan import Discriminator, Generator


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("size", [16, 32, 64, 128])
def test_shapes_and_widths_at_every_size(size, channels):
    generator = Generator(size, channels, width=8, num_classes=3, z_dim=5)
    discriminator = Discriminator(size, channels, width=8, num_classes=3)
    z, labels = jnp.zeros((2, 5)), jnp.zeros((2,), jnp.int32)
    key = jax.random.key(0)
    images, g_variables = jax.eval_shape(generator.init_with_output, key, z, labels)
    assert images.shape == (2, size, size, channels)
    logits, d_variables = jax.eval_shape(discriminator.init_with_output, key, images, labels)
    assert logits.shape == (2,)

    stages = {16: [8, 16], 32: [8, 16, 32], 64: [8, 16, 32, 64], 128: [8, 16, 32, 64, 64]}[size]
    convs = [d_variables["params"][f"Conv_{index}"]["kernel"].shape for index in range(len(stages))]
    assert convs == [(4, 4, *pair) for pair in zip([channels, *stages], stages, strict=False)]
    g_params = g_variables["params"]
    assert g_params["from_latent"]["kernel"].shape == (5, 16 * stages[-1])
    ups = [g_params[f"ConvTranspose_{index}"]["kernel"].shape for index in range(len(stages) - 1)]
    assert ups == [(4, 4, *pair) for pair in zip(stages[-2::-1], stages[:0:-1], strict=True)]


@pytest.fixture(scope="module")
def generator():
    module = Generator(16, 2, width=4, num_classes=3, z_dim=5)
    z = jax.random.normal(jax.random.key(0), (6, 5))
    labels = jnp.array([0, 1, 2, 0, 1, 2])
    params = jax.jit(module.init)(jax.random.key(1), z, labels)["params"]
    # Beyond the initial values, at which classes are alike.
    params = jax.tree.map(
        lambda leaf: leaf + 0.3 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), params
    )
    return module, params, z, labels


@pytest.fixture(scope="module")
def discriminator():
    module = Discriminator(16, 2, width=4, num_classes=3)
    images = jax.random.normal(jax.random.key(2), (6, 16, 16, 2))
    labels = jnp.array([0, 1, -1, -1, 1, 0])
    params = jax.jit(module.init)(jax.random.key(3), images, labels)["params"]
    return module, params, images, labels


def test_images_lie_in_range_and_follow_latent_and_label(generator):
    module, params, z, labels = generator
    apply = jax.jit(lambda z, labels: module.apply({"params": params}, z, labels))
    images = apply(z, labels)
    assert float(jnp.abs(images).max()) <= 1
    assert float(images.std()) > 0.01
    assert not np.allclose(images, apply(z[::-1], labels))
    assert not np.allclose(images, apply(z, labels[::-1]))


def test_an_image_does_not_depend_on_the_others_in_its_batch(generator):
    module, params, z, labels = generator
    apply = jax.jit(lambda z, labels: module.apply({"params": params}, z, labels))
    others = apply(z.at[1:].set(2.0), labels.at[1:].set(0))
    np.testing.assert_array_equal(apply(z, labels)[0], others[0])


def test_the_class_term_is_a_projection_of_the_features(discriminator):
    module, params, images, _ = discriminator
    label = lambda value: jnp.full((6,), value)  # noqa: E731
    apply = lambda params, labels: module.apply({"params": params}, images, labels)  # noqa: E731
    null = apply(params, label(-1))
    # With the embedding of class 1 as weights and no bias, the unconditional term alone is the
    # conditional term of class 1.
    kernel = params["class_embedding"][1][:, None]
    as_weights = params | {"realness": {"kernel": kernel, "bias": jnp.zeros(1)}}
    np.testing.assert_allclose(
        apply(params, label(1)) - null, apply(as_weights, label(-1)), atol=1e-6
    )


def test_missing_labels_give_no_gradient_to_the_class_embedding(discriminator):
    module, params, images, labels = discriminator

    def loss(params, labels):
        return jnp.sum(module.apply({"params": params}, images, labels) ** 2)

    gradient = jax.jit(jax.grad(loss))
    embedding = gradient(params, labels)["class_embedding"]
    assert jnp.any(embedding[0] != 0)
    assert jnp.any(embedding[1] != 0)
    assert not jnp.any(embedding[2])
    missing = gradient(params, jnp.full_like(labels, -1))
    assert not jnp.any(missing["class_embedding"])
    assert jnp.any(missing["realness"]["kernel"] != 0)


def test_images_of_another_size_are_refused(discriminator):
    module, params, _, labels = discriminator
    with pytest.raises(ValueError, match=r"takes images \(16, 16, 2\)"):
        module.apply({"params": params}, jnp.zeros((6, 32, 32, 2)), labels)


def test_unsupported_sizes_are_refused():
    with pytest.raises(ValueError, match="size 48 is not supported"):
        Generator(48, 1, 8, 3).init(jax.random.key(0), jnp.zeros((1, 128)), jnp.zeros(1, jnp.int32))
