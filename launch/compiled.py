"""Compiled steps are kept on disk, so that a program compiles what it has compiled before once."""

import hashlib
import os
import pathlib
import platform

import jax

# Compilations that took less are not worth a file.
_SECONDS = 0.2


def keep(folder: str) -> str | None:
    """Keeps compilations in a subfolder of `folder` that belongs to this kind of machine.

    Compiled code is for the CPU that compiled it, and a home folder may be shared by several.
    $JAX_COMPILATION_CACHE_DIR and its kin go before.

    Args:
      folder: made when missing; "" for none.

    Returns:
      Why nothing is kept, or None.
    """
    if not folder or os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return None
    path = pathlib.Path(folder).expanduser() / _machine()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"{path}: {error.strerror}"
    if not os.access(path, os.W_OK | os.X_OK):
        return f"{path} cannot be written"
    jax.config.update("jax_compilation_cache_dir", str(path))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", _SECONDS)
    return None


def _machine() -> str:
    """Name of what compiled code depends on beyond jax's own key: the CPU's instructions."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        flags = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        flags = platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(flags.encode()).hexdigest()[:8]}"
