"""Decodes compressed DICOM files in a process of its own.

The decoders are C and C++ libraries: a damaged file can end their process, keep it busy for ever or
make it ask for all memory. That process is this file, run as a program; it serves one file after
another and is started again when it is gone.

It reads one path per line and answers with a line of JSON, {"shape", "dtype"} before the pixels or
{"error"}. It imports nothing of the project, so that it starts quickly.
"""

import atexit
import contextlib
import json
import queue
import subprocess
import sys
import threading
from typing import Any

import numpy as np

_SECONDS = 60  # that a file may take
_MEMORY = 8 << 30  # bytes of address space of the process, libraries included


class DecoderError(Exception):
    """A file that can't be decoded; the message goes on after its name."""


def decode(path: str, tags: tuple[str, ...]) -> np.ndarray:
    """Pixels of a file as `pydicom.pixels.pixel_array` gives them, YBR as RGB.

    Args:
        path: of the file.
        tags: keywords of the elements that are read.

    Raises:
        DecoderError: the decoder refuses the file, crashes, or takes too long.
    """
    try:
        child = _idle.get_nowait()
    except queue.Empty:
        child = _Child()
    try:
        return child.decode(path, tags)
    finally:
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

    def decode(self, path: str, tags: tuple[str, ...]) -> np.ndarray:
        """See the function; the process is gone after it crashed or was too slow."""
        timer = threading.Timer(_SECONDS, self._process.kill)
        timer.start()
        try:
            request = json.dumps({"path": path, "tags": tags}) + "\n"
            self._process.stdin.write(request.encode())
            self._process.stdin.flush()
            answer = json.loads(self._process.stdout.readline())
            if "error" in answer:
                raise DecoderError(answer["error"])
            pixels = np.empty(answer["shape"], answer["dtype"])
            view = memoryview(pixels).cast("B")
            while len(view):
                got = self._process.stdout.readinto(view)
                if not got:
                    raise EOFError
                view = view[got:]
            return pixels
        except (OSError, ValueError, EOFError):  # a pipe that ended, or half a line
            slow = not timer.is_alive()
            self.close()
            if slow:
                raise DecoderError(f"keeps its decoder busy for over {_SECONDS} s") from None
            raise DecoderError("makes its decoder crash") from None
        finally:
            timer.cancel()


_idle: "queue.LifoQueue[_Child]" = queue.LifoQueue()


@atexit.register
def _close() -> None:
    while True:
        try:
            _idle.get_nowait().close()
        except queue.Empty:
            return


# --- inside the process --------------------------------------------------------------------------


def _answer(request: dict[str, Any]) -> np.ndarray:
    from pydicom import dcmread
    from pydicom.pixels import pixel_array

    dataset = dcmread(request["path"], specific_tags=request["tags"])
    return np.ascontiguousarray(pixel_array(dataset, raw=False))


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
            pixels = _answer(json.loads(line))
        except Exception as error:  # decoders fail in many ways
            text = " ".join(str(error).split()) or type(error).__name__
            _write(json.dumps({"error": f"can't be decoded ({text[:300].rstrip('.')})"}))
            continue
        _write(json.dumps({"shape": pixels.shape, "dtype": pixels.dtype.str}))
        sys.stdout.buffer.write(pixels.data)
        sys.stdout.buffer.flush()


def _write(text: str) -> None:
    sys.stdout.buffer.write(text.encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    _serve()
