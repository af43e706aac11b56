"""Makes batches of damaged files and judges what became of each."""

import dataclasses
import pathlib
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from tests.data.fuzzing.damage import damage
from tests.data.fuzzing.looking import look, look_apart, look_at_each
from tests.data.fuzzing.loose import damaged_npz, damaged_table
from tests.data.fuzzing.whole import KINDS, SUFFIXES, WHOLE

_PER_BATCH = 125
_GOOD = 3  # whole files beside the damaged ones


@dataclasses.dataclass
class Outcome:
    """What became of all files."""

    read: int = 0
    refused: int = 0
    whole: int = 0
    faults: list[str] = dataclasses.field(default_factory=list)
    peak: int = 0
    slowest: tuple[float, str] = (0.0, "")
    reasons: Counter[str] = dataclasses.field(default_factory=Counter)


def run_batch(kind: str, seeds: range, outcome: Outcome, apart: bool = True) -> None:
    """Makes a folder of damaged and whole files, and judges what was made of them."""
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder) / "set"
        (root / "class").mkdir(parents=True)
        told, whole = {}, {}
        for seed in seeds:
            told[f"class/{seed}{SUFFIXES[kind]}"], content = damage(kind, seed, root)
            (root / "class" / f"{seed}{SUFFIXES[kind]}").write_bytes(content)
        for i in range(_GOOD):
            rng = np.random.default_rng((8, i, seeds.start))
            whole[f"class/whole{i}{SUFFIXES[kind]}"] = content = WHOLE[kind](rng, root)
            (root / "class" / f"whole{i}{SUFFIXES[kind]}").write_bytes(content)
        found = look_apart(root, kind, len(told)) if apart else look(root, kind)
        if isinstance(found, str):
            found = _one_by_one(root, kind, [*told, *whole], told, outcome, found)
        _judge(root, kind, found, told, list(whole), outcome)


def _one_by_one(
    root: pathlib.Path,
    kind: str,
    names: list[str],
    told: dict[str, str],
    outcome: Outcome,
    why: str,
) -> dict[str, Any]:
    """Every file alone, to find the one that brought the process down."""
    joined: dict[str, Any] = {"images": {}, "refused": {}, "peak": 0, "slowest": [0.0, ""]}
    blamed = False
    for name in names:
        alone = root.parent / "alone"
        (alone / "class").mkdir(parents=True, exist_ok=True)
        target = alone / name
        target.hardlink_to(root / name)
        found = look_apart(alone, kind, 1)
        target.unlink()
        if isinstance(found, str):
            blamed = True
            seed = name.partition("/")[2]
            outcome.faults.append(f"{kind} {seed} ({told.get(name, 'whole')}): {found}")
            joined["refused"][name] = "fault"
        else:
            joined["images"] |= found["images"]
            joined["refused"] |= found["refused"]
            joined["peak"] = max(joined["peak"], found["peak"])
    if not blamed:
        outcome.faults.append(f"{kind} batch of {names[0]}: {why}")
    return joined


def _judge(
    root: pathlib.Path, kind: str, found: dict[str, Any], told: dict[str, str],
    whole: list[str], outcome: Outcome,
) -> None:  # fmt: skip
    for name, change in told.items():
        images, why = found["images"].get(name), found["refused"].get(name)
        wrong = [one for one in images or () if isinstance(one, str)]
        if images is None and why is None:
            outcome.faults.append(f"{kind} {name} ({change}): neither read nor named")
        elif wrong:
            outcome.faults.append(f"{kind} {name} ({change}): read as {wrong[0]}")
        elif why is not None:
            outcome.refused += 1
            outcome.reasons[" ".join(why.split()[:6])] += 1
            if not why or "\n" in why or str(root) in why:
                outcome.faults.append(f"{kind} {name} ({change}): reason {why!r}")
        else:
            outcome.read += 1
    for name in whole:
        with tempfile.TemporaryDirectory() as folder:
            alone = pathlib.Path(folder)
            (alone / "class").mkdir()
            (alone / name).write_bytes((root / name).read_bytes())
            if found["images"].get(name) != look(alone, kind)["images"].get(name, "none"):
                outcome.faults.append(f"{kind} {name}: a whole file was not read as it is")
            else:
                outcome.whole += 1
    outcome.peak = max(outcome.peak, found["peak"])
    outcome.slowest = max(outcome.slowest, tuple(found["slowest"]))


def run_sources(seeds: range, outcome: Outcome, apart: bool = True) -> None:
    """Damaged npz files and tables."""
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        (root / "set" / "class").mkdir(parents=True)
        for i in range(6):
            Image.new("L", (9, 9), i).save(root / "set" / "class" / f"{i}.png")
        told = {}
        for seed in seeds:
            suffix, make = ((".npz", damaged_npz), (".csv", damaged_table))[seed % 2]
            told[f"{seed}{suffix}"], content = make(seed)
            (root / f"{seed}{suffix}").write_bytes(content)
        found = look_apart(root, "each", len(told)) if apart else look_at_each(root)
        if isinstance(found, str):
            outcome.faults.append(f"sources {seeds}: {found}")
            return
        for name, change in told.items():
            why = found["reasons"].get(name)
            if why is None or why.startswith("FAULT") or "\n" in why:
                outcome.faults.append(f"{name} ({change}): {why}")
            elif why:
                outcome.refused += 1
                if name not in why and "labels" not in why and "set" not in why:
                    outcome.faults.append(f"{name} ({change}): not named in {why!r}")
            else:
                outcome.read += 1
        outcome.peak = max(outcome.peak, found["peak"])
        outcome.slowest = max(outcome.slowest, tuple(found["slowest"]))


def fuzz(files: int, seed: int, apart: bool = True, say: Callable[[str], Any] = print) -> Outcome:
    """Damages so many files, the same share of each kind, and returns what became of them."""
    outcome = Outcome()
    kinds = [*KINDS, "sources"]
    each = -(-files // len(kinds))
    for kind in kinds:
        began, faults = time.monotonic(), len(outcome.faults)
        for start in range(0, each, _PER_BATCH):
            seeds = range(seed + start, seed + min(start + _PER_BATCH, each))
            if kind == "sources":
                run_sources(seeds, outcome, apart)
            else:
                run_batch(kind, seeds, outcome, apart)
        say(
            f"{kind}: {each} files, {len(outcome.faults) - faults} faults, "
            f"{time.monotonic() - began:.0f} s"
        )
    return outcome
