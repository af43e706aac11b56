"""Masks from files to records: at the same places as what they are masks of."""

import gzip
import os
import pathlib
import shutil

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from data import images, preprocess
from data.errors import UserError
from data.sources import Options, open_source
from tests.dicom_files import save_dicom


def _open(spec: str, folder: pathlib.Path, size: int, **options):
    """A source, and the masks of all its images by their ids."""
    data_dir = options.pop("data_dir", folder)
    source = open_source(
        spec, data_dir=data_dir, size=size, channels=1, spool=folder / "spool",
        options=Options(**options),
    )  # fmt: skip
    found = {}
    for records in source.splits.values():
        masks = source.spool.masks(records)
        if masks is not None:
            raw = masks.read_raw(np.arange(len(masks)))
            assert raw.shape[-1] == 1
            found |= dict(zip(masks.ids.tolist(), raw[..., 0], strict=True))
    return source, found


def _discs(shape: tuple[int, int]) -> np.ndarray:
    """Labels 0, 7 and 200 in large pieces, off the middle."""
    rows, columns = np.indices(shape)
    mask = np.zeros(shape, np.uint8)
    mask[(rows - shape[0] * 0.4) ** 2 + (columns - shape[1] * 0.6) ** 2 < 0.09 * shape[0] ** 2] = 7
    mask[2 * shape[0] // 3 :, : shape[1] // 3] = 200
    return mask


@pytest.mark.parametrize("shape", [(4, 6), (30, 7), (12, 5)])
def test_nearest_is_that_of_scipy(rng, shape):
    mask = rng.integers(0, 256, (12, 10), dtype=np.uint8)
    zoom = [new / old for new, old in zip(shape, mask.shape, strict=True)]
    expected = ndimage.zoom(mask, zoom, order=0, grid_mode=True, mode="nearest")
    np.testing.assert_array_equal(images.nearest(mask, shape), expected)


@pytest.mark.parametrize(
    "names",
    [
        ("resize",), ("resize(pad)",), ("resize(crop)",), ("centre(70)", "resize"),
        ("resample(1.0)", "centre(48)", "resize"), ("window(0.5, 1)", "centre(30)", "resize(pad)"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("label", [7, 200])
def test_a_mask_follows_the_image_it_is_drawn_in(names, label):
    mask = _discs((64, 48))
    pixels = np.where(mask == label, 255, 0).astype(np.uint8)[..., None]
    image = preprocess.Image(pixels, 0, 1, np.dtype(np.uint8), (0.75, 1.5), mask=mask)
    after, _ = preprocess.apply(preprocess.parse(names, 32), image)
    assert after.mask.shape == (32, 32)
    assert after.mask.dtype == np.uint8
    assert set(np.unique(after.mask)) <= {0, 7, 200}
    bright = after.values[..., 0] > 127
    assert bright.any()
    # The edges of an antialiased image are grey.
    edge = np.abs(after.values[..., 0].astype(int) - 127.5) < 127
    np.testing.assert_array_equal((after.mask == label)[~edge], bright[~edge])
    assert ((after.mask == label) == bright).mean() > 0.97


@pytest.fixture
def masked(tmp_path, rng):
    """Three grey files, two of them with masks; returns the source's path and its table's."""
    root = tmp_path / "set"
    for name in ("x", "m"):
        (root / name).mkdir(parents=True)
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(root / f"x/{i}.png")
    Image.fromarray(_discs((8, 8))).save(root / "m/0.png")
    np.save(root / "m/2.npy", _discs((8, 8))[::-1])
    (tmp_path / "t.csv").write_text("file,label,mask\nx/0,a,m/0.png\nx/1,a,\nx/2,b,./m/2.npy\n")
    return root, tmp_path / "t.csv"


def test_masks_of_a_table(masked, tmp_path):
    root, table = masked
    source, found = _open(f"folder:{root}", tmp_path, 8, labels=str(table))
    assert source.splits["all"].ids.tolist() == ["x/0.png", "x/1.png", "x/2.png"]
    assert list(found) == ["x/0.png", "x/2.png"]
    np.testing.assert_array_equal(found["x/0.png"], _discs((8, 8)))
    np.testing.assert_array_equal(found["x/2.png"], _discs((8, 8))[::-1])
    pixels = source.splits["all"].read_raw(np.arange(3))
    for i in range(3):  # what lies behind the images shifts none of them
        np.testing.assert_array_equal(pixels[i, ..., 0], Image.open(root / f"x/{i}.png"))


def test_a_set_without_masks_has_none(masked, tmp_path):
    root, table = masked
    shutil.rmtree(root / "m")
    table.write_text("file,label\nx/0,a\nx/1,a\nx/2,b\n")
    assert _open(f"folder:{root}", tmp_path, 8, labels=str(table))[1] == {}


def test_masks_of_sixteen_bit_images_in_units(tmp_path, rng):
    """Parts whose rows are of other lengths than their pixels; single frames of DICOM."""
    root = tmp_path / "set"
    values = rng.integers(0, 4096, (3, 9, 7), dtype=np.uint16)
    for i in range(3):
        save_dicom(root / f"{i}.dcm", values[i], WindowCenter=2048, WindowWidth=4096)
        Image.fromarray(_discs((9, 7)) + i).save(root / f"{i}.png")
    rows = "".join(f"{i}.dcm,a,{i}.png\n" for i in range(3))
    (tmp_path / "t.csv").write_text(f"file,label,mask\n{rows}")
    for number, chain in enumerate((("resize",), ("scale(dataset)", "resize"))):
        folder = tmp_path / str(number)
        _, found = _open(
            f"dicom:{root}", folder, 7, labels=str(tmp_path / "t.csv"), preprocess=chain
        )
        assert list(found) == ["0.dcm#0", "1.dcm#0", "2.dcm#0"]
        for i, mask in enumerate(found.values()):
            np.testing.assert_array_equal(mask, images.nearest(_discs((9, 7)) + i, (7, 7)))


@pytest.mark.parametrize(
    ("pixels", "why"),
    [
        (np.zeros((8, 9), np.uint8), r"has a mask of 8 x 9 pixels, not of 8 x 8 \(0.png\)"),
        (np.zeros((8, 8, 3), np.uint8), r"has a mask in colours or of more than 8 bits \(0.png\)"),
        (np.zeros((8, 8), np.uint16), r"has a mask in colours or of more than 8 bits \(0.png\)"),
        (None, r"has a mask that can't be read \(.*0.png is no readable image"),
    ],
)
def test_a_mask_that_does_not_fit_is_named(masked, tmp_path, pixels, why):
    root, table = masked
    if pixels is None:
        (root / "m/0.png").write_bytes(b"no image")
    else:
        Image.fromarray(pixels).save(root / "m/0.png")
    with pytest.raises(UserError, match=f"1 of 3 files .* x/0.png {why}"):
        _open(f"folder:{root}", tmp_path, 8, labels=str(table))


def _npz(path: pathlib.Path, masks: np.ndarray) -> str:
    pixels = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
    np.savez(path, images=pixels, labels=np.array([0, 1, 0, 1]), masks=masks)
    return f"npz:{path}"


@pytest.mark.parametrize("last", [(), (1,)])
def test_masks_of_an_npz(tmp_path, rng, last):
    masks = rng.integers(0, 3, (4, 5, 6, *last), dtype=np.uint8)
    _, found = _open(_npz(tmp_path / "a.npz", masks), tmp_path, 6)
    for i in range(4):
        expected = images.nearest(masks[i].reshape(5, 6), (6, 6))
        np.testing.assert_array_equal(found[f"all-{i:06d}"], expected)


@pytest.mark.parametrize(
    "masks", [np.zeros((4, 5, 5), np.uint8), np.zeros((4, 5, 6)), np.zeros((3, 5, 6), np.uint8)]
)
def test_masks_of_an_npz_that_do_not_fit(tmp_path, masks):
    with pytest.raises(UserError, match=r"a\.npz: masks are .*; give one number of type uint8"):
        _open(_npz(tmp_path / "a.npz", masks), tmp_path, 6)


def test_masks_of_the_phantom(tmp_path):
    import tensorflow_datasets as tfds

    from data.builders.phantom import builder

    config = builder.PhantomConfig(name="16", shape=(16, 16), patients=12, visits=1)
    made = builder.VrnPhantom(data_dir=tmp_path, file_format="array_record", config=config)
    rows = tfds.builder_from_directory(builder.offline.prepare(made)).as_data_source("train")
    _, found = _open("tfds:vrn_phantom/16", tmp_path, 16)
    assert len(found) == 12
    assert any(mask.any() for mask in found.values())
    for row in rows:
        np.testing.assert_array_equal(found[row["id"].decode()], row["mask"][..., 0])


@pytest.fixture
def glioma(volumes, tmp_path):
    """A real volume and its mask; returns the source's path and its table's."""
    root = tmp_path / "set"
    root.mkdir()
    for what in ("flair", "mask"):
        shutil.copy(volumes / "lgg_nifti" / f"TCGA_CS_4941_{what}.nii.gz", root / f"{what}.nii.gz")
    (tmp_path / "t.csv").write_text("file,label,mask\nflair.nii.gz,a,mask.nii.gz\n")
    return root, tmp_path / "t.csv"


@pytest.mark.parametrize("axis", ["axial", "sagittal", "volume"])
def test_masks_of_a_real_volume(glioma, tmp_path, axis):
    """Beside nibabel, in the directions that `docs/data.md` gives; turned files come out alike."""
    root, table = glioma
    stored = nib.Nifti1Image.from_bytes(gzip.decompress((root / "mask.nii.gz").read_bytes()))
    known = np.asarray(nib.as_closest_canonical(stored).dataobj)  # to the right, anterior, superior
    if axis == "sagittal":  # another orientation than that of the image
        nib.save(stored.as_reoriented([[1, -1], [2, 1], [0, -1]]), root / "mask.nii.gz")
    options = {"labels": str(table), "axis": axis}
    if axis == "volume":
        _, found = _open(f"nifti:{root}", tmp_path, 256, depth=known.shape[2], **options)
        expected = {"flair.nii.gz": known.transpose(2, 1, 0)[:, ::-1, ::-1]}
    elif axis == "axial":
        _, found = _open(f"nifti:{root}", tmp_path, 256, **options)
        expected = {f"flair.nii.gz#{k}": known[::-1, ::-1, k].T for k in range(known.shape[2])}
    else:
        _, found = _open(f"nifti:{root}", tmp_path, 256, preprocess=("resize(pad)",), **options)
        above, rest = divmod(256 - known.shape[2], 2)
        sides = ((above + rest, above), (0, 0))
        planes = {name: known[int(name.partition("#")[2]), ::-1, ::-1].T for name in found}
        expected = {name: np.pad(plane, sides) for name, plane in planes.items()}
    assert sum(mask.any() for mask in found.values()) > (0 if axis == "volume" else 5)
    for name, mask in found.items():
        np.testing.assert_array_equal(mask, expected[name])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda x, affine: (x, affine + 9 * np.eye(4, k=3)), "lies elsewhere"),
        (lambda x, affine: (x[1:], affine), "another size, or that lies elsewhere"),
        (lambda x, affine: (x * 300.0, affine), "other values than 0 to 255"),
        (lambda x, affine: (x[0], affine), r"can't be read \(mask.nii.gz: has 2 dimensions"),
    ],
)
def test_a_volume_that_is_no_mask_of_it_is_named(glioma, tmp_path, change, why):
    root, table = glioma
    stored = nib.load(root / "mask.nii.gz")
    pixels, affine = change(np.asarray(stored.dataobj), stored.affine)
    nib.save(nib.Nifti1Image(pixels, affine), root / "mask.nii.gz")
    with pytest.raises(UserError, match=rf"flair\.nii\.gz has a mask .*{why}"):
        _open(f"nifti:{root}", tmp_path, 32, labels=str(table))


def test_masks_of_real_slices(tmp_path):
    """Tumours of 64 pixels, of which some slices have none."""
    path = pathlib.Path(os.environ.get("VRN_TEST_DATA", "")) / "brain_lgg" / "brain_lgg_64.npz"
    if not path.is_file():
        pytest.skip("needs brain slices: set VRN_TEST_DATA to a folder with brain_lgg/")
    with np.load(path) as file:
        small = {key: file[key][:60] for key in ("test_images", "test_labels", "test_masks")}
    np.savez(tmp_path / "a.npz", **small)
    source, found = _open(f"npz:{tmp_path / 'a.npz'}", tmp_path, 64)
    np.testing.assert_array_equal(np.stack(list(found.values())), small["test_masks"])
    has_tumour = np.array([mask.any() for mask in found.values()])
    np.testing.assert_array_equal(has_tumour, source.splits["test"].labels == 1)
