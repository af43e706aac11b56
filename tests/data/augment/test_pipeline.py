import numpy as np
import pytest
from scipy import stats

from data.augment import NAMES, augment, check_names, pipeline, streams
from data.augment.streams import RowStream, stream_key
from data.errors import UserError

from .conftest import apply

ALONE = tuple(name for name in NAMES if name not in ("histogram", "mixup"))
# What a fixed batch sums to, weighted; may change only if seeds are meant to give other images.
GOLDEN = {
    "flip": -20.7847, "shift": 10.3562, "rotate": -3.8822, "scale": 10.7212,
    "elastic": 0.7735, "contrast": 5.8870, "brightness": 1.2478, "blur": -0.1128,
    "noise": 0.9906, "shear": -1.0252, "gamma": 1.7950, "bias": -3.2369,
    "colour": 1.3729, "lowres": 3.5218, "rician": 4.0878, "cutout": 1.4019,
}  # fmt: skip


def _names(images: np.ndarray, names) -> tuple[str, ...]:
    """Without those that these images have not the channels for."""
    return tuple(name for name in names if name != "colour" or images.shape[-1] == 3)


def _augment(images, names, strength, seed, first_row=0):
    """Histograms are matched to darker images."""
    references = (images + 1) ** 2 / 2 - 1
    return augment(
        images, _names(images, names), strength, seed, first_row=first_row, references=references
    )


def test_the_names():
    geometry = {"flip", "shift", "rotate", "scale", "shear", "elastic"}
    pixels = {"brightness", "contrast", "gamma", "colour", "bias", "cutout"}
    scanner = {"noise", "rician", "blur", "lowres", "histogram"}
    assert set(NAMES) == geometry | pixels | scanner | {"mixup"}
    assert len(set(pipeline.STREAMS.values())) == len(NAMES)


@pytest.mark.parametrize("name", ALONE)
def test_strength_zero_is_the_identity(images, name):
    if name not in _names(images, [name]):
        return
    found = apply(name, images, np.random.default_rng(0), 0.0)
    # These add and take away, or sum weights.
    exact = name not in ("contrast", "blur", "gamma", "bias", "colour", "rician")
    np.testing.assert_allclose(found, images, rtol=0, atol=0 if exact else 3e-7)
    np.testing.assert_array_equal(augment(images, [name], 0, (1,)), images)


@pytest.mark.parametrize("names", [*([name] for name in NAMES[:-1]), NAMES])
@pytest.mark.parametrize("strength", [0.3, 1.0, 3.0])
def test_seeded_within_range_and_the_input_untouched(images, names, strength):
    if not _names(images, names):
        return
    before = images.copy()
    found = _augment(images, names, strength, (7, 3))
    np.testing.assert_array_equal(images, before)
    assert found.dtype == np.float32
    assert found.shape == images.shape
    assert found.min() >= -1
    assert found.max() <= 1
    np.testing.assert_array_equal(found, _augment(images, names, strength, (7, 3)))
    changed = [_augment(images, names, strength, (7, step)) for step in range(4, 24)]
    assert any((other != found).any() for other in changed)
    assert (found != images).any() or any((other != images).any() for other in changed)


@pytest.mark.parametrize("name", ALONE)
def test_images_of_a_batch_differ(name):
    x = np.linspace(-0.6, 0.6, 20 * 20 * 3, dtype=np.float32).reshape(1, 20, 20, 3)
    x = x * np.array([1, 0.5, -1], np.float32)
    found = augment(np.repeat(x, 16, axis=0), [name], 1.0, (0,))
    distinct = len(np.unique(found.reshape(16, -1), axis=0))
    assert distinct >= {"flip": 2, "lowres": 4}.get(name, 8)


@pytest.mark.parametrize("name", [*NAMES[:-1], "all"])
def test_rows_are_the_same_however_a_batch_is_divided(images, name):
    names = _names(images, NAMES if name == "all" else [name])
    whole = _augment(images, names, 0.8, (5, 9))
    for size in (1, 2, 3):
        for row in range(0, 6, size):
            part = _augment(images[row : row + size], names, 0.8, (5, 9), first_row=row)
            np.testing.assert_array_equal(part, whole[row : row + size])


@pytest.mark.parametrize("shape", [(40, 64, 64, 1), (5, 24, 40, 40, 1)])
def test_large_batches_are_worked_on_in_blocks(rng, shape):
    x = rng.uniform(-1, 1, shape).astype(np.float32)
    assert len(list(streams.row_blocks(x.shape))) > 1
    whole = _augment(x, NAMES, 1.0, (2,))
    last = len(x) - 3
    np.testing.assert_array_equal(
        _augment(x[last:], NAMES, 1.0, (2,), first_row=last), whole[last:]
    )


def test_order_of_names_and_company_do_not_change_choices(images):
    names = _names(images, NAMES)
    np.testing.assert_array_equal(
        _augment(images, names, 1, (0,)), _augment(images, names[::-1], 1, (0,))
    )
    flipped = augment(images, ["flip"], 1, (0,))
    together = augment(images, ["flip", "noise"], 1e-6 + 1, (0,))
    assert np.abs(together - flipped).max() < 0.7  # noise on the same flips, not on others


@pytest.mark.parametrize("name", ALONE)
def test_a_seed_makes_the_images_that_it_has_always_made(name):
    grid = np.arange(2 * 9 * 10 * 3, dtype=np.float64)
    images = (0.9 * np.sin(grid / 7)).astype(np.float32).reshape(2, 9, 10, 3)
    found = augment(images, [name], 1.0, (7, 3), first_row=5)
    total = float(np.sum(found.ravel() * np.cos(grid / 5)))
    assert total == pytest.approx(GOLDEN[name], abs=1e-3)


def test_row_streams_are_uniform_and_fresh_at_each_call():
    stream = RowStream(stream_key((3, 4)), 2)
    first, second = stream.random((5, 11)), stream.random((5, 11))
    assert not np.intersect1d(first, second).size
    assert len(np.unique(first)) == 55
    whole = RowStream(stream_key((3, 4)), 0)
    np.testing.assert_array_equal(whole.random((9, 11))[2:7], first)
    many = RowStream(stream_key((0,)), 0).random((1000, 3)).ravel()
    assert stats.kstest(many, "uniform").pvalue > 0.01


def test_unknown_names_are_refused(images):
    with pytest.raises(UserError, match="no augmentation 'mirror'; choose from flip, shift"):
        augment(images, ["mirror"], 1, (0,))
    with pytest.raises(UserError, match="'colour' needs 3 channels, and images have 1"):
        check_names(["flip", "colour"], 1)
    with pytest.raises(ValueError, match="needs references"):
        augment(images, ["histogram"], 1, (0,))
