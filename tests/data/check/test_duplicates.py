import io

import numpy as np
import pytest
from PIL import Image
from scipy.spatial import distance

from data.check import duplicates
from data.check.facts import facts


@pytest.fixture(scope="module")
def scenes() -> np.ndarray:
    """40 different smooth grey pictures [40, 64, 64, 1] uint8."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (40, 8, 8), dtype=np.uint8)
    big = [np.asarray(Image.fromarray(x).resize((64, 64), Image.Resampling.BICUBIC)) for x in small]
    return np.stack(big)[..., None]


def _near(images) -> duplicates.Pairs:
    seen = [facts(image) for image in images]
    digests = np.array([x.digest for x in seen], "V16")
    return duplicates.near(np.stack([x.thumbnail for x in seen]), digests)


def _jpeg(image):
    file = io.BytesIO()
    Image.fromarray(image[..., 0]).save(file, "JPEG", quality=60)
    return np.asarray(Image.open(file))[..., None]


def _smaller(image):
    return np.asarray(Image.fromarray(image[..., 0]).resize((48, 48), Image.Resampling.BILINEAR))[
        ..., None
    ]


def _darker(image):
    return np.rint(image * 0.7 + 20).astype(np.uint8)


def _deeper(image):
    return image.astype(np.uint16) * 200


@pytest.mark.parametrize("change", [_jpeg, _smaller, _darker, _deeper])
def test_changed_copies_are_found_and_nothing_else(scenes, change):
    found = _near([*scenes, change(scenes[7]), change(scenes[30])])
    pairs = sorted(zip(found.a.tolist(), found.b.tolist(), strict=True))
    assert pairs == [(7, 40), (30, 41)]
    assert found.distance.max() <= duplicates.THRESHOLD


def test_pairs_and_distances_are_those_of_all_comparisons(monkeypatch):
    """Against SciPy in float64, with pairs on both sides of the threshold and of block borders."""
    monkeypatch.setattr(duplicates, "_BLOCK", 16)
    rng = np.random.default_rng(1)
    base = rng.integers(0, 256, (6, 32, 32)).astype(float)
    steps = np.linspace(0, 12, 20)[:, None, None, None]
    # Coarse noise: means of 2 x 2 pixels then differ as much as the pixels do.
    noise = rng.standard_normal((20, 6, 8, 8)).repeat(4, axis=2).repeat(4, axis=3)
    thumbnails = (base + steps * noise).clip(0, 255)
    thumbnails = thumbnails.reshape(-1, 32, 32).astype(np.uint8)
    found = duplicates.near(thumbnails, np.array([x.tobytes() for x in thumbnails]))
    small = thumbnails.reshape(-1, 16, 2, 16, 2).mean(axis=(2, 4)).reshape(-1, 256)
    small = (small - small.mean(1, keepdims=True)) / small.std(1, keepdims=True)
    whole = distance.squareform(distance.pdist(small)) / 16
    a, b = np.nonzero(np.triu(whole <= duplicates.THRESHOLD, 1))
    assert 0 < len(a) < 6 * 190
    assert set(zip(found.a.tolist(), found.b.tolist(), strict=True)) == set(
        zip(a.tolist(), b.tolist(), strict=True)
    )
    np.testing.assert_allclose(found.distance, whole[found.a, found.b], atol=1e-5)


def test_exact_pairs_have_the_first_image_first():
    digests = np.array([b"a", b"b", b"a", b"c", b"a", b"c"])
    found = duplicates.exact(digests, np.array([1, 1, 1, 1, 1, 0], bool))
    assert list(zip(found.a.tolist(), found.b.tolist(), strict=True)) == [(0, 2), (0, 4)]


def test_too_many_pairs_are_cut_and_that_is_said(scenes, monkeypatch):
    monkeypatch.setattr(duplicates, "MOST", 3)
    rng = np.random.default_rng(0)
    noisy = [scenes[0] ^ rng.integers(0, 2, scenes[0].shape, dtype=np.uint8) for _ in range(9)]
    found = _near(noisy)
    assert len(found) == 3
    assert not found.complete


def test_images_without_a_pair(scenes):
    assert len(_near(scenes[:1])) == 0
    assert len(_near(np.zeros((4, 8, 8, 1), np.uint8))) == 0


def test_facts_of_any_type():
    for dtype, values in ((np.uint8, (3, 200)), (np.uint16, (7, 4095)), (np.float32, (-1, 0.5))):
        image = np.full((4, 6, 1), values[0], dtype)
        image[1, 2] = values[1]
        seen = facts(image)
        assert (seen.shape, seen.dtype) == ((4, 6, 1), np.dtype(dtype).name)
        assert (seen.low, seen.high) == pytest.approx(values)
        assert seen.mean == pytest.approx((23 * values[0] + values[1]) / 24)
        assert seen.histogram.sum() == 24
        assert seen.grey
    colour = np.zeros((4, 4, 3), np.uint8)
    assert facts(colour).grey
    colour[0, 0, 1] = 9
    assert not facts(colour).grey
    assert facts(np.zeros((4, 4, 1), np.int64)).histogram is None
