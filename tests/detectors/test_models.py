"""The detectors' networks: the U-Net beside PyTorch, sizes, and what an image's result rests on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from detectors.models.unet import UNet
from detectors.models.vae import VAE
from gan.models.autoencoder import Autoencoder
from nn.norm import group_count


def torch_unet(torch, params, x, levels=4):
    """The published network from the parameters of ours; x [B, C, *S]."""
    f = torch.nn.functional
    axes = x.ndim - 2
    conv, up, pool = (
        (f.conv2d, f.conv_transpose2d, f.max_pool2d)
        if axes == 2
        else (f.conv3d, f.conv_transpose3d, f.max_pool3d)
    )
    # Ours are [*K, in, out], of transposed ones [*K, out, in].
    tensor = {
        name: {
            key: torch.tensor(np.moveaxis(v, (-1, -2), (0, 1)) if key == "kernel" else np.array(v))
            for key, v in part.items()
        }
        for name, part in params.items()
    }
    number = iter(range(2 * (2 * levels + 1)))

    def two(x):
        for _ in range(2):
            n = next(number)
            x = conv(x, tensor[f"Conv_{n}"]["kernel"], padding=1)
            norm = tensor[f"GroupNorm_{n}"]
            x = f.group_norm(x, group_count(x.shape[1]), norm["scale"], norm["shift"], 1e-5)
            x = f.relu(x)
        return x

    skipped = []
    for _ in range(levels):
        x = two(x)
        skipped.append(x)
        x = pool(x, 2)
    x = two(x)
    for i in range(levels):
        layer = tensor[f"ConvTranspose_{i}"]
        # That of PyTorch is the gradient of its convolution, as ours is.
        x = up(x, layer["kernel"], layer["bias"], stride=2)
        x = two(torch.cat([skipped[-1 - i], x], 1))
    last = tensor["to_mask"]
    return conv(x, last["kernel"], last["bias"])[:, 0]


@pytest.mark.parametrize("shape", [(2, 32, 16, 1), (1, 16, 16, 32, 2)])
def test_the_unet_is_that_of_pytorch(shape):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = jax.random.uniform(jax.random.key(0), shape, minval=-1)
    model = UNet(4)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(1), x)["params"]
    params = jax.tree.map(lambda p: rng.normal(0, 0.3, p.shape).astype(np.float32), shapes)
    made = jax.jit(model.apply)({"params": params}, x)
    theirs = torch_unet(torch, params, torch.tensor(np.moveaxis(x, -1, 1)))
    assert made.shape == shape[:-1]
    np.testing.assert_allclose(made, theirs.numpy(), atol=2e-4)


def size(model, shape):
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape))["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def test_the_unet_has_the_published_size():
    # Counted by hand from figure 1 of Ronneberger et al.: kernels of 3 x 3, of 2 x 2 up, and the
    # last; here with one class, a scale and a shift for each bias of the first.
    widths = [64, 128, 256, 512, 1024]
    down = sum(9 * (a * b + b * b) for a, b in zip([1, *widths], widths, strict=False))
    up = sum(4 * 2 * b * b + b + 9 * (2 * b * b + b * b) for b in widths[:-1])
    norms = 2 * 2 * (sum(widths) + sum(widths[:-1]))
    assert size(UNet(), (1, 64, 64, 1)) == down + up + norms + 65


def test_an_autoencoder_is_as_large_as_the_translator():
    # The published translator of five attributes, without the planes of these.
    assert size(Autoencoder(), (1, 64, 64, 3)) == 8_430_528 - 7 * 7 * 5 * 64


def test_an_autoencoder_does_not_begin_with_its_input():
    x = jax.random.uniform(jax.random.key(0), (1, 16, 16, 1), minval=-1)
    model = Autoencoder(4, 1)
    params = jax.jit(model.init)(jax.random.key(1), x)["params"]
    last = params["translator"]["to_image"]
    last["kernel"] = jnp.zeros_like(last["kernel"])
    made = jax.jit(model.apply)({"params": params}, x)
    np.testing.assert_array_equal(made, jnp.zeros_like(x))


def test_a_latent_vector_is_drawn_for_each_image_by_its_own_key():
    model = VAE(4, 8)
    x = jax.random.uniform(jax.random.key(0), (3, 16, 32, 2), minval=-1)
    params = jax.jit(model.init)(jax.random.key(1), x)["params"]
    apply = jax.jit(model.apply)
    keys = jax.random.split(jax.random.key(2), 3)
    plain, latent = apply({"params": params}, x)
    drawn, same = apply({"params": params}, x, keys)
    assert plain.shape == x.shape
    assert latent.mean.shape == latent.log_variance.shape == (3, 8)
    np.testing.assert_array_equal(latent.mean, same.mean)
    assert np.abs(drawn - plain).max((1, 2, 3)).min() > 1e-3
    other, _ = apply({"params": params}, x, keys.at[2].set(keys[0]))
    np.testing.assert_array_equal(other[:2], drawn[:2])
    assert np.abs(other[2] - drawn[2]).max() > 1e-3
    # What is drawn has the mean and the variance that the encoder says.
    mean, log = np.linspace(-1, 1, 8), np.linspace(-3, 2, 8)
    eps = np.asarray(jax.random.normal(keys[1], (8,)))

    def fixed(mean):
        kernel = jnp.zeros_like(params["to_latent"]["kernel"])
        bias = jnp.asarray(np.concatenate([mean, log]), jnp.float32)
        return {"params": params | {"to_latent": {"kernel": kernel, "bias": bias}}}

    expected, _ = apply(fixed(mean + np.sqrt(np.exp(log)) * eps), x)
    found, _ = apply(fixed(mean), x, keys)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-5)
    # All that the decoder knows of an image is the vector.
    params["to_latent"] = jax.tree.map(jnp.zeros_like, params["to_latent"])
    alike, _ = apply({"params": params}, x)
    np.testing.assert_array_equal(alike[0], alike[1])


def test_volumes_go_through_a_short_vector_too():
    x = jnp.zeros((1, 8, 16, 16, 1))
    model = VAE(4, 8)
    (made, _), _ = jax.eval_shape(model.init_with_output, jax.random.key(0), x)
    assert made.shape == x.shape


@pytest.mark.parametrize("model", [UNet(4), VAE(4, 8)])
def test_sides_that_cannot_be_halved(model):
    with pytest.raises(ValueError, match=r"halves images . times"):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 36, 33, 1)))
