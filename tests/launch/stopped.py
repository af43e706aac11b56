"""A toy training as a program, in one process or several: `python -m tests.launch.stopped`.

FLAGS: --config=… --workdir=… as any program, and --processes=N --process=I --port=P.
"""

import time

import jax
import numpy as np
from absl import flags

from launch import cli

STEPS = flags.DEFINE_integer("steps", 10**6, "of the training")
PROCESSES = flags.DEFINE_integer("processes", 1, "in all")
PROCESS = flags.DEFINE_integer("process", 0, "which one this is")
PORT = flags.DEFINE_integer("port", 0, "of the coordinator")


def run(config, workdir, overwrite):
    if PROCESSES.value > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        where = f"localhost:{PORT.value}"
        jax.distributed.initialize(where, PROCESSES.value, PROCESS.value)
    from tests.launch import toy  # computes a key, which must not come before

    def hook(number, state):
        time.sleep(0.002)

    trained = toy.train(workdir, STEPS.value, hook=hook, checkpoint_every=10**6, log_every=100)
    print("weights", np.asarray(trained.weights).tolist())
    return workdir


if __name__ == "__main__":
    cli.start(run)
