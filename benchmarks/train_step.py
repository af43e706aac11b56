"""Milliseconds per DCGAN training step, beside the same networks in PyTorch.

    python -m benchmarks.train_step [--rows=REGEX] [--notorch_compile] [--json=PATH]

A step is one discriminator and one generator update with Adam and the generator's moving average,
batch 64, with and without the gradient penalty of WGAN-GP. Both sides start from the same weights;
the losses of the first step from the same latents are compared before anything is timed. PyTorch's
columns stay empty where torch is not installed. A ratio is PyTorch's time divided by ours: above 1
we are faster.
"""

import functools
import json
import re
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

from gan.models.dcgan import Discriminator, Generator
from gan.state import GanSpec, GanState, init_state
from gan.steps import Use, train_step
from nn.host_memory import keep_freed_memory

try:
    import torch

    from benchmarks import torch_dcgan
except ImportError:
    torch = None

_JSON = flags.DEFINE_string("json", None, "Write the rows to this file as a list of JSON objects.")
_ROWS = flags.DEFINE_string("rows", "", "Measure only rows whose name matches this regex.")
_REPEATS = flags.DEFINE_integer(
    "repeats", 5, "Rounds; each times every side in turn, so that disturbances hit all alike.", 1
)
_STEPS = flags.DEFINE_integer("steps", 4, "Steps that each side takes in a round.", 1)
_TORCH = flags.DEFINE_bool("torch", True, "Measure PyTorch if it is installed.")
_TORCH_COMPILE = flags.DEFINE_bool("torch_compile", True, "Measure torch.compile too.")

BATCH = 64
_CHANNELS = 1
_CLASSES = 10
_LATENT = 128
_LEARNING_RATE = 2e-4
_PENALTY_WEIGHT = 10.0
_EMA_DECAY = 0.999


class Row(NamedTuple):
    """One setting to be measured."""

    size: int
    width: int
    penalty: bool

    @property
    def name(self) -> str:
        """A name to filter by."""
        return f"dcgan_{self.size}px_width{self.width}" + ("_gp" if self.penalty else "")


ROWS = [Row(*r) for r in ((s, w, p) for s in (32, 64) for w in (32, 64) for p in (False, True))]


class Ours(NamedTuple):
    """What our first step of a row starts from."""

    spec: GanSpec
    state: GanState
    batch: dict[str, jax.Array]
    key: jax.Array


def build_ours(row: Row) -> Ours:
    """Networks, initial state and a batch for a row."""
    adam = optax.adam(_LEARNING_RATE, b1=0.5)
    spec = GanSpec(
        Generator(row.size, _CHANNELS, row.width, _CLASSES, _LATENT),
        Discriminator(row.size, _CHANNELS, row.width, _CLASSES),
        adam,
        adam,
        penalty="gp" if row.penalty else "none",
        penalty_weight=_PENALTY_WEIGHT,
        ema_decay=_EMA_DECAY,
    )
    keys = jax.random.split(jax.random.key(0), 3)
    shape = (BATCH, row.size, row.size, _CHANNELS)
    batch = {
        "image": jax.random.uniform(keys[0], shape, minval=-1),
        "label": jnp.arange(BATCH) % _CLASSES,
    }
    return Ours(spec, init_state(spec, keys[1]), batch, keys[2])


def our_steps(ours: Ours) -> Callable[[], dict[str, jax.Array]]:
    """A function that takes our next step, waits for it and returns its metrics."""
    step = jax.jit(train_step, static_argnames="spec", donate_argnums=0)
    state = jax.tree.map(jnp.copy, ours.state)

    def take() -> dict[str, jax.Array]:
        nonlocal state
        state, metrics = step(state, ours.batch, ours.key, spec=ours.spec)
        return jax.block_until_ready((metrics, state))[0]

    return take


def first_draws(ours: Ours) -> dict[str, np.ndarray]:
    """The random numbers of our first step, with which PyTorch has to find the same losses."""
    key = jax.random.fold_in(ours.key, 0)
    d_key = jax.random.fold_in(jax.random.fold_in(key, Use.DISCRIMINATOR), 0)
    g_key = jax.random.fold_in(key, Use.GENERATOR)
    normal = functools.partial(jax.random.normal, shape=(BATCH, _LATENT))
    return {
        "d_latents": np.asarray(normal(jax.random.fold_in(d_key, Use.LATENT))),
        "mix": np.asarray(jax.random.uniform(jax.random.fold_in(d_key, Use.MIX), (BATCH, 1, 1, 1))),
        "g_latents": np.asarray(normal(jax.random.fold_in(g_key, Use.LATENT))),
    }


