"""Milliseconds per training step beside the same networks in PyTorch.

    python -m benchmarks.train_step [--rows=REGEX] [--sizes=32,64] [--notorch_compile] [--json=PATH]

Rows: DCGAN, WGAN-GP (five discriminator updates), the projection ResNet-GAN, the VRN and the target
model at 32, 64 and 128 px, and Fixed-Point GAN (five updates, too) at 64 and 128. Both sides start
from the same weights, and nothing is timed before both have found the same losses and gradients
from the same random numbers (see `agreement`: in float32 and float64, whatever --dtype is timed); a
row that fails this is reported and makes the program end with code 1.

Columns: median milliseconds per step of ours, of its products alone (on CPU, see `floor`), of
PyTorch in its faster memory layout and of `torch.compile` in that layout; PyTorch's time divided by
ours (above 1 ours is faster); eager PyTorch's divided by that of the products, an estimate of the
most that ours could reach; our images per second; floating-point operations of the step (see
`flops`); and the share of the machine's own matrix-product rate, measured in the same run, that our
step reaches.
"""

import dataclasses
import json
import re
import shutil
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from absl import app, flags

from benchmarks.train_step import floor, flops, measure, ours
from benchmarks.train_step.rows import SIZES, Row, rows
from nn import host
from nn.precision import DTYPES

try:
    import torch

    from benchmarks.train_step import agreement, torch_steps
except ImportError:
    torch = None

FLAGS = flags.FlagValues()
_JSON = flags.DEFINE_string(
    "json", None, "Write everything measured to this file.", flag_values=FLAGS
)
_ROWS = flags.DEFINE_string(
    "rows", "", "Measure only rows whose name matches this regex.", flag_values=FLAGS
)
_SIZES = flags.DEFINE_list(
    "sizes", [str(size) for size in SIZES], "Pixels per side.", flag_values=FLAGS
)
_REPEATS = flags.DEFINE_integer(
    "repeats",
    5,
    "Rounds; each times every side in turn, so that disturbances hit all alike.",
    1,
    flag_values=FLAGS,
)
_STEPS = flags.DEFINE_integer(
    "steps", 3, "Steps that each side takes in a round.", 1, flag_values=FLAGS
)
_DTYPE = flags.DEFINE_enum(
    "dtype",
    "float32",
    list(DTYPES),
    "Of the networks' products; PyTorch uses autocast.",
    flag_values=FLAGS,
)
_TORCH = flags.DEFINE_bool("torch", True, "Measure PyTorch if it is installed.", flag_values=FLAGS)
_TORCH_COMPILE = flags.DEFINE_bool(
    "torch_compile", True, "Measure torch.compile too.", flag_values=FLAGS
)

_COLUMNS = "ours alone eager compile x_eager x_comp. x_limit img/s GFLOP"
_HEAD = " " * 36 + "".join(f"{name:>8}" for name in _COLUMNS.split()) + " % peak  notes"


def measure_row(row: Row, rate: float, *, with_torch: bool, compiled: bool) -> dict[str, Any]:
    """Measures one row.

    Args:
        row: the row.
        rate: floating-point operations per second of the machine's matrix product.
        with_torch: measure PyTorch.
        compiled: measure torch.compile.

    Returns:
        What the table and the file show; None where something was not measured.

    Raises:
        measure.DisagreementError: both sides do not compute the same.
    """
    dtype = DTYPES[_DTYPE.value]
    work = ours.build(row, dtype)
    mine = ours.Side(work)
    notes: list[str] = []
    differences, sides = {}, {}
    if with_torch:
        manner = _manner()
        # Accelerators round products of float32 unless they are told not to.
        exact = mine if manner.device == "cpu" and dtype is None else None
        torch_steps.round_products(False)
        differences = agreement.check(ours.build(row), manner, exact)
        agreement.verdict(differences)
        torch_steps.round_products(manner.device != "cpu")
        manner = dataclasses.replace(manner, bfloat16=dtype is not None)
        layouts = [dataclasses.replace(manner, channels_last=last) for last in (False, True)]
        # On accelerators with their own units for it, channels last is PyTorch's advice.
        layouts = layouts if manner.device == "cpu" else layouts[1:]
        trials = {m: torch_steps.build(work, m) for m in layouts}
        times = measure.median(measure.interleaved(trials, 2, 1)) if len(trials) > 1 else {}
        best = min(trials, key=lambda m: times.get(m, 0.0))
        notes.append("channels last" if best.channels_last else "contiguous")
        sides["torch_eager"] = trials[best]
        if compiled:
            side, note = _compiled_side(work, best)
            sides |= {"torch_compile": side} if side is not None else {}
            notes += [note] if note else []
    times = measure.interleaved({"ours": mine} | sides, _REPEATS.value, _STEPS.value)
    if jax.devices()[0].platform == "cpu":
        # Apart: the memory of its many operands would slow the other sides down.
        alone = {"products": floor.Side(work)}
        times |= measure.interleaved(alone, _REPEATS.value, _STEPS.value)
    medians = measure.median(times)
    needed = flops.needed(work)
    result = {"name": row.name} | dataclasses.asdict(row) | {"dtype": _DTYPE.value}
    for name in ("ours", "products", "torch_eager", "torch_compile"):
        result[f"{name}_ms"] = medians.get(name)
    for name, one, other in (
        ("ratio_eager", "torch_eager", "ours"),
        ("ratio_compile", "torch_compile", "ours"),
        ("ratio_limit", "torch_eager", "products"),
    ):
        both = one in medians and other in medians
        result[name] = medians[one] / medians[other] if both else None
    seconds = medians["ours"] / 1e3
    analysis = mine.compiled.cost_analysis() or {}
    return result | {
        "images_per_second": len(work.batch["image"]) / seconds,
        "flops": needed,
        "flops_xla": analysis.get("flops"),
        "share_of_matmul_rate": needed / seconds / rate,
        "differences": differences,
        "times_ms": times,
        "notes": notes,
    }


