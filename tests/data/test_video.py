import importlib.util
import pathlib

import numpy as np
import pytest

from data.errors import RefusedError, UserError
from data.fingerprint import fingerprint
from data.sources import Options, limits, native, video
from data.sources.raw import Damaged, Entry
from data.sources.walk import Unreadable, walk
from tests.video_files import save_video

from .conftest import read_source

needs_av = pytest.mark.skipif(
    importlib.util.find_spec("av") is None, reason="needs the extra 'video'"
)


def _decode(path: pathlib.Path, stride: int = 1) -> list:
    return list(video.decode(Entry(str(path), path.name, 0, "all"), stride).pictures)


@pytest.fixture
def grey(rng) -> np.ndarray:
    return rng.integers(0, 256, (12, 32, 40), dtype=np.uint8)


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs PyAV.*pip install -e '\.\[video\]'"):
        video.list_video(tmp_path, tmp_path, Options())


@needs_av
@pytest.mark.parametrize("suffix", [".mkv", ".avi", ".mp4"])
@pytest.mark.parametrize("kind", ["grey", "grey16", "colour"])
def test_every_frame_is_an_image(tmp_path, rng, suffix, kind):
    shape = (5, 32, 40, 3) if kind == "colour" else (5, 32, 40)
    frames = rng.integers(0, 65536, shape, dtype=np.uint16)
    frames = frames if kind == "grey16" else frames.astype(np.uint8)
    found = _decode(save_video(tmp_path / f"a{suffix}", frames))
    assert [picture.frame for picture in found] == [0, 1, 2, 3, 4]
    for picture, frame in zip(found, frames, strict=True):
        assert picture.pixels.dtype == frames.dtype
        np.testing.assert_array_equal(picture.pixels, frame.reshape(32, 40, -1))


@needs_av
def test_lossy_frames_come_in_the_order_in_which_they_are_shown(tmp_path):
    """H.264 stores frames out of order; each is of one grey here, so order shows."""
    levels = np.linspace(30, 220, 16).astype(np.uint8)
    frames = np.broadcast_to(levels[:, None, None, None], (16, 32, 32, 3)).copy()
    path = save_video(tmp_path / "a.mp4", frames, codec="libx264", kind="yuv420p", bf=3)
    found = np.array([picture.pixels.mean() for picture in _decode(path)])
    np.testing.assert_allclose(found, levels, atol=4)


@needs_av
def test_stride_ids_groups_and_patients(tmp_path, grey):
    for name in ("a/x.mkv", "a/y.avi", "b/x.mkv"):
        save_video(tmp_path / "set" / name, grey)
    spec = f"video:{tmp_path / 'set'}"
    options = {"data_dir": "", "size": 32, "channels": 1}
    records = read_source(spec, options=Options(stride=5), **options).splits["all"]
    assert records.ids.tolist() == [f"{x}#{n}" for x in ("a/x.mkv", "a/y.avi", "b/x.mkv")
                                    for n in (0, 5, 10)]  # fmt: skip
    assert len(set(records.groups)) == 3
    assert (records.groups[:3] == records.groups[0]).all()
    table = tmp_path / "t.csv"
    table.write_text("file,label,patient\na/x.mkv,p,1\na/y.avi,q,1\nb/x.mkv,q,2\n")
    given = Options(stride=5, labels=str(table))
    records = read_source(spec, options=given, **options).splits["all"]
    assert len(set(records.groups)) == 2
    assert (records.groups[:6] == records.groups[0]).all()
    before = fingerprint(spec)
    save_video(tmp_path / "set" / "b" / "z.mkv", grey)
    assert fingerprint(spec) != before


@needs_av
@pytest.mark.parametrize("stride", [1, 4])
@pytest.mark.parametrize("suffix", [".mkv", ".avi"])
def test_a_file_cut_short_gives_the_frames_before(tmp_path, grey, truncate, suffix, stride):
    path = save_video(tmp_path / f"a{suffix}", grey)
    truncate(path)
    *frames, last = _decode(path, stride)
    assert [frame.frame for frame in frames] == list(range(0, 12, stride))[: len(frames)]
    assert 0 < len(frames) < 12 / stride
    for picture in frames:
        np.testing.assert_array_equal(picture.pixels[..., 0], grey[picture.frame])
    assert isinstance(last, Damaged)
    assert last.frame == frames[-1].frame + stride


