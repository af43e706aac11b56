import numpy as np
import pytest
from PIL import Image

from data.errors import RefusedError
from data.images import read_image
from data.sources import Options, UnreadableError, limits, tiff
from data.sources.raw import Damaged, Entry
from data.sources.walk import Unreadable, walk
from tests.tiff_files import tiff as tiff_bytes

from .conftest import read_source


def _decode(path):
    return tiff.decode(Entry(str(path), path.name, 0, "all"))


def _open(root, **options):
    return read_source(
        f"folder:{root}", data_dir="", size=40, channels=1, options=Options(**options)
    )


@pytest.fixture
def stack(rng):
    return rng.integers(0, 65536, (3, 40, 36), dtype=np.uint16)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("tile", "deflate"), [(0, False), (0, True), (16, False), (16, True)])
def test_every_page_is_an_image(tmp_path, stack, dtype, order, tile, deflate):
    stack = stack.astype(dtype)
    path = tmp_path / "a.tif"
    path.write_bytes(tiff_bytes(stack, order=order, tile=tile, deflate=deflate))
    found = list(_decode(path).pictures)
    assert [picture.frame for picture in found] == [0, 1, 2]
    for picture, page in zip(found, stack, strict=True):
        assert picture.pixels.dtype == dtype
        np.testing.assert_array_equal(picture.pixels[..., 0], page)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "zstd", "lzma"])
def test_compressions_of_16_bits(tmp_path, stack, compression):
    first, *others = map(Image.fromarray, stack)
    path = tmp_path / "a.tiff"
    first.save(path, save_all=True, append_images=others, compression=compression)
    for picture, page in zip(_decode(path).pictures, stack, strict=True):
        np.testing.assert_array_equal(picture.pixels[..., 0], page)


def test_a_file_of_one_page_keeps_its_id_and_pages_stay_together(tmp_path, stack):
    for label in "ab":
        (tmp_path / label).mkdir()
        (tmp_path / label / "one.tif").write_bytes(tiff_bytes(stack[:1]))
        (tmp_path / label / "many.TIF").write_bytes(tiff_bytes(stack))
    records = _open(tmp_path).splits["all"]
    many = [f"a/many.TIF#{page}" for page in range(3)]
    assert records.ids.tolist()[:4] == [*many, "a/one.tif"]
    groups = records.groups.tolist()
    assert groups[0] == groups[1] == groups[2] != ""
    assert groups[3] == ""
    assert groups[4] != groups[0]


def test_smaller_copies_and_masks_are_no_images(tmp_path, stack):
    path = tmp_path / "a.tif"
    pages = [stack[0], stack[1][::2, ::2], stack[2]]
    path.write_bytes(tiff_bytes(pages, tags=[{254: 0}, {254: 1}, {254: 4}]))
    (found,) = _decode(path).pictures
    assert found.frame is None
    np.testing.assert_array_equal(found.pixels[..., 0], stack[0])
    path.write_bytes(tiff_bytes(pages, tags=[{254: 1}] * 3))
    with pytest.raises(RefusedError, match="only smaller copies"):
        _decode(path)


def test_the_orientation_of_each_page_is_applied(tmp_path, stack):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff_bytes(stack, tags=[{}, {274: 3}, {274: 6}]))
    found = [picture.pixels[..., 0] for picture in _decode(path).pictures]
    np.testing.assert_array_equal(found[0], stack[0])
    np.testing.assert_array_equal(found[1], stack[1][::-1, ::-1])
    np.testing.assert_array_equal(found[2], np.rot90(stack[2], -1))
    path.write_bytes(tiff_bytes(stack[:1], tags=[{274: 6}]))
    np.testing.assert_array_equal(read_image(path)[..., 0], np.rot90(stack[0], -1))


def _damaged(stack) -> bytes:
    """The compressed pixels of the second page are not."""
    content = bytearray(tiff_bytes(stack, deflate=True))
    second = tiff_bytes(stack[:1], deflate=True)
    content[len(second) + 8 : len(second) + 40] = b"\xff" * 32
    return bytes(content)


def test_one_damaged_page_is_named_and_the_rest_goes_on(tmp_path, stack):
    for label in "ab":
        (tmp_path / label).mkdir()
        (tmp_path / label / "s.tif").write_bytes(tiff_bytes(stack))
    (tmp_path / "b" / "s.tif").write_bytes(_damaged(stack))
    source = _open(tmp_path, max_unreadable=0.25)
    records = source.splits["all"]
    assert records.ids.tolist()[3:] == ["b/s.tif#0", "b/s.tif#2"]
    assert list(source.report.unreadable) == ["b/s.tif#1"]
    assert "no readable image" in source.report.unreadable["b/s.tif#1"]
    assert source.report.files == 4  # a/s.tif, and three pages
    with pytest.raises(UnreadableError, match=r"1 of 4 files .* the first: b/s\.tif#1"):
        _open(tmp_path, max_unreadable=0.2)
    items = list(walk(f"folder:{tmp_path}", np.shape, data_dir="", options=Options()).items)
    assert [item.name for item in items if isinstance(item, Unreadable)] == ["b/s.tif#1"]
    assert len(items) == 6


def test_what_comes_after_a_damaged_directory_is_named(tmp_path, stack):
    content = tiff_bytes(stack)
    path = tmp_path / "a.tif"
    path.write_bytes(content[: len(content) - 100])  # the last directory is cut off
    *pages, last = _decode(path).pictures
    assert [page.frame for page in pages] == [0, 1]
    assert isinstance(last, Damaged)
    assert last.frame == 2


def test_a_directory_that_leads_back_ends_the_file(tmp_path, stack):
    content = bytearray(tiff_bytes(stack))
    content[-4:] = content[4:8]
    (tmp_path / "a.tif").write_bytes(bytes(content))
    assert len(list(_decode(tmp_path / "a.tif").pictures)) == 3


def test_pages_that_ask_for_too_much_together(tmp_path, stack, monkeypatch):
    monkeypatch.setattr(limits, "_SMALL", 1 << 16)
    pages = [np.zeros((256, 256), np.uint8)] * 3
    path = tmp_path / "a.tif"
    path.write_bytes(tiff_bytes(pages[:1], deflate=True))
    assert len(list(_decode(path).pictures)) == 1
    path.write_bytes(tiff_bytes(pages, deflate=True))
    with pytest.raises(RefusedError, match="would need"):
        _decode(path)


def test_pages_that_imagej_does_not_list(tmp_path, stack):
    path = tmp_path / "a.tif"
    text = "ImageJ=1.54f\nimages=3\nslices=3\n"
    Image.fromarray(stack[0]).save(path, description=text)
    with pytest.raises(RefusedError, match="holds 3 pages"):
        _decode(path)
