"""Kills the review's server with SIGKILL under load; no acknowledged label may be lost.

    python -m tests.launch.review_killing --raters=50 --labels=10000 --kills=20 --seed=0

Every rater sends one label after the other, as the page does: where no answer comes, the same
request again until one does. What was acknowledged is written down apart. After every kill, with no
server running, all of that must be in the database; in the end it must hold every label exactly
once. Servers are forked from a process that has imported everything, which is quicker than starting
Python each time.
"""

import argparse
import contextlib
import http.client
import json
import os
import pathlib
import signal
import socket
import sqlite3
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator

import numpy as np

from configs import digits
from launch.review import serving
from tests.launch import reviews
from vrn.review import access

LABELS = ("real-like", "unsure", "non-real-like")


def kill_and_compare(
    folder: pathlib.Path, raters: int, labels: int, kills: int, seed: int
) -> Iterator[str]:
    """Serves, rates and kills in `folder`.

    Yields:
      A line for every kill, and one in the end.

    Raises:
      AssertionError: a label that was acknowledged is not in the database, one is there twice, or
        all was said before so many kills.
    """
    each = -(-labels // raters)
    workdir = reviews.make(folder, count=each, reals=2)
    config = digits.get_config()
    names = tuple(f"r{number:03d}" for number in range(raters))
    config.review.update(raters=names, repeats=0.0, real_share=0.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    opened = serving.service(config, workdir, "127.0.0.1")  # plans, so that no kill falls there
    opened.study.store.close()
    keys = access.Keys(access.read_secret(workdir / "review" / "secret"), "main")
    rng = np.random.default_rng(seed)
    acknowledged = folder / "acknowledged.txt"
    acknowledged.touch()
    running = set()

    def start(work) -> int:
        running.add(process := _fork(work))
        return process

    def end(process: int, kill: bool = True) -> int:
        if kill:
            os.kill(process, signal.SIGKILL)
        running.discard(process)
        return os.waitpid(process, 0)[1]

    def serve() -> None:
        serving.serve(config, workdir, "127.0.0.1", port)

    try:
        load = start(lambda: _rate(names, keys, port, each, acknowledged, seed))
        for number in range(kills):
            server = start(serve)
            # The kills are spread over the labels; each falls while some more are on their way.
            wanted = (number + rng.uniform(0.1, 0.9)) / (kills + 1) * labels
            _until(lambda: _lines(acknowledged) >= wanted, server, load)  # noqa: B023
            time.sleep(rng.uniform(0, 0.01))
            end(server)
            said, kept = _compare(workdir, acknowledged)
            yield f"kill {number + 1}: {said} labels acknowledged, all of them among {kept} kept"
            assert said < each * raters, f"all was said before kill {number + 1}"
        server = start(serve)
        assert end(load, kill=False) == 0, "the raters failed"
        end(server)
        said, kept = _compare(workdir, acknowledged)
        assert said == kept == each * raters, f"{said} acknowledged and {kept} kept"
        yield f"after {kills} kills all {said} acknowledged labels are there, each of them once"
    finally:
        for process in list(running):
            end(process)


def _rate(names, keys, port, each, acknowledged, seed) -> None:
    descriptor = os.open(acknowledged, os.O_WRONLY | os.O_APPEND)
    failures = []

    def rater(number: int) -> None:
        try:
            draw = np.random.default_rng([seed, number])
            for place in draw.permutation(each).tolist():
                label = LABELS[draw.integers(len(LABELS))]
                request = uuid.UUID(bytes=draw.bytes(16)).hex
                entry = {"place": place, "label": label, "seconds": 1.0}
                body = json.dumps({"request": request, "entries": [entry]})
                _send(keys, names[number], port, body)
                os.write(descriptor, f"{names[number]} {place} {label}\n".encode())
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=rater, args=(n,)) for n in range(len(names))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


_LOCAL = threading.local()


def _send(keys: access.Keys, who: str, port: int, body: str) -> None:
    """Asks until the server says that the label is saved."""
    headers = {
        "cookie": f"{keys.cookie_name}={keys.cookie(who)}", access.CSRF_HEADER: keys.csrf(who),
        "content-type": "application/json",
    }  # fmt: skip
    while True:
        connection = getattr(_LOCAL, "connection", None)
        if connection is None:
            connection = _LOCAL.connection = http.client.HTTPConnection("127.0.0.1", port, 30)
        try:
            connection.request("POST", f"/{who}/api/labels", body, headers)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            _LOCAL.connection = None
            time.sleep(0.02)
            continue
        assert answer.status == 200, (answer.status, text)
        assert json.loads(text) == {"saved": 1}
        return


def _compare(workdir: pathlib.Path, acknowledged: pathlib.Path) -> tuple[int, int]:
    """Labels acknowledged and labels in the database, which must hold all of the former."""
    said = [tuple(line.split(" ", 2)) for line in acknowledged.read_text().splitlines()]
    with contextlib.closing(sqlite3.connect(workdir / "review" / "review.sqlite")) as base:
        rows = base.execute("SELECT rater, place, label FROM history").fetchall()
        assert base.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    kept = {(rater, str(place), label) for rater, place, label in rows}
    lost = set(said) - kept
    assert not lost, f"{len(lost)} acknowledged labels are lost: {min(lost)}"
    assert len(kept) == len(rows), "a label was saved twice"
    return len(said), len(rows)


def _fork(work) -> int:
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            work()
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def _lines(path: pathlib.Path) -> int:
    return path.read_bytes().count(b"\n")


def _until(reached, *processes: int) -> None:
    while not reached():
        for process in processes:
            found, status = os.waitpid(process, os.WNOHANG)
            assert found == 0, f"ended with {status} before it was killed"
        time.sleep(0.002)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--raters", type=int, default=50)
    parser.add_argument("--labels", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vrn-kill-") as made:
        for said in kill_and_compare(
            pathlib.Path(made), flags.raters, flags.labels, flags.kills, flags.seed
        ):
            print(f"{time.monotonic() - began:6.1f} s  {said}", flush=True)
