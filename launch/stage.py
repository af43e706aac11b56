"""Stages: what makes a folder of the work directory complete, stale, resumable or foreign.

Every stage owns one folder with a `stage.json`. Its digest covers the settings the stage reads and
the digests of the stages before it, so a complete folder with the same digest is up to date.
"""

import dataclasses
import datetime
import hashlib
import importlib.metadata
import json
import pathlib
import platform
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from data.errors import UserError
from data.tables import write_json
from launch import distributed
from nn.native import build

PROGRAMS = {
    "data": "prepare",
    "gan": "train_gan",
    "translator": "train_translator",
    "features": "train_features",
    "pools/first": "generate --pool=first",
    "annotation": "annotate",
    "extraction": "extract",
    "vrn": "train_vrn",
    "pools/second": "generate --pool=second",
    "filter": "filter",
    "target": "train_target",
    "report": "report",
}

GENERATORS = ("gan", "translator")  # the loop takes its pools from one of these

# Stages beside the loop, which no report needs.
DETECTORS = ("autoencoder", "vae", "gradcam", "unet")
BESIDE = {f"detectors/{name}": f"train_detector --maps={name}" for name in DETECTORS}


@dataclasses.dataclass
class Stage:
    """A stage that has work to do. `folder` exists; what it holds is of this digest only."""

    folder: pathlib.Path
    record: dict[str, Any]
    began: float

    @property
    def digest(self) -> str:
        """Hex digest of settings and inputs."""
        return self.record["digest"]

    def finish(self, **facts: Any) -> None:
        """Marks the stage complete; `facts` are kept in its `stage.json`.

        No process goes on before the file is there.
        """
        seconds = round(self.record["seconds_before"] + time.monotonic() - self.began, 2)
        self.record |= {"status": "complete", "end": _now(), "seconds": seconds, "facts": facts}
        distributed.on_main(lambda: write_json(self.folder / "stage.json", self.record))


def of_loop(generator: str) -> list[str]:
    """Names of the stages of the loop in running order, with one of `GENERATORS`."""
    return [name for name in PROGRAMS if name == generator or name not in GENERATORS]


def read(workdir: pathlib.Path, name: str) -> dict[str, Any] | None:
    """Returns the `stage.json` of a stage, or None where there is none."""
    path = workdir / name / "stage.json"
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged; delete {path.parent} to make it again") from error


def require(workdir: pathlib.Path, name: str) -> dict[str, Any]:
    """Returns the record of a stage that must be complete.

    Raises:
      UserError: it is not; the message names the program to run.
    """
    record = read(workdir, name)
    if record is None or record["status"] != "complete":
        state = "missing" if record is None else "unfinished"
        raise UserError(
            f"{workdir / name} is {state}; run `python -m launch.{(PROGRAMS | BESIDE)[name]}` "
            f"with the same --config and --workdir first"
        )
    return record


@distributed.main_only
def begin(
    workdir: pathlib.Path,
    name: str,
    settings: Mapping[str, Any],
    needs: Sequence[str] = (),
    overwrite: bool = False,
) -> Stage | None:
    """Opens the folder of a stage, or returns None when it is complete and up to date.

    Process 0 looks at the folder and all others are told what it found.

    Args:
      workdir: work directory.
      name: folder of the stage, a key of `PROGRAMS` or `BESIDE`.
      settings: everything that the stage's result depends on, JSON-serialisable.
      needs: stages it reads; each must be complete.
      overwrite: discard a folder that was made with other settings.

    Raises:
      UserError: a needed stage is not complete, or the folder has other settings.
    """
    inputs = {need: require(workdir, need)["digest"] for need in needs}
    settings = json.loads(json.dumps(settings))  # tuples become lists, as in the file
    digest = _digest({"settings": settings, "inputs": inputs})
    folder = workdir / name
    found = read(workdir, name)
    if found is not None and found["digest"] == digest:
        if found["status"] == "complete":
            print(f"{name}: up to date", flush=True)
            return None
    elif found is not None:
        if not overwrite:
            raise UserError(
                f"{folder} was made with {_difference(found, settings, inputs)}; "
                "choose another --workdir, or pass --overwrite to make it again"
            )
        discard(folder)
    _sweep(folder)
    folder.mkdir(parents=True, exist_ok=True)
    resumed = found is not None and found["digest"] == digest
    record = {
        "stage": name,
        "status": "running",
        "resumed": resumed,
        "seconds_before": _spent(folder, found) if resumed else 0.0,
        "digest": digest,
        "config": settings,
        "inputs": inputs,
        "start": _now(),
        "device": _device(),
        "versions": _versions(),
        "code": code(),
    }
    write_json(folder / "stage.json", record)
    return Stage(folder, record, time.monotonic())


@distributed.main_only
def discard(folder: pathlib.Path) -> None:
    """Deletes the folder of a stage; killed half-way, nothing of it is left under its name."""
    _sweep(folder)
    if folder.exists():
        folder.rename(_discarded(folder))
        _sweep(folder)


def _discarded(folder: pathlib.Path) -> pathlib.Path:
    """Where `discard` puts a folder before it deletes it."""
    return folder.with_name(f".{folder.name}.discarded")


@distributed.main_only
def _sweep(folder: pathlib.Path) -> None:
    """Deletes what a `discard` of the folder that was killed has left, if anything."""
    shutil.rmtree(_discarded(folder), ignore_errors=True)


def _spent(folder: pathlib.Path, found: Mapping[str, Any]) -> float:
    """Seconds that a stage which did not finish was at work: until it last wrote a file."""
    began = datetime.datetime.fromisoformat(found["start"]).timestamp()
    last = max(path.stat().st_mtime for path in folder.rglob("*") if path.is_file())
    return round(found.get("seconds_before", 0.0) + max(0.0, last - began), 2)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _difference(found: Mapping[str, Any], settings: Any, inputs: Mapping[str, str]) -> str:
    """Names the first setting or input in which a folder differs."""
    old, new = _flat(found["config"]), _flat(settings)
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            return f"{key}={old.get(key)!r}, not {new.get(key)!r}"
    changed = [name for name in inputs if found["inputs"].get(name) != inputs[name]]
    return f"another {changed[0]}" if changed else "other inputs"


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, Mapping):
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else key)
    return flat


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _device() -> str:
    device = jax.devices()[0]
    kind = platform.machine() if device.platform == "cpu" else device.device_kind
    return f"{jax.device_count()} x {device.platform} ({kind})"


def _versions() -> dict[str, str]:
    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
    versions = {name: importlib.metadata.version(name) for name in names}
    # Rounding differs between the two, so a result says which it was.
    return {"python": platform.python_version(), **versions, "native": build.name()}


def code() -> str:
    """Commit of the code, with `-dirty` where files differ from it; else the package version."""
    root = pathlib.Path(__file__).resolve().parent.parent
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return importlib.metadata.version("vrn")
