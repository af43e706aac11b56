"""Grad-CAM against equations 1 and 2 in NumPy, with derivatives taken by differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from detectors import gradcam
from nn.resnet import ResNet


def numpy_logit(places, params, head, label):
    """The logit of one class, in float64, of features [P, Q, F]."""
    kernel, bias = (np.asarray(params["head"][name], np.float64) for name in ("kernel", "bias"))
    flat = places.reshape(-1, places.shape[-1])
    if head == "average":
        features = flat.mean(0)
    else:
        pairs = (flat.T @ flat / len(flat)).ravel()
        roots = np.sign(pairs) * np.sqrt(np.abs(pairs) + 1e-6)
        features = roots / np.sqrt((roots**2).sum() + 1e-6)
    return (features @ kernel + bias)[label]


def numpy_heat(places, params, head, label, size, step=1e-5):
    gradient = np.zeros(places.shape)
    for index in np.ndindex(places.shape):
        ends = []
        for sign in (1, -1):
            moved = places.copy()
            moved[index] += sign * step
            ends.append(numpy_logit(moved, params, head, label))
        gradient[index] = (ends[0] - ends[1]) / (2 * step)
    weights = gradient.mean((0, 1))
    small = np.maximum((places * weights).sum(-1), 0)
    at = [(np.arange(n) + 0.5) * m / n - 0.5 for n, m in zip(size, small.shape, strict=True)]
    return ndimage.map_coordinates(small, np.meshgrid(*at, indexing="ij"), order=1, mode="nearest")


def everything(model, params, images):
    """Places, logits and both heat maps of a network."""
    places = model.apply({"params": params}, images, method="places")
    heats = [gradcam.heat(model, params, images, label) for label in (0, 1)]
    return places, model.apply({"params": params}, images), heats


@pytest.mark.parametrize("head", ["average", "bilinear"])
def test_heat_is_that_of_the_equations(head):
    model = ResNet(2, depth=10, width=1, stem="small", head=head)
    key, image_key, head_key = jax.random.split(jax.random.key(0), 3)
    images = jax.random.uniform(image_key, (2, 16, 32, 1), minval=-1)
    params = jax.jit(model.init)(key, images)["params"]
    kernel = params["head"]["kernel"]
    params["head"]["kernel"] = jax.random.normal(head_key, kernel.shape)
    # All features above 0, where there is no derivative by differences.
    last = params["blocks_3"]["GroupNorm_1"]
    last |= {"scale": jnp.ones_like(last["scale"]), "shift": jnp.full_like(last["shift"], 4.0)}
    places, logits, heats = jax.jit(everything, static_argnums=0)(model, params, images)
    # What is differentiated is the network itself, from its last convolution on.
    again = model.apply({"params": params}, places, method="judge")
    np.testing.assert_allclose(again, logits, atol=1e-5)
    assert places.shape == (2, 2, 4, 8)
    assert places.min() > 0.1
    assert any(heat.any() for heat in heats)
    for label, heat in enumerate(heats):
        assert heat.shape == images.shape[:3]
        for image, found in zip(np.asarray(places, np.float64), np.asarray(heat), strict=True):
            expected = numpy_heat(image, params, head, label, (16, 32))
            np.testing.assert_allclose(found, expected, atol=1e-4 * max(expected.max(), 1e-3))


def test_where_nothing_speaks_for_a_class_nothing_is_shown():
    model = ResNet(2, depth=10, width=4)
    images = jnp.linspace(-1, 1, 256).reshape(1, 16, 16, 1)
    params = jax.jit(model.init)(jax.random.key(0), images)["params"]
    heat = jax.jit(functools.partial(gradcam.heat, model, label=1))
    params["head"]["kernel"] = jnp.full_like(params["head"]["kernel"], -1.0)
    assert not np.asarray(heat(params, images)).any()
    params["head"]["kernel"] = -params["head"]["kernel"]
    assert np.asarray(heat(params, images)).max() > 0
