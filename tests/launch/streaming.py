"""Makes and filters the second pool in a process that a test may kill or join to others.

python -m tests.launch.streaming WORKDIR [--kill=pool|filter] [--peers=PORT,COUNT,INDEX]
"""

import argparse
import os
import pathlib
import signal
import sys

import jax

from benchmarks import stream as benchmark
from data import pools, tables
from launch import filter as filter_stage
from launch import generate, stream

SIZE, WIDTH, BATCH = 16, 4, 64
PER_CLASS = 40
SHARE = 100  # so that a small pool has several


def config(folder: pathlib.Path):
    """The experiment on the images in `folder`, with narrow networks."""
    made = benchmark.make_config(folder, SIZE, WIDTH, BATCH)
    made.generate.second_per_class = PER_CLASS
    made.features.width = made.vrn.width = 4
    made.vrn.depth = 18
    return made


def main() -> None:
    """Says which shards this process wrote."""
    parser = argparse.ArgumentParser()
    parser.add_argument("workdir", type=pathlib.Path)
    parser.add_argument("--kill", default="")
    parser.add_argument("--peers", default="")
    given = parser.parse_args()
    if given.peers:
        port, count, index = map(int, given.peers.split(","))
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"localhost:{port}", count, index)

    stream.SHARE = SHARE
    close = pools.PoolShard.close

    def closed(shard: pools.PoolShard) -> None:
        close(shard)
        print("wrote", shard.index, flush=True)
        if given.kill == "pool" and shard.index == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    pools.PoolShard.close = closed
    write_npz = tables.write_npz

    def written(path: pathlib.Path, **arrays: object) -> None:
        write_npz(path, **arrays)
        print("scored", path.name, flush=True)
        if given.kill == "filter":
            os.kill(os.getpid(), signal.SIGKILL)

    tables.write_npz = written
    made = config(given.workdir.parent)
    generate.make_pool(made, given.workdir, "second", overwrite=False)
    filter_stage.run(made, given.workdir, False)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
