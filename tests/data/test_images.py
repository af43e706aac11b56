import numpy as np
import pytest
from PIL import Image

from data.errors import UserError
from data.images import read_array, read_image, resize, set_channels
from data.sources import folder
from data.sources.raw import Entry


@pytest.fixture
def grey16(rng):
    return rng.integers(0, 65536, (6, 5), dtype=np.uint16)


@pytest.fixture
def grey8(rng):
    return rng.integers(0, 256, (6, 5), dtype=np.uint8)


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_sixteen_bits_stay_sixteen_bits(tmp_path, grey16, extension):
    Image.fromarray(grey16).save(tmp_path / f"x.{extension}")
    image = read_image(tmp_path / f"x.{extension}")
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image[..., 0], grey16)


@pytest.mark.parametrize("mode", ["L", "LA", "1", "I", "RGB", "RGBA", "P"])
def test_every_mode_becomes_grey_or_rgb(tmp_path, grey8, mode):
    grey = np.where(grey8 > 127, np.uint8(255), np.uint8(0)) if mode == "1" else grey8
    image = Image.fromarray(grey)
    image = Image.fromarray(grey.astype(np.int32)) if mode == "I" else image.convert(mode)
    path = tmp_path / ("x.tif" if mode == "I" else "x.png")
    image.save(path)
    read = read_image(path)
    colour = mode in ("RGB", "RGBA", "P")
    assert read.shape == (6, 5, 3 if colour else 1)
    assert read.dtype == (np.uint16 if mode == "I" else np.uint8)
    np.testing.assert_array_equal(read, np.repeat(grey[..., None], read.shape[-1], -1))


def test_float_tiff(tmp_path):
    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    Image.fromarray(x).save(tmp_path / "x.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif")[..., 0], x)


def test_camera_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    Image.fromarray(np.zeros((8, 16), np.uint8)).save(tmp_path / "x.jpg", exif=exif)
    assert read_image(tmp_path / "x.jpg").shape == (16, 8, 1)


def _png(path, colour_type: int, pixels: bytes) -> None:
    """A 1x1 16-bit PNG of a colour type Pillow can't write."""
    import struct
    import zlib

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 1, 1, 16, colour_type, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" + pixels)), (b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in chunks))


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (6, 4), (4, 2)])
def test_sixteen_bit_colour_is_refused_rather_than_cut(tmp_path, colour_type, channels):
    _png(tmp_path / "x.png", colour_type, b"\x12\x34" * channels)
    with pytest.raises(UserError, match=r"x\.png is a 16-bit .* save it as 16-bit grey"):
        read_image(tmp_path / "x.png")


def test_unreadable_files_are_named(tmp_path, grey8, truncate):
    path = tmp_path / "x.png"
    with pytest.raises(UserError, match=r"x\.png is missing"):
        read_image(path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(path)
    truncate(path)
    with pytest.raises(UserError, match=r"x\.png is no readable image"):
        read_image(path)
    path.write_text("not an image")
    with pytest.raises(UserError, match=r"x\.png is no readable image"):
        read_image(path)
    frames = [Image.fromarray(grey8), Image.fromarray(255 - grey8)]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(UserError, match=r"x\.gif holds 2 frames"):
        read_image(tmp_path / "x.gif")
    Image.fromarray(np.full((2, 2), 70000, np.int32)).save(tmp_path / "x.tif")
    with pytest.raises(UserError, match="32-bit values"):
        read_image(tmp_path / "x.tif")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_shrinking_averages(dtype, rng):
    """Halving with a triangle filter of width 2: weights 1/8, 3/8, 3/8, 1/8 inside."""
    x = rng.integers(0, 256, (8, 8, 2)).astype(dtype)
    if dtype == np.float32:
        x = x / np.float32(255)
    small = resize(x, 4)
    assert small.dtype == dtype
    weights = np.array([1, 3, 3, 1]) / 8
    inside = np.einsum("i,j,ijc->c", weights, weights, x[1:5, 3:7].astype(float))
    np.testing.assert_allclose(small[1, 2], inside, atol=1e-6 if dtype == np.float32 else 0.51)


def test_resizing_keeps_the_range_and_leaves_the_right_size_alone(rng):
    x = np.where(rng.random((9, 7, 1)) < 0.5, np.uint16(65535), np.uint16(0))
    for size in (3, 20):
        y = resize(x, size)
        assert y.shape == (size, size, 1)
        assert y.dtype == np.uint16
    flat = np.full((9, 7, 3), 65535, np.uint16)
    np.testing.assert_array_equal(resize(flat, 16), 65535)
    square = x[:7]
    assert resize(square, 7) is square


def test_channels():
    grey = np.array([[[7], [255]]], np.uint8)
    rgb = set_channels(grey, 3)
    np.testing.assert_array_equal(rgb, [[[7] * 3, [255] * 3]])
    np.testing.assert_array_equal(set_channels(rgb, 1), grey)
    red = np.array([[[200, 0, 0]]], np.uint8)
    assert set_channels(red, 1).item() == 60  # 0.299 * 200 = 59.8
    assert set_channels(grey, 1) is grey


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.full((4, 4), 1.5, np.float32), r"not in \[-1, 1\]"),
        (np.full((4, 4), np.nan, np.float32), r"not in \[-1, 1\]"),
        (np.zeros((4, 4), np.int64), "save .* as uint8"),
        (np.zeros(4, np.uint8), "save .H, W."),
    ],
)
def test_arrays_that_are_no_images(tmp_path, array, words):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(UserError, match=words):
        read_array(tmp_path / "a.npy")


def test_the_case_of_a_suffix_does_not_matter(tmp_path, rng):
    array = rng.integers(0, 256, (4, 5, 2), dtype=np.uint8)
    with (tmp_path / "a.NPY").open("wb") as file:
        np.save(file, array)
    (picture,) = folder.decode(Entry(str(tmp_path / "a.NPY"), "a.NPY", 0, "all")).pictures
    np.testing.assert_array_equal(picture.pixels, array)
