"""Prepares a folder of images in a process that a test may kill.

python -m tests.launch.preparing WORKDIR SOURCE [--workers=N] [--kill=read|write]
"""

import argparse
import os
import pathlib
import signal

from configs import default
from data import record_writer, workers
from launch import prepare

KILLED_AFTER = 20  # parts that are read, or shards that are written


def config(source: str, processes: int = 1):
    """All images of a source at 16 pixels."""
    made = default.get_config()
    made.data.update(source=source, size=16, real_per_class=0, workers=processes)
    return made


def main() -> None:
    """Says how many parts this process read and which shards it wrote."""
    parser = argparse.ArgumentParser()
    parser.add_argument("workdir", type=pathlib.Path)
    parser.add_argument("source")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--kill", default="")
    given = parser.parse_args()
    workers.ALONE_SECONDS = 0
    record_writer.SHARD_ROWS = 8
    ordered, write = workers.ordered, record_writer._shard

    def killed(*arguments):
        for number, done in enumerate(ordered(*arguments), 1):
            print("read", number, flush=True)
            if given.kill == "read" and number == KILLED_AFTER:
                os.kill(os.getpid(), signal.SIGKILL)
            yield done

    def written(folder, name, split, records, bounds, index):
        print("shard", split, index, flush=True)
        if given.kill == "write" and (split, index) == ("test", 1):
            # half a shard of rubbish, as a kill in the middle of it leaves
            record_writer.shards.shard_path(folder, name, split, 1, len(bounds) - 1).write_bytes(
                b"x"
            )
            os.kill(os.getpid(), signal.SIGKILL)
        return write(folder, name, split, records, bounds, index)

    workers.ordered, record_writer._shard = killed, written
    prepare.run(config(given.source, given.workers), given.workdir, False)


if __name__ == "__main__":
    main()
