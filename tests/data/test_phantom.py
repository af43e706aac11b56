"""Phantoms: the same bytes again, lesions where geometry puts them, attributes that show."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data.builders.phantom import anatomy, builder, organs
from data.builders.phantom.render import render
from data.builders.phantom.view import View
from data.errors import UserError

from .conftest import read_source

LABELS = {name: label for label, name in enumerate(anatomy.LABELS)}
SHAPES = [(64, 64), (48, 80), (20, 24, 28)]


def _draw(count: int, label: str | None = None, *, seed: int = 0, visit: int = 0):
    labels = None if label is None else np.full(count, LABELS[label])
    return anatomy.draw(seed, np.arange(count), np.full(count, visit), labels)


def _pixels(count: int) -> np.ndarray:
    """Middles of pixels as complex numbers x + iy, [count, count]."""
    at = (np.arange(count) + 0.5) * 2 / count - 1
    return at[None, :] + 1j * at[:, None]


def _posed(a: anatomy.Anatomy, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Where a point of the patient is in the image, as a complex number [B]."""
    shift = a.shift_x + 1j * a.shift_y
    return shift + a.scale * np.exp(1j * a.turn.astype(np.float64)) * (x + 1j * y)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_seed_gives_the_same_bytes_in_another_process_and_batch(shape):
    a = _draw(6)
    made = render(a, shape)
    assert made.image.dtype == made.twin.dtype == np.float32
    assert made.image.shape == made.mask.shape == (6, *shape, 1)
    assert np.abs(made.image).max() <= 1
    script = f"""
import hashlib, numpy as np
from data.builders.phantom import anatomy, render
a = anatomy.draw(0, np.array([4, 2]), np.zeros(2, int))
print(hashlib.sha256(render.render(a, {shape}).image.tobytes()).hexdigest())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == hashlib.sha256(made.image[[4, 2]].tobytes()).hexdigest()
    assert not (render(_draw(6, seed=1), shape).image == made.image).all((1, 2)).any()


@pytest.mark.parametrize("shape", SHAPES)
def test_twins_differ_in_the_mask_alone(shape):
    a = _draw(16)
    made = render(a, shape)
    np.testing.assert_array_equal(made.image[~made.mask], made.twin[~made.mask])
    ill = a.label != LABELS["healthy"]
    np.testing.assert_array_equal(made.mask.reshape(16, -1).any(1), ill)
    healthy = render(_draw(16, "healthy"), shape)
    np.testing.assert_array_equal(healthy.image, made.twin)
    changed = (made.image != made.twin) & made.mask
    # Saturated pixels, and in volumes the inside of an enlarged heart, look the same.
    least = 0.9 if len(shape) == 2 else 0.1
    assert (changed.reshape(16, -1).sum(1) >= least * made.mask.reshape(16, -1).sum(1)).all()


def test_the_mask_of_a_nodule_is_a_disc():
    a = _draw(12, "nodule")
    mask = render(a, (96, 96)).mask[..., 0]
    x = np.sign(a.lesion_side) * (a.lung_gap + 0.13 + 0.32 * a.lesion_across)
    centre = _posed(a, x, -0.42 + 0.4 * a.lesion_down)
    radius = (0.06 + 0.05 * a.lesion_size) * a.scale
    far = np.abs(_pixels(96) - centre[:, None, None]) / radius[:, None, None]
    assert mask[far < 0.999].all()
    assert not mask[far > 1.001].any()


def test_the_mask_of_an_enlarged_heart_is_as_large_as_the_heart():
    a = _draw(12, "enlarged_heart")
    mask = render(a, (128, 128)).mask[..., 0]
    growth = 1.18 + 0.22 * a.lesion_size
    axes = a.heart_length * a.heart_breadth * (growth * a.scale) ** 2
    np.testing.assert_allclose(mask.mean((1, 2)) * 4, np.pi * axes, rtol=0.03)
    across = np.array([_pixels(128).real[one].mean() for one in mask])
    assert (across > 0).all()  # on the patient's left


def test_an_effusion_fills_the_base_of_one_lung():
    a = _draw(16, "effusion")
    made = render(a, (64, 64))
    for i, side in enumerate(np.sign(a.lesion_side)):
        points = _pixels(64)[made.mask[i, ..., 0]]
        assert (side * (points.real - a.shift_x[i]) > -0.02).all()
        assert points.imag.min() > -0.25
        middle = made.mask[i, ..., 0]
        assert made.clean[i, ..., 0][middle].mean() > made.twin[i, ..., 0][middle].mean() + 0.2


def test_images_of_a_patient_share_the_anatomy():
    first, second = (_draw(40, "healthy", visit=visit) for visit in (0, 1))
    for name in ("age", "sex", "site", "thorax_width", "heart_length", "rib_top", "lesion_across"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
        assert len(np.unique(getattr(first, name))) > 1
    for name in ("shift_x", "turn", "scale", "exposure", "breath"):
        assert (getattr(first, name) != getattr(second, name)).all()
    still = {name: np.zeros(40) for name in ("shift_x", "shift_y", "turn", "breath", "exposure")}
    still |= {"scale": np.ones(40), "site": np.zeros(40, int), "sex": np.zeros(40, int)}
    posed = [render(a.replace(**still), (64, 64)) for a in (first, second)]
    # Without the pose only the noise is new.
    np.testing.assert_array_equal(posed[0].clean, posed[1].clean)
    assert (posed[0].image != posed[1].image).any((1, 2, 3)).all()
    others = np.abs(posed[0].clean - np.roll(posed[0].clean, 1, axis=0)).mean((1, 2, 3))
    assert (others > 0.005).all()


def _with(a: anatomy.Anatomy, **values: float) -> anatomy.Anatomy:
    return a.replace(**{k: np.full_like(getattr(a, k), v) for k, v in values.items()})


def test_sites_have_their_contrast_grain_and_marker():
    a = _draw(20, "healthy")
    sites = [render(_with(a, site=site), (64, 64)) for site in range(3)]
    contrast = [made.clean.std((1, 2, 3)) for made in sites]
    assert (contrast[1] < contrast[0]).all()
    assert (contrast[0] < contrast[2]).all()
    air = np.s_[:, 20:30, 60:]  # nothing but grain
    grain = [(made.image - made.clean)[air].std() for made in sites]
    assert grain[2] < grain[0] < grain[1]
    bright = [(made.clean[..., 0] == np.float32(0.9)).all(0) for made in sites]
    points = [_pixels(64)[place] for place in bright]
    assert all((found.real > 0.7).all() and len(found) > 5 for found in points)
    assert [bool(found.imag.mean() > 0) for found in points] == [False, True, False]


def test_age_and_sex_change_what_they_should():
    a = _with(_draw(20, "healthy"), site=0)
    young, old = (_with(a, age=age) for age in (20, 90))
    view = View(a, (64, 64))
    ribs = organs.ribs(a, view) > 0.3
    lungs = organs.lung(a, view, 1) > 0.2
    heart = organs.heart(a, view) > 0
    images = [render(one, (64, 64)).clean[..., 0] for one in (young, old)]
    rib, gap = lungs & ribs & ~heart, lungs & ~ribs & ~heart
    loss = [image[rib].mean() - image[gap].mean() for image in images]
    assert loss[1] < 0.85 * loss[0]  # bones lose chalk
    knob = np.abs(_pixels(64) - (0.18 - 0.33j)) < 0.05
    assert images[1][:, knob].mean() > images[0][:, knob].mean() + 0.05  # the aorta widens
    flat, curved = (render(_with(a, sex=sex), (64, 64)).clean[..., 0] for sex in (0, 1))
    breast = np.abs(np.abs(_pixels(64).real) + 1j * _pixels(64).imag - (0.46 + 0.24j)) < 0.15
    assert (curved[:, breast].mean(1) > flat[:, breast].mean(1) + 0.05).all()
    slim = [thorax.max((1, 2)) for thorax in (
        organs.thorax(_with(a, sex=sex), view) for sex in (0, 1)
    )]  # fmt: skip
    np.testing.assert_allclose(slim[1] / slim[0], 0.95, rtol=1e-4)


def test_a_volume_seen_from_the_front_is_nearly_the_radiograph():
    a = _with(_draw(8, "healthy"), site=0)
    flat = render(a, (48, 48)).clean[..., 0]
    solid = render(a, (48, 48, 48)).clean[..., 0].mean(1)
    for one, other in zip(flat, solid, strict=True):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.8
    # Organs have a depth: the spine lies behind, the heart before the middle.
    view = View(a, (48, 48, 48))
    depth = np.arange(48)[:, None, None]
    for organ, behind in ((organs.spine, True), (organs.heart, False)):
        where = organ(a, view)
        middle = (where * depth).sum((1, 2, 3)) / where.sum((1, 2, 3))
        assert ((middle > 23.5) == behind).all()


def test_as_a_source(tmp_path):
    source = read_source("tfds:vrn_phantom/16", data_dir=tmp_path, size=16, channels=1)
    records = source.splits["train"]
    assert source.class_names == anatomy.LABELS
    assert np.bincount(records.labels).tolist() == [300] * 4
    assert len(set(records.groups)) == 400
    for patient in set(records.groups[:20]):
        assert len(set(records.labels[records.groups == patient])) == 1
    row = list(records.ids).index("phantom-00005-02")
    a = anatomy.draw(0, np.array([5]), np.array([2]))
    made = render(a, (16, 16))
    stored = records.read_raw(np.array([row]))
    np.testing.assert_array_equal(stored, np.rint((made.image.astype(float) + 1) * 127.5))
    rows = tfds.builder_from_directory(builder.prepare("vrn_phantom/16", tmp_path))
    rows = rows.as_data_source("train")
    found = next(row for row in rows if row["id"] in (b"phantom-00005-02", "phantom-00005-02"))
    np.testing.assert_array_equal(found["mask"], made.mask[0] * 255)
    np.testing.assert_array_equal(found["twin"], np.rint((made.twin[0].astype(float) + 1) * 127.5))
    assert (found["sex"], found["site"]) == (a.sex[0], a.site[0])
    assert found["age"] == a.age[0]


@pytest.mark.parametrize(
    "shape", ["8", "x", "64x", "16x16x16x16", "4096", "16-3", "16-", "16-100000"]
)
def test_a_wrong_shape_is_named(tmp_path, shape):
    with pytest.raises(UserError, match=rf"tfds:vrn_phantom/{shape} is no phantom: write"):
        read_source(f"tfds:vrn_phantom/{shape}", data_dir=tmp_path, size=16, channels=1)


@pytest.mark.parametrize(
    ("name", "shape"), [("", (64, 64)), ("/32", (32, 32)), ("/16x20", (16, 20))]
)
def test_shapes_have_names(tmp_path, name, shape, monkeypatch):
    monkeypatch.setattr(builder.offline, "prepare", lambda made: made)
    assert builder.prepare("vrn_phantom" + name, tmp_path).info.features["image"].shape[:2] == shape


def test_more_patients_are_more_of_the_same(tmp_path):
    few, more = (
        read_source(f"tfds:vrn_phantom/16-{count}", data_dir=tmp_path, size=16, channels=1).splits[
            "train"
        ]
        for count in (4, 6)
    )
    assert (len(few), len(more)) == (12, 18)
    rows = [list(more.ids).index(name) for name in few.ids]
    np.testing.assert_array_equal(few.read(np.arange(12)), more.read(np.array(rows)))


def test_volumes_are_a_data_set_too(tmp_path):
    config = builder.PhantomConfig(name="tiny", shape=(16, 20, 24), patients=4, visits=1)
    made = builder.VrnPhantom(data_dir=tmp_path, file_format="array_record", config=config)
    folder = builder.offline.prepare(made)
    rows = tfds.builder_from_directory(folder).as_data_source("train")
    assert sorted(int(row["label"]) for row in rows) == [0, 1, 2, 3]
    volumes = render(anatomy.draw(0, np.arange(4), np.zeros(4, int)), config.shape)
    for row in rows:
        expected = volumes.mask[int(row["label"])] * 255
        np.testing.assert_array_equal(row["mask"], expected)
        assert row["image"].shape == (16, 20, 24, 1)