def _compiled_side(
    work: ours.Work, manner: "torch_steps.Manner"
) -> tuple["torch_steps.Side | None", str]:
    """torch.compile's side after its first step, or None, and a note for the table."""
    if manner.device == "cpu" and shutil.which("g++") is None:
        return None, "torch.compile needs g++"
    side = torch_steps.build(work, dataclasses.replace(manner, compiled=True))
    draws = ours.draws(work, 0)
    try:
        found = side.take(draws)
    except Exception as error:  # Whatever the compilers behind it raise, the other columns stand.
        return None, f"torch.compile failed: {type(error).__name__}"
    if manner.device == "cpu" and not manner.bfloat16:  # elsewhere both round, each in its way
        agreement.compare(work.losses, torch_steps.build(work, manner).take(draws), found)
    return side, "penalty not compiled" if side.penalised else ""


def _can_compare() -> bool:
    """Whether PyTorch is there for the device that JAX uses."""
    platform = jax.devices()[0].platform
    return torch is not None and (platform == "cpu" or torch.cuda.is_available())


def _manner() -> "torch_steps.Manner":
    on_gpu = jax.devices()[0].platform != "cpu"
    if on_gpu:
        torch.backends.cudnn.benchmark = True
    return torch_steps.Manner(device="cuda" if on_gpu else "cpu")


def _line(result: dict[str, Any]) -> str:
    def cell(value: float | None, digits: int, width: int = 8) -> str:
        return f"{'-' if value is None else format(value, f'.{digits}f'):>{width}}"

    sides = ("ours", "products", "torch_eager", "torch_compile")
    cells = [cell(result[f"{n}_ms"], 1) for n in sides]
    cells += [cell(result[f"ratio_{n}"], 2) for n in ("eager", "compile", "limit")]
    cells += [cell(result["images_per_second"], 0), cell(result["flops"] / 1e9, 2)]
    cells += [cell(100 * result["share_of_matmul_rate"], 0, 7)]
    return f"{result['name']:36}" + "".join(cells) + "  " + ", ".join(result["notes"])


def _chosen() -> list[Row]:
    try:
        sizes = [int(size) for size in _SIZES.value]
        every = rows(jax.devices()[0].platform, sizes)
    except (ValueError, KeyError) as error:
        known = ", ".join(map(str, SIZES))
        raise app.UsageError(f"--sizes={','.join(_SIZES.value)}: give some of {known}") from error
    chosen = [row for row in every if re.search(_ROWS.value, row.name)]
    if not chosen:
        names = ", ".join(row.name for row in every)
        raise app.UsageError(f"--rows={_ROWS.value} matches none of {names}")
    return chosen


def main(argv: Sequence[str]) -> int:
    """Measures the rows asked for, prints them as they come and writes them.

    Returns:
        The program's exit code: 1 if a row's sides do not agree.
    """
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    chosen = _chosen()
    # As the programs do; it holds for PyTorch's memory in this process too.
    host.prepare()
    with_torch = _TORCH.value and _can_compare()
    peer = f"PyTorch {torch.__version__}" if with_torch else "PyTorch not measured"
    rate = measure.matmul_rate(DTYPES[_DTYPE.value] or jnp.float32)
    print(f"jax {jax.__version__} on {jax.devices()[0]}, {peer}, ms per step")
    print(f"matrix product: {rate / 1e9:.0f} GFLOP/s in {_DTYPE.value}")
    print(_HEAD)
    results, failed = [], 0
    for row in chosen:
        try:
            result = measure_row(row, rate, with_torch=with_torch, compiled=_TORCH_COMPILE.value)
            print(_line(result), flush=True)
        except measure.DisagreementError as error:
            failed += 1
            result = {"name": row.name, "failed": str(error)}
            print(f"{row.name:36}   FAILED: {error}", flush=True)
        results.append(result)
    if _JSON.value:
        with open(_JSON.value, "w") as file:
            json.dump({"matmul_flops_per_second": rate, "rows": results}, file, indent=2)
        print(_JSON.value)
    return 1 if failed else 0