@needs_av
def test_damage_that_the_decoder_notices_is_named(tmp_path):
    """Without an option, the decoder would paint over it and give the frame out."""
    ramp = np.add.outer(2 * np.arange(96), np.arange(128)).astype(np.uint8)
    frames = np.stack([np.roll(ramp, k, axis=1) for k in range(40)])[..., None].repeat(3, axis=-1)
    path = save_video(tmp_path / "a.mkv", frames, codec="mjpeg", kind="yuvj420p")
    whole = _decode(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 6] = b"\xff" * 6
    path.write_bytes(bytes(content))
    *found, last = _decode(path)
    assert 0 < len(found) < 40
    for picture, same in zip(found, whole, strict=False):
        np.testing.assert_array_equal(picture.pixels, same.pixels)
    assert "can't be decoded" in last.why


@needs_av
def test_what_is_no_video_is_named_and_the_rest_goes_on(tmp_path, grey, truncate, rng):
    save_video(tmp_path / "a" / "good.mkv", grey[:3])
    truncate(save_video(tmp_path / "a" / "cut.mp4", grey))  # its table of contents is at the end
    (tmp_path / "a" / "noise.mp4").write_bytes(rng.bytes(5000))
    (tmp_path / "a" / "empty.avi").write_bytes(b"")
    save_video(tmp_path / "other.mkv", grey).rename(tmp_path / "a" / "other")
    (tmp_path / "a" / "list.mkv").write_text("ffconcat version 1.0\nfile other\n")
    found = list(walk(f"video:{tmp_path}", np.shape, data_dir="", options=Options()).items)
    refused = {item.name: item.why for item in found if isinstance(item, Unreadable)}
    assert sorted(refused) == [
        "a/cut.mp4", "a/empty.avi", "a/list.mkv", "a/noise.mp4",
    ]  # fmt: skip
    assert all(why.startswith("can't be decoded") for why in refused.values())
    assert [item.id for item in found if not isinstance(item, Unreadable)] == [
        f"a/good.mkv#{n}" for n in range(3)
    ]


@needs_av
def test_a_quarter_turn_is_applied(tmp_path, rng):
    """The matrix of ISO 14496-12, 8.3.2, for a phone that was held upright."""
    frames = rng.integers(0, 256, (2, 32, 40, 3), dtype=np.uint8)
    path = save_video(tmp_path / "a.mp4", frames)
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 40
    one = 1 << 16
    matrix = (0, one, 0, -one, 0, 0, 32 * one, 0, 1 << 30)  # x' = height - y, y' = x: clockwise
    content[at : at + 36] = np.array(matrix, ">i4").tobytes()
    path.write_bytes(bytes(content))
    for picture, frame in zip(_decode(path), frames, strict=True):
        np.testing.assert_array_equal(picture.pixels, np.rot90(frame, -1))


@needs_av
def test_colours_of_ten_bits_are_refused(tmp_path, rng):
    frames = rng.integers(0, 256, (2, 32, 40, 3), dtype=np.uint8)
    path = save_video(tmp_path / "a.mkv", frames, kind="yuv420p10le")
    with pytest.raises(RefusedError, match="has colours of 10 bits"):
        _decode(path)


@needs_av
def test_frames_that_need_too_much(tmp_path, monkeypatch):
    path = save_video(tmp_path / "a.mkv", np.zeros((2, 512, 512), np.uint8))
    assert len(_decode(path)) == 2
    monkeypatch.setattr(limits, "_SMALL", 1 << 16)
    with pytest.raises(RefusedError, match="has frames of 512 x 512"):
        _decode(path)


@needs_av
def test_a_reader_that_stops_leaves_a_decoder_that_works(tmp_path, grey):
    path = save_video(tmp_path / "a.mkv", grey)
    frames = native.frames(str(path), 1, 1 << 20)
    next(frames)
    frames.close()
    assert len(_decode(path)) == 12


@needs_av
def test_a_decoder_that_is_killed_costs_the_frames_that_follow(tmp_path, rng, monkeypatch):
    frames = rng.integers(0, 256, (12, 256, 320), dtype=np.uint8)  # more than a pipe holds
    path = save_video(tmp_path / "a.mkv", frames)
    started = []
    make = native._Child
    monkeypatch.setattr(native, "_idle", native.queue.LifoQueue())
    monkeypatch.setattr(native, "_Child", lambda: started.append(make()) or started[-1])
    found = []
    for picture in video.decode(Entry(str(path), "a.mkv", 0, "all"), 1).pictures:
        found.append(picture)
        if len(found) == 2:
            started[0]._process.kill()
    assert isinstance(found[-1], Damaged)
    assert found[-1].why == "makes its decoder crash"
    assert len(_decode(path)) == 12
    assert len(started) == 2
    started[1].close()
