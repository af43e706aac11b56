"""Decodes compressed DICOM files and videos in a process of its own.

The decoders are C and C++ libraries: a damaged file can end their process, keep it busy for ever or
make it ask for all memory. That process is this file, run as a program; it serves one file after
another and is started again when it is gone.

It reads one request per line and answers with any number of images, each a line of JSON, {"number",
"shape", "dtype"}, and the pixels; with {"number"} for each image it passes over, which shows that
it is alive; and at last with {"end"} or {"error"}. It imports nothing of the project, so that it
starts quickly.
"""

import atexit
import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

_SECONDS = 60  # that a file may take
_MEMORY = 8 << 30  # bytes of address space of the process, libraries included


class DecoderError(Exception):
    """A file that can't be decoded; the message goes on after its name."""


def decode(path: str, tags: tuple[str, ...]) -> np.ndarray:
    """Pixels of a DICOM file as `pydicom.pixels.pixel_array` gives them, YBR as RGB.

    Args:
        path: of the file.
        tags: keywords of the elements that are read.

    Raises:
        DecoderError: the decoder refuses the file, crashes, or takes too long.
    """
    ((_, pixels),) = _images({"kind": "dicom", "path": path, "tags": tags})
    return pixels


def frames(path: str, stride: int, largest: int) -> Iterator[tuple[int, np.ndarray]]:
    """Frames 0, stride, 2 stride, … of a video with their numbers, as they are shown.

    Grey ones are [H, W, 1] uint8, or uint16 of more than 8 bits; others [H, W, 3] uint8.

    Args:
        path: of the file.
        stride: from 1.
        largest: bytes that a frame may need.

    Raises:
        DecoderError: as `decode`, after the frames before the damage.
    """
    return _images({"kind": "video", "path": path, "stride": stride, "largest": largest})


def _images(request: dict[str, Any]) -> Iterator[tuple[int, np.ndarray]]:
    try:
        child = _idle.get_nowait()
    except queue.Empty:
        child = _Child()
    answered = False
    try:
        yield from child.images(request)
        answered = True
    except DecoderError:
        answered = True
        raise
    finally:
        if not answered:  # it may be in the middle of an answer that nobody reads
            child.close()
        if child.alive():
            _idle.put(child)


class _Child:
    """The process, seen from outside."""

    def __init__(self) -> None:
        # -P: modules beside this file must not stand in for those of the libraries.
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()
        self._process.wait()

    def images(self, request: dict[str, Any]) -> Iterator[tuple[int, np.ndarray]]:
        """What the process answers; it is gone after it crashed or was too slow."""
        text = (json.dumps(request) + "\n").encode()
        while True:
            timer = threading.Timer(_SECONDS, self._process.kill)
            timer.start()
            try:
                if text:
                    self._process.stdin.write(text)
                    self._process.stdin.flush()
                    text = b""
                answer = json.loads(self._process.stdout.readline())
                pixels = self._pixels(answer) if "shape" in answer else None
            except (OSError, ValueError, EOFError):  # a pipe that ended, or half a line
                slow = not timer.is_alive()
                self.close()
                if slow:
                    raise DecoderError(f"keeps its decoder busy for over {_SECONDS} s") from None
                raise DecoderError("makes its decoder crash") from None
            finally:
                timer.cancel()
            if "error" in answer:
                raise DecoderError(answer["error"])
            if "end" in answer:
                return
            if pixels is not None:
                yield answer["number"], pixels

    def _pixels(self, answer: dict[str, Any]) -> np.ndarray:
        pixels = np.empty(answer["shape"], answer["dtype"])
        view = memoryview(pixels).cast("B")
        while len(view):
            got = self._process.stdout.readinto(view)
            if not got:
                raise EOFError
            view = view[got:]
        return pixels


_idle: "queue.LifoQueue[_Child]" = queue.LifoQueue()


@atexit.register
def _close() -> None:
    while True:
        try:
            _idle.get_nowait().close()
        except queue.Empty:
            return


# --- inside the process --------------------------------------------------------------------------


