"""The fault injector tells the truth, and the analyser finds what it is said to find."""

import numpy as np
import pytest

from data.builders.phantom import anatomy, faults, judge, measure
from data.builders.phantom.render import render

SHAPE = (64, 64)
COUNT = 200
# Least share of each kind that the analyser finds at 64 pixels, set in trials with other seeds;
# `python -m benchmarks.phantom` prints what it finds.
FOUND = {
    "two_hearts": 0.97, "vanished_ribs": 0.8, "mangled_ribs": 0.92, "mangled_lung": 0.97,
    "wrong_laterality": 0.97, "checkerboard": 0.97, "blur": 0.97, "blank": 0.97,
}  # fmt: skip


def _draw(count: int, first: int = 0, **kwargs) -> anatomy.Anatomy:
    return anatomy.draw(3, first + np.arange(count), np.zeros(count, int), **kwargs)


def _inject(a: anatomy.Anatomy, kind: str, shape: tuple[int, ...] = SHAPE) -> faults.Faulty:
    return faults.inject(a, np.full(len(a), faults.KINDS.index(kind)), shape)


@pytest.mark.parametrize("kind", faults.KINDS)
@pytest.mark.parametrize("shape", [SHAPE, (24, 24, 24)])
def test_a_fault_is_where_its_mask_is(kind, shape):
    a = _draw(8)
    whole, made = render(a, shape), _inject(a, kind, shape)
    assert made.mask.reshape(8, -1).any(1).all()
    np.testing.assert_array_equal(made.pictures.image[~made.mask], whole.image[~made.mask])
    if kind in faults.ABSURD:
        assert 0.004 < made.mask.mean() < 0.8
    else:
        assert made.mask.mean() > 0.9
    none = faults.inject(a, np.full(8, faults.NONE), shape)
    np.testing.assert_array_equal(none.pictures.image, whole.image)
    assert not none.mask.any()


def test_a_fault_does_not_depend_on_the_batch():
    a = _draw(8)
    kinds = np.arange(8)
    made = faults.inject(a, kinds, SHAPE)
    for i in range(8):
        alone = faults.inject(a.take(np.array([i])), kinds[[i]], SHAPE)
        np.testing.assert_array_equal(alone.pictures.image[0], made.pictures.image[i])
        np.testing.assert_array_equal(alone.mask[0], made.mask[i])


def test_wrong_laterality_is_the_mirror_image_but_for_the_marker():
    a = _draw(8, labels=np.zeros(8, int))
    a = a.replace(shift_x=np.zeros(8), turn=np.zeros(8), site=np.zeros(8, int))
    whole = render(a, SHAPE).clean[:, :, 10:-10]  # without the margins, where the marker is
    torn = _inject(a, "wrong_laterality").pictures.clean[:, :, 10:-10]
    np.testing.assert_allclose(torn, whole[:, :, ::-1], atol=1e-5)
    marker = _inject(a, "wrong_laterality").pictures.clean[..., 0] == np.float32(0.9)
    assert marker.all(0)[:, 32:].any()
    assert not marker.any(0)[:, :32].any()


def test_hearts_are_added_and_ribs_taken_away():
    a = _draw(20, labels=np.zeros(20, int))
    whole = render(a, SHAPE).clean
    second, vanished = _inject(a, "two_hearts"), _inject(a, "vanished_ribs")
    assert (second.pictures.clean >= whole).all()
    assert (vanished.pictures.clean <= whole).all()
    x, y = np.meshgrid(*[(np.arange(64) + 0.5) / 32 - 1] * 2)
    for mask in second.mask[..., 0]:
        # One blob, as long as a heart at most.
        assert mask.mean() > 0.03
        assert np.hypot(x[mask] - x[mask].mean(), y[mask] - y[mask].mean()).max() < 0.4
    # Ribs of one side alone.
    right, left = vanished.mask[:, :, :27, 0].any((1, 2)), vanished.mask[:, :, 37:, 0].any((1, 2))
    assert (right != left).all()


def test_textures_are_spoiled_as_said():
    a = _draw(10)
    whole = render(a, SHAPE).image[..., 0]
    sign = (-1.0) ** np.add.outer(np.arange(64), np.arange(64))
    board = _inject(a, "checkerboard").pictures.image[..., 0]
    amplitude = (board * sign).mean((1, 2)) - (whole * sign).mean((1, 2))
    assert (amplitude > 0.06).all()
    assert (amplitude < 0.2).all()

    def fine(images: np.ndarray) -> np.ndarray:
        window = np.outer(np.hanning(64), np.hanning(64))  # or the edges would look sharp
        power = np.abs(np.fft.fft2(images * window)) ** 2
        far = np.hypot(*np.meshgrid(np.fft.fftfreq(64), np.fft.fftfreq(64))) > 0.35
        return power[:, far].sum(1)

    blurred = _inject(a, "blur").pictures.image[..., 0]
    assert (fine(blurred) < 0.02 * fine(whole)).all()
    blank = _inject(a, "blank").pictures.image[..., 0]
    assert (blank.std((1, 2)) < 0.06 * whole.std((1, 2))).all()


def test_the_measures_of_images_that_are_known():
    a = _draw(50, labels=np.zeros(50, int))
    images = render(a, SHAPE).image
    found = measure.measure(images)
    assert (found["hearts"] == 1).mean() > 0.95
    assert (found["laterality"] > 0).all()
    flipped = measure.measure(images[:, :, ::-1])
    assert (flipped["laterality"] < 0).all()
    no_ribs = a.replace(ribs=np.zeros_like(a.ribs))
    bare = measure.measure(render(no_ribs, SHAPE).image)
    left = a.ribs.copy()
    left[:, 0] = 0  # the right ones
    half = measure.measure(render(a.replace(ribs=left), SHAPE).image)
    assert found["ribs_right"].mean() > 5.5
    assert bare["ribs_right"].mean() < 3
    assert half["ribs_right"].mean() < 3
    assert half["ribs_left"].mean() > 5.5
    large = measure.measure(render(a, (128, 128)).image)
    assert np.abs(large["ribs_left"] - found["ribs_left"]).mean() < 0.5


def test_few_phantoms_are_thought_to_have_a_fault():
    wrong = judge.judge(render(_draw(COUNT), SHAPE).image)
    assert wrong["any"].mean() < 0.06
    np.testing.assert_array_equal(
        wrong["any"], np.any([v for k, v in wrong.items() if k != "any"], axis=0)
    )


@pytest.mark.parametrize("kind", faults.KINDS)
def test_faults_are_found(kind):
    images = _inject(_draw(COUNT), kind).pictures.image
    assert judge.judge(images)["any"].mean() >= FOUND[kind]


@pytest.mark.parametrize("shape", [(2, 32, 32, 1), (2, 64, 64, 3), (2, 64, 64), (2, 64, 64, 64, 1)])
def test_what_cannot_be_measured_is_refused(shape):
    with pytest.raises(ValueError, match="images \\[B, H, W, 1\\] of 64 pixels and more"):
        measure.measure(np.zeros(shape, np.float32))
