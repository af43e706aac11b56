"""Group normalisation against NumPy and PyTorch's definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nn.norm import ClassGroupNorm, GroupNorm, group_count, group_norm


def numpy_group_norm(x, groups, epsilon=1e-5):
    x = np.asarray(x, np.float64)
    out = np.empty_like(x)
    each = x.shape[-1] // groups
    for b in range(x.shape[0]):
        for g in range(groups):
            part = x[b, :, :, g * each : (g + 1) * each]
            out[b, :, :, g * each : (g + 1) * each] = (part - part.mean()) / np.sqrt(
                part.var() + epsilon
            )
    return out


def normalise(x, groups):
    channels = x.shape[-1]
    return group_norm(x, groups, jnp.ones((1, channels)), jnp.zeros((1, channels)))


@pytest.fixture
def x():
    return jnp.asarray(np.random.default_rng(0).normal(3, 2, (3, 4, 6, 16)), jnp.float32)


@pytest.mark.parametrize("groups", [1, 4, 16])
def test_group_norm_equals_numpy(x, groups):
    got = normalise(x, groups)
    np.testing.assert_allclose(got, numpy_group_norm(x, groups), atol=2e-6)


def test_volumes_are_normalised_over_all_their_places(x):
    volumes = x.reshape(3, 2, 2, 6, 16)
    np.testing.assert_array_equal(normalise(volumes, 16), normalise(x, 16).reshape(volumes.shape))


def test_a_group_for_each_channel_is_instance_normalisation(x):
    layer = GroupNorm(groups=16)
    got = layer.apply(layer.init(jax.random.key(0), x), x)
    wide = np.asarray(x, np.float64)
    centred = wide - wide.mean((1, 2), keepdims=True)
    expected = centred / np.sqrt(wide.var((1, 2), keepdims=True) + 1e-5)
    np.testing.assert_allclose(got, expected, atol=2e-6)


def test_a_large_mean_does_not_spoil_the_variance():
    x = np.random.default_rng(0).normal(1000, 1, (2, 8, 8, 8)).astype(np.float32)
    got = normalise(jnp.asarray(x), 2)
    np.testing.assert_allclose(got, numpy_group_norm(x, 2), atol=2e-3)


def test_gradients_of_both_orders_equal_those_of_the_formula():
    def formula(x):
        parts = x.reshape(*x.shape[:3], 4, 4)
        mean = parts.mean((1, 2, 4), keepdims=True)
        variance = parts.var((1, 2, 4), keepdims=True)
        return ((parts - mean) / jnp.sqrt(variance + 1e-5)).reshape(x.shape)

    def penalty(function, x):
        gradient = jax.grad(lambda x: jnp.sum(jnp.sin(3 * function(x))))(x)
        return jnp.sum(jnp.sqrt(1 + gradient**2))

    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(2).normal(size=(2, 4, 4, 16)))
        ours = jax.jit(jax.value_and_grad(lambda x: penalty(lambda v: normalise(v, 4), x)))
        theirs = jax.jit(jax.value_and_grad(lambda x: penalty(formula, x)))
        for one, other in zip(ours(x), theirs(x), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("channels", "groups"), [(4, 1), (16, 4), (32, 8), (48, 12), (128, 32), (256, 32), (6, 1)]
)
def test_group_count(channels, groups):
    assert group_count(channels) == groups


def test_group_norm_applies_scale_and_shift(x):
    layer = GroupNorm()
    variables = layer.init(jax.random.key(0), x)
    base = numpy_group_norm(x, group_count(16))
    np.testing.assert_allclose(layer.apply(variables, x), base, atol=2e-6)
    scale, shift = np.linspace(-1, 2, 16), np.linspace(3, -3, 16)
    changed = {"params": {"scale": jnp.asarray(scale), "shift": jnp.asarray(shift)}}
    np.testing.assert_allclose(layer.apply(changed, x), base * scale + shift, atol=1e-5)


def test_class_group_norm_modulates_by_label_and_leaves_unknown_labels_alone(x):
    layer = ClassGroupNorm(num_classes=2)
    labels = jnp.array([1, -1, 0])
    base = numpy_group_norm(x, group_count(16))
    variables = layer.init(jax.random.key(0), x, labels)
    np.testing.assert_allclose(layer.apply(variables, x, labels), base, atol=2e-6)

    rng = np.random.default_rng(3)
    scale, shift = rng.normal(size=(2, 2, 16))
    params = {"scale": jnp.asarray(scale), "shift": jnp.asarray(shift)}
    got = layer.apply({"params": params}, x, labels)
    np.testing.assert_allclose(got[0], base[0] * scale[1] + shift[1], atol=1e-5)
    np.testing.assert_allclose(got[1], base[1], atol=1e-5)
    np.testing.assert_allclose(got[2], base[2] * scale[0] + shift[0], atol=1e-5)


def test_unknown_and_absent_labels_give_no_gradient_to_an_embedding(x):
    layer = ClassGroupNorm(num_classes=3)
    labels = jnp.array([1, -1, -1])
    params = layer.init(jax.random.key(0), x, labels)["params"]
    loss = lambda params: jnp.sum(layer.apply({"params": params}, x, labels) ** 3)  # noqa: E731
    for gradient in jax.tree.leaves(jax.grad(loss)(params)):
        assert not jnp.any(gradient[jnp.array([0, 2])])
        assert jnp.all(gradient[1] != 0)


def test_an_image_does_not_depend_on_its_neighbours(x):
    alone = normalise(x[:1], 4)
    np.testing.assert_allclose(normalise(x, 4)[:1], alone, atol=1e-6)


def test_groups_must_divide_the_channels(x):
    for groups in (0, 3, 17):
        with pytest.raises(ValueError, match=f"16 channels .* {groups} groups"):
            normalise(x, groups)


def test_a_residual_has_the_shape_of_the_images(x):
    ones = jnp.ones((1, 16))
    with pytest.raises(ValueError, match="residual"):
        group_norm(x, 4, ones, ones, relu=True, residual=x[:, :1])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_the_result_has_the_type_of_the_images(x, dtype):
    # bfloat16 has 8 bits.
    scale, shift = jnp.full((1, 16), 1.5, jnp.bfloat16), jnp.full((1, 16), 0.25, jnp.bfloat16)
    got = group_norm(x.astype(dtype), 4, scale, shift, relu=True, residual=x.astype(jnp.bfloat16))
    assert got.dtype == dtype
    expected = np.maximum(numpy_group_norm(x, 4) * 1.5 + 0.25 + x, 0)
    np.testing.assert_allclose(got.astype(jnp.float32), expected, rtol=0.02, atol=0.05)


@pytest.mark.parametrize("shape", [(0, 4, 6, 16), (2, 0, 6, 16), (2, 4, 6, 0)])
def test_images_without_numbers(shape):
    x = jnp.zeros(shape)
    y, back = jax.vjp(lambda x: normalise(x, 1), x)
    assert y.shape == back(y)[0].shape == shape
