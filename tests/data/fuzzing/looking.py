"""Goes through files as `launch.check_data` does, here or in a process with limits."""

import json
import os
import pathlib
import resource
import subprocess
import sys
import time
import zlib
from typing import Any

import numpy as np

from data.errors import UserError
from data.sources.raw import Options
from data.sources.walk import Unreadable, walk

MEMORY = 4 << 30  # bytes of address space a process may take
SECONDS = 10  # per file, and as many for the start


def look(root: pathlib.Path, kind: str) -> dict[str, Any]:
    """Goes through a folder in this process; what became of every file, and what that took."""
    started, images, refused, before = time.monotonic(), {}, {}, [time.monotonic()]
    slowest = [0.0, ""]

    def facts(pixels: np.ndarray) -> str | list[Any]:
        if pixels.dtype.name not in ("uint8", "uint16", "float32"):
            return f"type {pixels.dtype}"
        if pixels.ndim != 3 or 0 in pixels.shape or not np.isfinite(pixels).all():
            return f"shape {pixels.shape}, or values that are not finite"
        return [*pixels.shape, zlib.crc32(np.ascontiguousarray(pixels))]

    spec = f"{'folder' if kind in ('npy', 'tiff') else kind}:{root}"
    options = Options(max_unreadable=0.999, axis="axial")
    for item in walk(spec, facts, data_dir="", options=options).items:
        now = time.monotonic()
        name = item.name if isinstance(item, Unreadable) else item.id
        slowest = max(slowest, [now - before[0], name])
        before[0] = now
        if isinstance(item, Unreadable):
            refused[item.name.partition("#")[0]] = item.why
        else:
            images.setdefault(item.id.partition("#")[0], []).append(item.seen)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"images": images, "refused": refused, "peak": peak, "slowest": slowest,
            "seconds": time.monotonic() - started}  # fmt: skip


def look_at_each(folder: pathlib.Path) -> dict[str, Any]:
    """All .npz and .csv files of a folder, each as a source; why it was refused, or ''."""
    result: dict[str, Any] = {"reasons": {}, "slowest": [0.0, ""]}
    for path in sorted(folder.iterdir()):
        if path.suffix not in (".npz", ".csv"):
            continue
        began = time.monotonic()
        table = str(path) if path.suffix == ".csv" else ""
        spec = f"folder:{folder / 'set'}" if table else f"npz:{path}"
        try:
            options = Options(labels=table, max_unreadable=0.999)
            for _ in walk(spec, lambda pixels: pixels.shape, data_dir="", options=options).items:
                pass
            result["reasons"][path.name] = ""
        except UserError as error:
            result["reasons"][path.name] = str(error)
        except Exception as error:  # what we are after
            result["reasons"][path.name] = f"FAULT {type(error).__name__}: {error}"
        result["slowest"] = max(result["slowest"], [time.monotonic() - began, path.name])
    result["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return result


def look_apart(root: pathlib.Path, kind: str, files: int) -> dict[str, Any] | str:
    """`look` in a process with limits; a text where it did not come to its end."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    command = [sys.executable, "-m", "tests.data.fuzzing", f"--batch={kind}:{root}"]
    environment = os.environ | {"TQDM_DISABLE": "1", "OPENBLAS_NUM_THREADS": "1"}
    seconds = SECONDS * min(files, 12)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, preexec_fn=limit,
            env=environment, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"took more than {seconds} s"
    if done.returncode:
        return f"ended with {done.returncode}: {done.stderr.strip()[-400:]}"
    return json.loads(done.stdout.splitlines()[-1])
