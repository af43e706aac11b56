"""Compiles `conv.cc` for this machine at its first use and keeps the result.

The source is compiled where it runs, because its speed comes from the processor's own vector
instructions and its calling convention from the installed jaxlib. A process that finds no compiler
goes on without: `load` gives None and its callers have slower forms.
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import pathlib
import platform
import shlex
import shutil
import subprocess
import tempfile

import jax
import jaxlib
from absl import logging

_SOURCE = pathlib.Path(__file__).with_name("conv.cc")
_OPTIONS = ("-std=c++17", "-O3", "-march=native", "-fPIC", "-shared")
_TARGETS = ("vrn_conv_gather", "vrn_conv_scatter")
_SECONDS = 300


@functools.cache
def load() -> ctypes.CDLL | None:
    """The compiled library with its functions made known to XLA, or None where there is none.

    $VRN_NATIVE=0 asks for none; $CXX names the compiler; $XDG_CACHE_HOME/vrn/native keeps the
    result (default ~/.cache).
    """
    if os.environ.get("VRN_NATIVE") == "0" or jax.default_backend() != "cpu":
        return None
    try:
        library = ctypes.CDLL(os.fspath(_compiled()))
    except (OSError, subprocess.SubprocessError) as error:
        detail = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        logging.warning(
            "Convolutions take XLA's slower forms, since nn/native/conv.cc could not be compiled: "
            "install g++ or clang++ or name one in $CXX (%s)",
            detail[0] if detail else type(error).__name__,
        )
        return None
    for target in _TARGETS:
        capsule = jax.ffi.pycapsule(getattr(library, target))
        jax.ffi.register_ffi_target(target, capsule, platform="cpu")
    return library


def name() -> str:
    """What computes float32 convolutions: the library, by a digest of all that made it, or xla."""
    library = load()
    return "xla" if library is None else pathlib.Path(library._name).stem


def _compiled() -> pathlib.Path:
    """Path of the library for this source, compiler, jaxlib and processor; made when missing.

    Raises:
      OSError: no compiler, or a cache folder that cannot be written.
      subprocess.SubprocessError: the compiler failed.
    """
    command = shlex.split(os.environ.get("CXX", "")) or [_compiler()]
    version = subprocess.run(
        [*command, "--version"], capture_output=True, text=True, check=True, timeout=_SECONDS
    ).stdout
    parts = (_SOURCE.read_text(), version, jaxlib.__version__, _processor(), *_OPTIONS)
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    folder = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    library = folder / "vrn" / "native" / f"conv-{key}.so"
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=library.parent, suffix=".part")
        os.close(handle)
        try:
            includes = ("-isystem", jax.ffi.include_dir())
            subprocess.run(
                [*command, *_OPTIONS, *includes, os.fspath(_SOURCE), "-o", name],
                capture_output=True,
                text=True,
                check=True,
                timeout=_SECONDS,
            )
            os.replace(name, library)  # processes that compile it at once give the same file
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
    return library


def _compiler() -> str:
    for name in ("c++", "g++", "clang++"):
        if path := shutil.which(name):
            return path
    raise FileNotFoundError("no c++, g++ or clang++ on the path")


def _processor() -> str:
    """What -march=native depends on."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))
