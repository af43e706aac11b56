"""DiffAugment: what each policy does to an image, per image, differentiably."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan.augment import POLICIES, augment, draw

SHAPE = (64, 16, 16, 3)


def diff_augment(images, key, policy=("color", "translation", "cutout"), fill=0.0):
    return augment(images, draw(key, policy, images.shape, images.dtype), policy, fill)


@pytest.fixture
def images():
    return jax.random.uniform(jax.random.key(0), SHAPE, minval=-1)


def test_no_policy_changes_nothing(images):
    np.testing.assert_array_equal(diff_augment(images, jax.random.key(1), ()), images)


@pytest.mark.parametrize("policy", [*POLICIES, ("color", "translation", "cutout")])
def test_every_image_has_its_own_draw_and_keys_decide(images, policy):
    policy = (policy,) if isinstance(policy, str) else policy
    same = jnp.broadcast_to(images[:1], SHAPE)
    one = diff_augment(same, jax.random.key(1), policy, fill=-1)
    assert one.shape == SHAPE
    assert len(np.unique(np.asarray(one).reshape(64, -1), axis=0)) > 16
    np.testing.assert_array_equal(one, diff_augment(same, jax.random.key(1), policy, fill=-1))
    assert not np.array_equal(one, diff_augment(same, jax.random.key(2), policy, fill=-1))


@pytest.mark.parametrize("fill", [0.0, -1.0])
def test_translation_is_a_whole_pixel_shift_within_an_eighth(images, fill):
    got = np.asarray(diff_augment(images, jax.random.key(1), ("translation",), fill))
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=fill)
    seen = set()
    for before, after in zip(padded, got, strict=True):
        matches = [
            (dy, dx)
            for dy in range(5)
            for dx in range(5)
            if np.abs(before[dy : dy + 16, dx : dx + 16] - after).max() < 1e-6
        ]
        assert len(matches) == 1
        seen.add(matches[0])
    assert {dy for dy, _ in seen} == {dx for _, dx in seen} == set(range(5))


@pytest.mark.parametrize("fill", [0.0, -1.0])
def test_cutout_fills_one_square_and_keeps_the_rest(images, fill):
    got = np.asarray(diff_augment(images + 5, jax.random.key(1), ("cutout",), fill))
    hole = got == fill
    np.testing.assert_array_equal(got[~hole], np.asarray(images + 5)[~hole])
    sides = []
    for mask in hole.all(-1):
        rows, columns = np.where(mask.any(1))[0], np.where(mask.any(0))[0]
        assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert mask.sum() == len(rows) * len(columns)
        sides += [len(rows), len(columns)]
    assert max(sides) == 8
    assert min(sides) >= 4


def test_color_keeps_structure(images):
    got = np.asarray(diff_augment(images, jax.random.key(1), ("color",)), np.float64)
    before = np.asarray(images, np.float64)
    # Brightness and contrast change the grey image by one affine map for every image.
    grey, grey_before = got.mean(-1).reshape(64, -1), before.mean(-1).reshape(64, -1)
    contrast = grey.std(1) / grey_before.std(1)
    assert 0.5 <= contrast.min() < 0.7
    assert 1.3 < contrast.max() <= 1.5
    shift = grey.mean(1) - grey_before.mean(1)
    assert np.abs(shift).max() <= 0.5
    assert shift.std() == pytest.approx(1 / np.sqrt(12), abs=0.06)
    expected = contrast[:, None] * (grey_before - grey_before.mean(1, keepdims=True))
    np.testing.assert_allclose(grey - grey.mean(1, keepdims=True), expected, atol=1e-5)
    # Saturation scales the distance from grey by up to two (times the contrast).
    colour = (got - got.mean(-1, keepdims=True)).std((1, 2, 3))
    saturation = colour / (before - before.mean(-1, keepdims=True)).std((1, 2, 3)) / contrast
    assert saturation.min() < 0.3
    assert 1.7 < saturation.max() <= 2 + 1e-4


def test_an_unknown_policy_is_refused(images):
    with pytest.raises(ValueError, match="unknown augmentation 'mirror'"):
        diff_augment(images, jax.random.key(0), ("mirror",))


def test_second_order_gradients_pass_through(images):
    """A penalty behind the augmentation has the gradient that finite differences give."""
    with jax.enable_x64(True):
        x = jnp.asarray(images[:4], jnp.float64)
        policy = ("color", "translation", "cutout")

        def penalty(scale):
            def critic(x):
                return jnp.sum(jnp.sin(scale * diff_augment(x, jax.random.key(1), policy)))

            return jnp.sum(jax.grad(critic)(x) ** 2)

        h = 1e-6
        expected = (penalty(1 + h) - penalty(1 - h)) / (2 * h)
        np.testing.assert_allclose(jax.grad(penalty)(1.0), expected, rtol=1e-6)


def test_nothing_in_it_gathers_or_scatters(images):
    def scalar(x):
        return jnp.sum(diff_augment(x, jax.random.key(1)) ** 3)

    text = str(jax.make_jaxpr(jax.grad(lambda x: jnp.sum(jax.grad(scalar)(x) ** 2)))(images))
    assert "gather" not in text
    assert "scatter" not in text