class _RefusedError(Exception):
    """What the file is; the message goes on after its name."""


def _dicom(request: dict[str, Any]) -> Iterator[tuple[int, np.ndarray]]:
    from pydicom import dcmread
    from pydicom.pixels import pixel_array

    dataset = dcmread(request["path"], specific_tags=request["tags"])
    yield 0, np.ascontiguousarray(pixel_array(dataset, raw=False))


# Containers that hold what they show: playlists name files, or addresses, that they then open.
_CONTAINERS = "mov,mp4,matroska,webm,avi,asf,mpeg,ogg,flv"


def _video(request: dict[str, Any]) -> Iterator[tuple[int, np.ndarray | None]]:
    import av

    options = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}
    with av.open(request["path"], options=options) as container:
        if not container.streams.video:
            raise _RefusedError("holds no video")
        stream = container.streams.video[0]
        context = stream.codec_context
        # What a decoder notices is an error; it would conceal it and go on otherwise.
        context.options = {"err_detect": "crccheck+bitstream+buffer+explode"}
        context.thread_count = 1
        number, packets, end = 0, 0, 0.0
        for packet in container.demux(stream):
            packets += packet.size > 0
            if packet.pts is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            needed = 3 * context.width * context.height
            if needed > request["largest"]:
                raise _RefusedError(
                    f"has frames of {context.width} x {context.height}, too many pixels for its "
                    "size"
                )
            for frame in packet.decode():
                if frame.is_corrupt:
                    raise ValueError("the frame is marked as corrupt")
                yield number, None if number % request["stride"] else _shown(frame)
                number += 1
            if packet.is_corrupt:
                raise ValueError("the file ends within a frame")
        _check_length(container, stream, number, packets, end)


def _check_length(container: Any, stream: Any, number: int, packets: int, end: float) -> None:
    """Refuse a file that ends before it says it does; many containers are just read to the end."""
    if number == 0:
        raise _RefusedError("holds no frames")
    if packets < stream.frames:
        raise _RefusedError(f"ends after frame {number - 1}, of {stream.frames}")
    promised = None
    if "DURATION" in stream.metadata:  # of this stream, in Matroska
        hours, minutes, seconds = stream.metadata["DURATION"].split(":")
        promised = 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    elif len(container.streams) == 1 and container.duration:
        promised = container.duration / 1e6
    # Half a second is less than a cut leaves out, and more than containers are wrong by.
    if promised is not None and end < promised - max(0.5, 0.01 * promised):
        raise _RefusedError(f"ends after {end:.1f} s, of {promised:.1f} s")


def _shown(frame: Any) -> np.ndarray:
    """Pixels [H, W, 1 or 3] of a frame, turned as it says it is shown."""
    name, bits = frame.format.name, max(part.bits for part in frame.format.components)
    if name.startswith(("gray", "ya", "mono")):
        if bits > 16:
            raise _RefusedError(f"has values of {bits} bits, not 8 to 16")
        pixels = frame.to_ndarray(format="gray" if bits <= 8 else "gray16le")[..., None]
    elif bits > 8:
        raise _RefusedError(f"has colours of {bits} bits, not 8")
    else:
        pixels = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))


_KINDS = {"dicom": _dicom, "video": _video}


def _serve() -> None:
    import logging
    import warnings

    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        try:
            request = json.loads(line)
            for number, pixels in _KINDS[request["kind"]](request):
                if pixels is None:
                    _write({"number": number})
                    continue
                _write({"number": number, "shape": pixels.shape, "dtype": pixels.dtype.str})
                sys.stdout.buffer.write(pixels.data)
            _write({"end": True})
        except _RefusedError as error:
            _write({"error": str(error)})
        except Exception as error:  # decoders fail in many ways
            text = " ".join(str(error).replace(request["path"], "it").split())
            text = text or type(error).__name__
            _write({"error": f"can't be decoded ({text[:300].rstrip('.')})"})


def _write(answer: dict[str, Any]) -> None:
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    _serve()
