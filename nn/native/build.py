"""Compiles the C++ of this folder for this machine at its first use and keeps the result.

The sources are compiled where they run, because their speed comes from the processor's own vector
instructions and their calling convention from the installed jaxlib. A process that finds no
compiler goes on without: `load` gives None and its callers have slower forms.
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
import jax.numpy as jnp
import jaxlib
from absl import logging

_SOURCES = tuple(sorted(pathlib.Path(__file__).parent.glob("*.cc")))
_HEADERS = tuple(sorted(pathlib.Path(__file__).parent.glob("*.h")))
_OPTIONS = ("-std=c++17", "-O3", "-march=native", "-fPIC", "-shared")
_TARGETS = (
    "vrn_conv_gather",
    "vrn_conv_scatter",
    "vrn_winograd_image",
    "vrn_winograd_kernel",
    "vrn_norm_forward",
    "vrn_norm_backward",
    "vrn_pool_forward",
    "vrn_pool_backward",
)
_SECONDS = 300
# No compiler or one that fails, no library from it, $CXX with an open quote, a library without the
# functions.
_FAILURES = (OSError, subprocess.SubprocessError, ValueError, AttributeError)


@functools.cache
def load() -> ctypes.CDLL | None:
    """The compiled library with its functions made known to XLA, or None where there is none.

    $VRN_NATIVE=0 asks for none; $CXX names the compiler; $XDG_CACHE_HOME/vrn/native keeps the
    result (default ~/.cache).
    """
    if os.environ.get("VRN_NATIVE") == "0" or jax.default_backend() != "cpu":
        return None
    try:
        library = _compiled()
        capsules = {target: jax.ffi.pycapsule(getattr(library, target)) for target in _TARGETS}
    except _FAILURES as error:
        detail = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        logging.warning(
            "Convolutions, norms and pooling take slower forms: nn/native could not be compiled; "
            "install g++ or clang++, or name one in $CXX (%s)",
            detail[0] if detail else type(error).__name__,
        )
        return None
    for target, capsule in capsules.items():
        jax.ffi.register_ffi_target(target, capsule, platform="cpu")
    return library


def computes(dtype: jnp.dtype) -> bool:
    """Whether there is a library, and it computes in this type."""
    return dtype == jnp.float32 and load() is not None


def name() -> str:
    """What computes in float32: the library, by a digest of all that made it, or xla."""
    library = load()
    return "xla" if library is None else pathlib.Path(library._name).stem


def _folder() -> pathlib.Path:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(home) / "vrn" / "native"


def _compiled() -> ctypes.CDLL:
    """The library for these sources, compiler, jaxlib and processor; made when missing or broken.

    Where the cache folder cannot keep it, it is made for this process alone.

    Raises:
      OSError: no compiler, or no library came of it.
      subprocess.SubprocessError: the compiler failed.
      ValueError: $CXX has an open quote.
    """
    command = shlex.split(os.environ.get("CXX", "")) or [_compiler()]
    version = subprocess.run(
        [*command, "--version"], capture_output=True, text=True, check=True, timeout=_SECONDS
    ).stdout
    made_from = (
        *(path.read_text() for path in (*_SOURCES, *_HEADERS)),
        version,
        jaxlib.__version__,
        _processor(),
        *command,
        *_OPTIONS,
    )
    key = hashlib.sha256("\0".join(made_from).encode()).hexdigest()[:16]
    library = _folder() / f"native-{key}.so"
    if library.exists():
        with contextlib.suppress(OSError):  # broken, say by a full disk: made again
            return ctypes.CDLL(os.fspath(library))
    with tempfile.TemporaryDirectory(prefix="vrn-") as folder:
        made = os.path.join(folder, library.name)
        includes = ("-isystem", jax.ffi.include_dir())
        subprocess.run(
            [*command, *_OPTIONS, *includes, *map(os.fspath, _SOURCES), "-o", made],
            capture_output=True,
            text=True,
            check=True,
            timeout=_SECONDS,
        )
        try:
            _keep(made, library)
            return ctypes.CDLL(os.fspath(library))
        except OSError as error:
            alone = ctypes.CDLL(made)  # stays in memory when its file is gone
            logging.warning(
                "Every program compiles nn/native anew, because %s cannot keep it (%s); "
                "name another folder in $XDG_CACHE_HOME",
                library.parent,
                error.strerror or error,
            )
            return alone


def _keep(made: str, library: pathlib.Path) -> None:
    """Copies the library to where later programs find it, whole or not at all."""
    library.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=library.parent, suffix=".part")
    os.close(handle)
    try:
        shutil.copyfile(made, part)
        ctypes.CDLL(part)  # what is not a library is not kept
        os.replace(part, library)  # processes that compile it at once give the same file
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)


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
