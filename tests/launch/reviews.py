"""Work directories to review, and the server as a user starts it."""

import contextlib
import dataclasses
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import requests
import uvicorn

from configs import digits
from data import pools, records, tables
from launch.review import serving as serving_room
from tests.launch import programs
from tests.pool_writer import PoolWriter
from vrn.review import access

CONFIG = "--config=configs/digits.py"


def make(
    workdir: pathlib.Path,
    *,
    count: int = 80,
    shape: tuple[int, ...] = (16, 16, 1),
    dtype: type = np.uint8,
    reals: int = 40,
) -> pathlib.Path:
    """Fills `workdir` with what a review needs: real images and a first pool, all different.

    Image i is a gradient with a bright square whose place tells i; slices of a volume differ too.
    """
    rng = np.random.default_rng(0)

    def images(first: int, number: int) -> np.ndarray:
        ramp = np.linspace(-0.9, -0.3, shape[-2], dtype=np.float32)
        made = np.broadcast_to(ramp[:, None], (number, *shape)).copy()
        side = max(2, shape[-2] // 5)
        for i in range(number):
            row, column = rng.integers(0, shape[-2] - side, 2)
            made[i, ..., row : row + side, column : column + side, :] = 0.2 + (first + i) % 50 / 100
            if len(shape) == 4:
                made[i] += np.linspace(-0.09, 0.25, shape[0], dtype=np.float32)[:, None, None, None]
        return made

    classes = ("0", "1")
    val = records.ArrayRecords(
        records.from_unit(images(0, reals), dtype), np.arange(reals) % 2,
        [f"real-{i}" for i in range(reals)], classes,
    )  # fmt: skip
    train = records.ArrayRecords(val.images[:2], [0, 1], ["t0", "t1"], classes)
    records.write_records(workdir / "data", {"train": train, "val": val}, name="real")
    with PoolWriter(
        workdir / "pools" / "first", class_names=classes, image_shape=shape, dtype=dtype,
        checkpoint_digest="c0ffee" * 6, data_digest="d" * 40,
    ) as writer:  # fmt: skip
        for start in range(0, count, 64):
            rows = np.arange(start, min(start + 64, count))
            writer.write(images(7 + start, len(rows)), rows % 2, rows)
    for name in ("data", "pools/first"):
        record = {"stage": name, "status": "complete", "digest": name, "facts": {}}
        tables.write_json(workdir / name / "stage.json", record)
    return workdir


def pool(workdir: pathlib.Path) -> pools.Pool:
    return pools.open_pool(workdir / "pools" / "first")


class Server:
    """A running `python -m launch.review`.

    Attributes:
      process: of the program.
      addresses: rater, or `statistics`, to the address with the token.
      url: without.
    """

    def __init__(self, workdir: pathlib.Path, *flags: str, port: int = 0) -> None:
        self._log = (workdir / "review.log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "launch.review", CONFIG, f"--workdir={workdir}",
             f"--port={port}", *flags],
            cwd=programs.ROOT, env=programs.environment(), stdout=self._log,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        end = time.monotonic() + 120
        while "Ctrl-C" not in self.log:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < end, self.log
            time.sleep(0.05)
        self.addresses = dict(re.findall(r"^(\S+): (http\S+)", self.log, re.MULTILINE))
        self.url = self.addresses["statistics"].partition("/lead/")[0]
        self.port = int(self.url.rpartition(":")[2])
        self.answers()

    @property
    def log(self) -> str:
        return pathlib.Path(self._log.name).read_text()

    def answers(self) -> None:
        """Waits until it does."""
        for _ in range(200):
            with contextlib.suppress(requests.ConnectionError):
                requests.get(self.url, timeout=5)
                return
            time.sleep(0.05)
        raise AssertionError(self.log)

    def stop(self, how: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(how)
        code = self.process.wait(timeout=60)
        self._log.close()
        return code


@contextlib.contextmanager
def serving(workdir: pathlib.Path, *flags: str, port: int = 0) -> Iterator[Server]:
    server = Server(workdir, *flags, port=port)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop(signal.SIGKILL)


class Here:
    """The same server in a thread of this process, which begins at once.

    Attributes: as `Server`, and `service`: what is served.
    """

    def __init__(self, workdir: pathlib.Path, **review: object) -> None:
        self._config = digits.get_config()
        self._config.review.update(review)
        self._workdir, self.port = workdir, 0
        self.start()

    def start(self) -> None:
        """Starts it, on the port that it had."""
        self.service = serving_room.service(self._config, self._workdir, "127.0.0.1")
        listener = serving_room._listen("127.0.0.1", self.port)
        self.port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        names = {who: "statistics" if who == "lead" else who for who in self.service.queries}
        self.addresses = {
            names[who]: self.url + query for who, query in self.service.queries.items()
        }
        self._server = uvicorn.Server(serving_room.OPTIONS(self.service.app, lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]})
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(30)
        self.service.study.store.close()


@contextlib.contextmanager
def here(workdir: pathlib.Path, **review: object) -> Iterator[Here]:
    server = Here(workdir, **review)
    try:
        yield server
    finally:
        server.stop()


@dataclasses.dataclass(frozen=True)
class Person:
    """Somebody who has opened their address.

    Attributes:
      session: with the cookie.
      csrf: the cross-site word of the page; '' of the lead's.
      url: of the page.
    """

    session: requests.Session
    csrf: str
    url: str

    def get(self, path: str = "", **options: object) -> requests.Response:
        return self.session.get(self.url + path, timeout=60, **options)

    def post(self, body: object, **headers: str) -> requests.Response:
        headers = {access.CSRF_HEADER: self.csrf} | headers
        return self.session.post(f"{self.url}api/labels", json=body, headers=headers, timeout=60)

    def queue(self) -> dict[str, Any]:
        return self.get("api/queue").json()


def log_in(server: Server | Here, who: str) -> Person:
    """A rater, or `statistics`: the lead."""
    session = requests.Session()
    answer = session.get(server.addresses[who], timeout=60)
    assert answer.status_code == 200, answer.text
    found = re.search(r'name="csrf" content="(\w+)"', answer.text)
    return Person(session, found[1] if found else "", answer.url)