def torch_steps(row: Row, ours: Ours, *, compiled: bool) -> Callable[..., dict]:
    """A function that takes PyTorch's next step from our initial weights.

    Its argument is the step's random numbers as `first_draws` gives them, or None to draw new ones.
    """
    generator = torch_dcgan.Generator(ours.spec.generator)
    discriminator = torch_dcgan.Discriminator(ours.spec.discriminator)
    generator.from_jax(jax.tree.map(np.asarray, ours.state.g_params))
    discriminator.from_jax(jax.tree.map(np.asarray, ours.state.d_params))
    trainer = torch_dcgan.Trainer(
        generator,
        discriminator,
        penalty_weight=_PENALTY_WEIGHT if row.penalty else None,
        learning_rate=_LEARNING_RATE,
        ema_decay=_EMA_DECAY,
        **({"wrap": torch.compile} if compiled else {}),
    )
    images = torch.tensor(np.asarray(ours.batch["image"])).permute(0, 3, 1, 2).contiguous()
    labels = torch.tensor(np.asarray(ours.batch["label"]), dtype=torch.int64)

    def take(draws: dict[str, np.ndarray] | None = None) -> dict:
        if draws is None:
            drawn = {
                "d_latents": torch.randn(BATCH, _LATENT),
                "mix": torch.rand(BATCH, 1, 1, 1),
                "g_latents": torch.randn(BATCH, _LATENT),
            }
        else:
            drawn = {name: torch.tensor(values) for name, values in draws.items()}
        return trainer.step(images, labels, **drawn)

    return take


def first_step_difference(ours: dict, theirs: dict) -> float:
    """The largest relative difference between the losses of the two sides' first step.

    The generator's loss comes after the discriminator's update, so it compares gradients, those of
    the penalty included, and the optimiser too.
    """
    return max(
        abs(float(theirs[name]) - float(ours[name])) / max(abs(float(ours[name])), 1e-3)
        for name in ("d_loss", "penalty", "g_loss")
    )


def time_steps(
    sides: dict[str, Callable[[], object]], repeats: int, steps: int
) -> dict[str, float]:
    """Median milliseconds per step of each side, measured in turns."""
    seconds = {name: [] for name in sides}
    for _ in range(repeats):
        for name, take in sides.items():
            take()  # Brings caches and thread pools back to this side.
            for _ in range(steps):
                start = time.perf_counter()
                take()
                seconds[name].append(time.perf_counter() - start)
    return {name: 1e3 * statistics.median(values) for name, values in seconds.items()}


def measure(row: Row, *, repeats: int, steps: int, with_torch: bool, compiled: bool) -> dict:
    """Measures one row.

    Returns:
        The row's settings, times in milliseconds and ratios; None where not measured, which for
        torch.compile includes the penalty: it cannot differentiate twice.

    Raises:
        RuntimeError: if the two sides do not compute the same losses.
    """
    ours = build_ours(row)
    sides = {"ours": our_steps(ours)}
    metrics = sides["ours"]()
    difference = None
    if with_torch:
        draws = first_draws(ours)
        sides["torch_eager"] = torch_steps(row, ours, compiled=False)
        if compiled and not row.penalty:
            sides["torch_compile"] = torch_steps(row, ours, compiled=True)
        for name in sides.keys() - {"ours"}:
            difference = first_step_difference(metrics, sides[name](draws))
            if difference > 1e-3:
                raise RuntimeError(f"{row.name}: first losses of {name} differ by {difference:.1e}")
    times = time_steps(sides, repeats, steps)
    result = {"name": row.name} | row._asdict() | {"batch": BATCH}
    for name in ("ours", "torch_eager", "torch_compile"):
        result[f"{name}_ms"] = times.get(name)
    for name in ("eager", "compile"):
        other = times.get(f"torch_{name}")
        result[f"ratio_{name}"] = None if other is None else other / times["ours"]
    return result | {"first_step_difference": difference}


def _cell(value: float | None, digits: int) -> str:
    return f"{'-' if value is None else format(value, f'.{digits}f'):>9}"


def main(argv: Sequence[str]) -> None:
    """Measures the rows asked for, prints them as they come and writes them."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    rows = [row for row in ROWS if re.search(_ROWS.value, row.name)]
    if not rows:
        names = ", ".join(row.name for row in ROWS)
        raise app.UsageError(f"--rows={_ROWS.value} matches none of {names}")
    # As the programs do; it holds for PyTorch's memory in this process too.
    keep_freed_memory()
    with_torch = _TORCH.value and torch is not None
    peer = f"PyTorch {torch.__version__}" if with_torch else "PyTorch not measured"
    print(f"jax {jax.__version__} on {jax.devices()[0]}, {peer}, batch {BATCH}, ms per step")
    print(f"{'':26}     ours    eager  compile  x eager  x comp.  first losses differ by")
    results = []
    for row in rows:
        result = measure(
            row,
            repeats=_REPEATS.value,
            steps=_STEPS.value,
            with_torch=with_torch,
            compiled=_TORCH_COMPILE.value,
        )
        results.append(result)
        times = [_cell(result[f"{n}_ms"], 1) for n in ("ours", "torch_eager", "torch_compile")]
        ratios = [_cell(result[f"ratio_{n}"], 2) for n in ("eager", "compile")]
        difference = result["first_step_difference"]
        shown = "" if difference is None else f"  {difference:.0e}"
        print(f"{row.name:26}" + "".join(times + ratios) + shown, flush=True)
    if _JSON.value:
        with open(_JSON.value, "w") as file:
            json.dump(results, file, indent=2)
        print(_JSON.value)


if __name__ == "__main__":
    app.run(main)
