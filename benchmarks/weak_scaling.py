"""Weak scaling of the GAN step on this machine: 1 and 2 processes of one core and one batch each.

    python -m benchmarks.weak_scaling [--size=32] [--width=32] [--batch=32] [--steps=30]

Three runs, every process pinned to a core of its own: one process; two that know nothing of each
other (what sharing memory and power costs); two that train one network on twice the batch.
Efficiency is the first step time divided by that of the run.
"""

import functools
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from benchmarks import options
from benchmarks.collectives import Collective, collectives
from gan.models.dcgan import Discriminator, Generator
from gan.state import GanSpec, init_state
from gan.steps import train_step
from launch import mesh as mesh_lib
from launch import place
from nn import host, optimiser
from nn.gradient import AXIS, Gradient

FLAGS = flags.FlagValues()
_SIZE = flags.DEFINE_integer("size", 32, "Pixels per side.", flag_values=FLAGS)
_WIDTH = flags.DEFINE_integer("width", 32, "Channels at full resolution.", 1, flag_values=FLAGS)
_BATCH = flags.DEFINE_integer("batch", 32, "Images per process.", 1, flag_values=FLAGS)
_STEPS = flags.DEFINE_integer("steps", 30, "Steps that are timed.", 1, flag_values=FLAGS)
_JSON = flags.DEFINE_string("json", None, "Write the result to this file.", flag_values=FLAGS)
_JOIN = flags.DEFINE_list(
    "join", [], "Internal: coordinator, processes, index of one process.", flag_values=FLAGS
)

_CLASSES = 10
_LATENT = 128


def main(argv: Sequence[str]) -> None:
    """Runs all, or is one process of a run."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    if _JOIN.value:
        print(json.dumps(_one(*_JOIN.value)))
        return
    if len(os.sched_getaffinity(0)) < 2:
        raise app.UsageError("two cores are needed")
    alone = _processes(1, joined=True)[0]
    apart = _processes(2, joined=False)
    joined = _processes(2, joined=True)[0]
    apart_ms = statistics.mean(one["step_ms"] for one in apart)
    result = {
        "alone_ms": alone["step_ms"],
        "apart_ms": apart_ms,
        "joined_ms": joined["step_ms"],
        "efficiency": alone["step_ms"] / joined["step_ms"],
        "efficiency_of_apart": alone["step_ms"] / apart_ms,
        "operations": joined["operations"],
        "bytes": sum(joined["operations"]),
        "all_reduce_ms": joined["all_reduce_ms"],
        "arrays": joined["arrays"],
        "arrays_ms": joined["arrays_ms"],
    }
    print(
        f"{_SIZE.value} px, width {_WIDTH.value}, {_BATCH.value} images per process, ms per step:"
    )
    print(f"1 process, 1 core              {result['alone_ms']:8.1f}")
    print(f"2 processes apart, 2 cores     {apart_ms:8.1f}  {result['efficiency_of_apart']:.0%}")
    print(f"2 processes together, 2 cores  {result['joined_ms']:8.1f}  {result['efficiency']:.0%}")
    print(
        f"all-reduced per step: {result['bytes']:,} bytes in {len(joined['operations'])} operations"
    )
    for size, milliseconds in zip(joined["operations"], joined["all_reduce_ms"], strict=True):
        print(f"  one all-reduce of {size:>10,} bytes by itself: {milliseconds:.2f} ms")
    print(f"  the {joined['arrays']} arrays of both, not joined: {joined['arrays_ms']:.2f} ms")
    if _JSON.value:
        with open(_JSON.value, "w") as file:
            json.dump(result, file, indent=2)


def _processes(count: int, *, joined: bool) -> list[dict]:
    """Runs processes side by side, each on its core, and returns what they measured."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    cores = sorted(os.sched_getaffinity(0))
    settings = [f"--{flag.name}={flag.value}" for flag in (_SIZE, _WIDTH, _BATCH, _STEPS)]
    running = []
    for index in range(count):
        join = f"{address},{count},{index}" if joined else f"{address},1,0"
        running.append(
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.weak_scaling", *settings, f"--join={join}"],
                stdout=subprocess.PIPE,
                text=True,
                preexec_fn=functools.partial(os.sched_setaffinity, 0, {cores[index]}),
            )
        )
    outputs = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        raise RuntimeError("a process failed; see above")
    return [json.loads(output.splitlines()[-1]) for output in outputs]


def _one(address: str, processes: str, index: str) -> dict:
    """Times steps and all-reduces in one process of a run."""
    logging.set_verbosity(logging.ERROR)
    host.prepare()
    count = int(processes)
    if count > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(address, count, int(index))
    mesh = mesh_lib.make_mesh()
    adam = optimiser.adam(2e-4, 0.5, 0.999)
    shape = {"size": _SIZE.value, "channels": 1, "width": _WIDTH.value, "num_classes": _CLASSES}
    generator, discriminator = Generator(**shape, z_dim=_LATENT), Discriminator(**shape)
    spec = GanSpec(generator, discriminator, adam, adam, gradient=Gradient(mesh=mesh))
    rng = np.random.default_rng(int(index))
    rows = {
        "image": rng.uniform(-1, 1, (_BATCH.value, _SIZE.value, _SIZE.value, 1)).astype(np.float32),
        "label": (np.arange(_BATCH.value) % _CLASSES).astype(np.int32),
    }
    batch, key = mesh_lib.put(rows, mesh), jax.random.key(0)
    start = jax.jit(functools.partial(init_state, spec), out_shardings=mesh_lib.replicated(mesh))
    state = place.first(start(key), mesh).state
    step = mesh_lib.jit_step(functools.partial(train_step, spec=spec), mesh)
    compiled = step.lower(state, batch, key).compile()
    sent = collectives(compiled.as_text())

    def take() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(compiled(state, batch, key))

    step_ms = _median_ms(take, _STEPS.value)
    params = (state.inner.g_params, state.inner.d_params)
    return {
        "step_ms": step_ms,
        "operations": [one.bytes for one in sent],
        "all_reduce_ms": [_all_reduce_ms(one, mesh) for one in sent],
        "arrays": len(jax.tree.leaves(params)),
        "arrays_ms": _arrays_ms(params, mesh),
    }


def _all_reduce_ms(one: Collective, mesh: Mesh) -> float:
    """Time of one all-reduce of as many bytes."""
    if one.name != "all-reduce":
        raise RuntimeError(f"the step has a {one.name} of {one.bytes} bytes")
    values = np.ones((jax.local_device_count(), one.bytes // 4), np.float32)
    rows = mesh_lib.put({"rows": values}, mesh)["rows"]
    add = jax.jit(lambda rows: jnp.sum(rows, 0), out_shardings=mesh_lib.replicated(mesh))
    return _median_ms(lambda: jax.block_until_ready(add(rows)), 30)


def _arrays_ms(params: Any, mesh: Mesh) -> float:
    """Time of one all-reduce of as many arrays, as they would go if they were not joined."""
    whole = PartitionSpec()
    add = jax.shard_map(
        lambda params: lax.psum(params, AXIS),
        mesh=mesh,
        in_specs=whole,
        out_specs=whole,
        check_vma=False,
    )
    add = jax.jit(add)
    return _median_ms(lambda: jax.block_until_ready(add(params)), 30)


def _median_ms(call: Callable[[], object], repeats: int) -> float:
    for _ in range(3):
        call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return 1e3 * statistics.median(seconds)


if __name__ == "__main__":
    options.run(main, FLAGS)
