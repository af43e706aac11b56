"""The networks: published sizes, the published networks in PyTorch, and the forms of the output."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan.models.translator import OUTPUTS, Discriminator, Translator, joined
from gan.translation import apply


def count(module, *inputs):
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def test_published_numbers_of_parameters():
    x, codes = jnp.zeros((1, 128, 128, 3)), jnp.zeros((1, 5))
    assert count(Translator(), x, codes) == 8_430_528
    assert count(Discriminator(5), x) == 44_762_048


@pytest.mark.parametrize("size", [64, 128, 256])
def test_patches_are_of_64_pixels(size):
    x, codes = jnp.zeros((2, size, size, 4)), jnp.zeros((2, 3))
    translator, discriminator = Translator(8), Discriminator(3, 8)
    y, _ = jax.eval_shape(translator.init_with_output, jax.random.key(0), x, codes)
    assert y.shape == x.shape
    (real, domain), _ = jax.eval_shape(discriminator.init_with_output, jax.random.key(0), x)
    assert real.shape == (2, size // 64, size // 64)
    assert domain.shape == (2, 3)


def shaken(params):
    """Beyond the initial values, at which scales are one and shifts and biases zero."""
    return jax.tree.map(
        lambda leaf: leaf + 0.05 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), params
    )


SHAPES = {2: (64, 128, 2), 3: (8, 16, 8, 1)}


@pytest.fixture(scope="module", params=SHAPES, ids=["images", "volumes"])
def nets(request):
    """Both networks, their weights, images and codes, in float64, beside their twins."""
    torch_twins = pytest.importorskip(
        "tests.gan.translation.torch_twins", reason="PyTorch is not installed"
    )
    axes = request.param
    *size, channels = SHAPES[axes]
    halvings = min(6, min(size).bit_length() - 1)
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x = jnp.asarray(rng.uniform(-1, 1, (2, *size, channels)))
        codes = jnp.asarray(rng.normal(size=(2, 3)))
        translator, discriminator = Translator(4, blocks=2, output="plain"), Discriminator(3, 2)
        g_params, d_params = (
            jax.tree.map(jnp.float64, shaken(jax.jit(module.init)(jax.random.key(1), *inputs)))
            for module, inputs in ((translator, (x, codes)), (discriminator, (x,)))
        )
    g_twin = torch_twins.Generator(channels, 3, 4, 2, channels, axes)
    d_twin = torch_twins.Discriminator(size, channels, 3, 2, halvings, axes)
    return {
        "first": torch_twins.first, "torch": torch_twins.torch, "x": x, "codes": codes,
        "g": (translator, g_params, torch_twins.copied(g_twin, g_params["params"])),
        "d": (discriminator, d_params, torch_twins.copied(d_twin, d_params["params"])),
    }  # fmt: skip


def test_the_translator_is_the_published_network(nets):
    module, params, twin = nets["g"]
    with jax.enable_x64(True):
        got = jax.jit(module.apply)(params, nets["x"], nets["codes"])
    expected = twin(nets["first"](nets["x"]), nets["torch"].from_numpy(np.array(nets["codes"])))
    expected = np.moveaxis(expected.detach().tanh().numpy(), 1, -1)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(got, expected, atol=1e-9)


def test_the_discriminator_is_the_published_network_to_the_second_derivative(nets):
    module, params, twin = nets["d"]

    def penalty(x):
        gradient = jax.grad(lambda x: module.apply(params, x)[0].sum())(x)
        norms = jnp.sqrt(jnp.square(gradient).sum(tuple(range(1, x.ndim))))
        return jnp.square(norms - 1).mean()

    with jax.enable_x64(True):
        real, domain = jax.jit(module.apply)(params, nets["x"])
        # Of the domain's head too, whose order of places could be wrong unseen in a penalty.
        pull = jax.jit(jax.grad(lambda x: jnp.sum(module.apply(params, x)[1][:, 1]) + penalty(x)))
        slopes = pull(nets["x"])
    x = nets["first"](nets["x"]).requires_grad_()
    their_real, their_domain = twin(x)
    torch = nets["torch"]
    (gradient,) = torch.autograd.grad(their_real.sum(), x, create_graph=True)
    norms = gradient.flatten(1).norm(dim=1)
    total = their_domain[:, 1].sum() + ((norms - 1) ** 2).mean()
    (their_slopes,) = torch.autograd.grad(total, x)
    np.testing.assert_allclose(real, their_real.detach().numpy(), atol=1e-9)
    np.testing.assert_allclose(domain, their_domain.detach().numpy(), atol=1e-9)
    theirs = np.moveaxis(their_slopes.numpy(), 1, -1)
    np.testing.assert_allclose(slopes, theirs, atol=1e-9 * np.abs(theirs).max())


@pytest.mark.parametrize("output", OUTPUTS)
def test_outputs_against_their_formulas(output):
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (2, 3, 4, 2))
    d = rng.normal(size=(2, 3, 4, 2 + (output == "blend")))
    expected = {
        "plain": lambda: np.tanh(d),
        "tanh": lambda: np.tanh(x + d),
        "clip": lambda: np.minimum(np.maximum(x + d, -1), 1),
        "atanh": lambda: np.tanh(np.log((1 + 0.999 * x) / (1 - 0.999 * x)) / 2 + d),
        "blend": lambda: x + (np.tanh(d[..., :2]) - x) / (1 + np.exp(-2 * d[..., 2:])),
    }[output]()
    got = joined(jnp.asarray(x, jnp.float32), jnp.asarray(d, jnp.float32), output)
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_which_outputs_preserve_an_image():
    x = jnp.linspace(-1, 1, 9).reshape(1, 3, 3, 1)
    zero = jnp.zeros_like(x)
    np.testing.assert_array_equal(joined(x, zero, "clip"), x)
    np.testing.assert_allclose(joined(x, zero, "atanh"), x, atol=1.1e-3)
    off = jnp.concatenate([zero, zero - 20], -1)
    np.testing.assert_allclose(joined(x, off, "blend"), x, atol=1e-7)
    assert float(joined(x, zero, "tanh")[0, 0, 0, 0]) == pytest.approx(-0.7616, abs=1e-4)


def test_bfloat16_products_change_little():
    x, codes = jax.random.uniform(jax.random.key(0), (2, 16, 16, 1), minval=-1), jnp.eye(2)
    exact, rounded = (
        Translator(4, blocks=1, output="plain", dtype=d) for d in (None, jnp.dtype(jnp.bfloat16))
    )
    params = exact.init(jax.random.key(1), x, codes)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.float32)}
    one, other = exact.apply(params, x, codes), rounded.apply(params, x, codes)
    assert other.dtype == jnp.float32
    assert 0 < float(jnp.abs(one - other).mean()) < 0.03


def test_bfloat16_products_change_little_of_what_is_judged():
    x = jax.random.uniform(jax.random.key(0), (2, 16, 16, 1), minval=-1)
    exact, rounded = (Discriminator(3, 4, dtype=d) for d in (None, jnp.dtype(jnp.bfloat16)))
    params = jax.jit(rounded.init)(jax.random.key(1), x)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.float32)}
    judged = (jax.jit(module.apply)(params, x) for module in (exact, rounded))
    for one, other in zip(*judged, strict=True):
        assert other.dtype == jnp.float32
        assert 0 < float(jnp.abs(one - other).max()) < 0.03 * float(jnp.abs(one).max())


def test_the_code_reaches_the_image():
    x, codes = jnp.zeros((2, 16, 16, 1)), jnp.eye(2)
    module = Translator(4, blocks=1, output="clip")
    y = module.apply(jax.jit(module.init)(jax.random.key(0), x, codes), x, codes)
    assert float(jnp.abs(y[0] - y[1]).max()) > 1e-3


def test_an_image_is_translated_alike_alone_and_among_others():
    module = Translator(4, blocks=1, output="clip")
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (apply.BLOCK + 3, 16, 16, 1)).astype(np.float32)
    codes = rng.integers(0, 2, (len(images), 1)).astype(np.float32)
    params = module.init(jax.random.key(0), images[:1], codes[:1])["params"]
    made = apply.translate(module, params, images, codes)
    assert made.shape == images.shape
    alone = apply.translate(module, params, images[-1:], codes[-1:])
    np.testing.assert_array_equal(alone, made[-1:])
    expected = module.apply({"params": params}, images[:2], codes[:2])
    np.testing.assert_allclose(made[:2], expected, atol=1e-5)
    found = apply.difference(images, made)
    assert found.shape == (len(images), 16, 16)
    np.testing.assert_allclose(
        found[3, 2, 1], abs(made[3, 2, 1, 0] - images[3, 2, 1, 0]), rtol=1e-6
    )


@pytest.mark.parametrize(("module", "shape", "message"), [
    (Translator(4), (1, 18, 16, 1), "halves images twice"),
    (Discriminator(1, 4), (1, 4, 64, 1), "from 8 px, not 4"),
    (Translator(4, output="sigmoid"), (1, 16, 16, 1), "unknown output 'sigmoid'"),
])  # fmt: skip
def test_what_cannot_be_is_refused(module, shape, message):
    codes = () if isinstance(module, Discriminator) else (jnp.zeros((1, 1)),)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(module.init, jax.random.key(0), jnp.zeros(shape), *codes)
