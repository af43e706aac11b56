"""Several devices and several processes: the same numbers, one set of files, and named failures."""

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

from data.errors import UserError
from launch import distributed, guard, lifeline
from nn.native import build
from tests.launch import programs
from tests.launch.trainers import CLASSIFIERS, GANS

TINY_GAN = (programs.TINY, "--config.gan.steps=6", "--config.gan.sample_every=6")
PEER_TIMEOUT = 16
SCRIPTS = programs.ROOT / "scripts"


def _port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _environment(devices):
    # Level 0 compiles in half the time; what is compared is the same on every mesh.
    flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
    return programs.environment() | {"XLA_FLAGS": flags}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A prepared work directory."""
    workdir = tmp_path_factory.mktemp("data") / "run"
    done = programs.run("prepare", *TINY_GAN, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    return workdir


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """Every trainer for 20 steps on 1 and 8 devices, and on 2 processes of 2 devices."""
    out = tmp_path_factory.mktemp("trained")
    command = [sys.executable, "-m", "tests.launch.trainers", str(data), str(out)]
    address = f"127.0.0.1:{_port()}"
    runs = {"1,8": (8, [[]]), "4": (2, [[address, "2", str(i)] for i in range(2)])}
    for meshes, (devices, processes) in runs.items():
        started = [
            subprocess.Popen(
                [*command, meshes, *more], cwd=programs.ROOT, env=_environment(devices),
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
            for more in processes
        ]  # fmt: skip
        try:
            outputs = [process.communicate(timeout=240)[0] for process in started]
        finally:
            for process in started:
                process.kill()
                process.communicate()
        for process, output in zip(started, outputs, strict=True):
            assert process.returncode == 0, output[-3000:]
    return out


@pytest.mark.parametrize("mesh", ["8", "4"])
@pytest.mark.parametrize("name", [*GANS, *CLASSIFIERS])
def test_twenty_steps_are_the_same_on_any_number_of_devices_and_processes(trained, mesh, name):
    """Metrics of every step, and every array by the norm of the difference.

    Single numbers may differ more: where a gradient nearly vanishes, Adam makes steps out of how it
    is rounded, and devices round sums over their own rows. The discriminator's last bias, a single
    number whose gradient is a difference of two nearly equal means, is given more for that.
    """
    one, other = (np.load(trained / m / name / "params.npz") for m in ("1", mesh))
    for key, expected in one.items():
        limit = 1e-4 if "realness" in key and "bias" in key else 1e-5
        scale = max(np.linalg.norm(expected), 1e-6)
        assert np.linalg.norm(other[key] - expected) <= limit * scale, key
    lines, others = (
        json.loads((trained / m / name / "report.json").read_text())["metrics"] for m in ("1", mesh)
    )
    assert len(lines) == len(others) == 20
    for line, theirs in zip(lines, others, strict=True):
        for metric, value in line.items():
            assert theirs[metric] == pytest.approx(value, rel=1e-5, abs=1e-5), metric


@pytest.mark.parametrize("mesh", ["8", "4"])
@pytest.mark.parametrize("name", [*GANS, *CLASSIFIERS])
def test_a_step_sends_each_gradient_once_and_a_few_numbers(trained, mesh, name):
    arrays = np.load(trained / mesh / name / "params.npz")
    critics = GANS[name].get("n_critic", 1) if name in GANS else 1
    # A block adds its shortcut to its result, so the shifts of their last norms have one gradient.
    # XLA sends it once where it computes both and arrays are not joined before it looks.
    seen = mesh == "8" and not build.computes(jnp.float32)
    once = ("['GroupNorm_2']['shift']",) if seen else ()
    gradients = sum(
        4 * value.size * (critics if key.startswith("['d']") else 1)
        for key, value in arrays.items()
        if not key.startswith("['ema']") and not key.endswith(once)
    )
    sent = json.loads((trained / mesh / name / "report.json").read_text())["collectives"]
    assert {one["name"] for one in sent} == {"all-reduce"}
    if mesh == "4":  # two processes, to which every array of its own is a message
        assert [len(one["arrays"]) for one in sent] == [1] * (critics + 1 if name in GANS else 1)
    metrics = sum(one["bytes"] for one in sent) - gradients
    assert 0 <= metrics <= 64


def test_two_processes_train_the_network_of_one(data, tmp_path):
    for count in (1, 2):
        workdir = tmp_path / str(count)
        workdir.mkdir()
        (workdir / "data").symlink_to(data / "data")
        done = subprocess.run(
            [SCRIPTS / "run_local.sh", str(count), "train_gan", *TINY_GAN, f"--workdir={workdir}"],
            cwd=programs.ROOT, env=programs.environment() | {"PYTHON": sys.executable},
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        assert done.stdout.strip().splitlines()[-1] == str(workdir / "gan")
    one, two = ((tmp_path / str(count) / "gan") for count in (1, 2))
    ignored = re.compile(r"process_\d|ocdbt|array_metadatas|/d/|commit|_sharding|\.json$")
    files = [
        {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
        for folder in (one, two)
    ]
    assert {f for f in files[0] if not ignored.search(f)} == {
        f for f in files[1] if not ignored.search(f)
    }
    assert "samples/0000006.png" in files[1]
    record = json.loads((two / "stage.json").read_text())
    assert record["status"] == "complete"
    assert record["device"].startswith("2 x cpu")
    lines = [(folder / "metrics.jsonl").read_text().splitlines() for folder in (one, two)]
    assert len(lines[0]) == len(lines[1]) > 0
    for a, b in zip(*(map(json.loads, part) for part in lines), strict=True):
        assert a == pytest.approx(b, rel=1e-5, abs=1e-5)
    # What two processes saved, one opens.
    done = programs.run("generate", "--pool=second", *TINY_GAN, f"--workdir={two.parent}")
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("index", "blow", "within", "words"),
    [
        (1, signal.SIGKILL, 10, "process 1 died"),
        (1, signal.SIGSTOP, PEER_TIMEOUT, "process 1 gave no sign of life"),
        (0, signal.SIGSTOP, PEER_TIMEOUT, "process 0 gave no sign of life"),
    ],
)
def test_a_killed_or_hung_process_is_named_by_the_other(data, tmp_path, index, blow, within, words):
    (tmp_path / "data").symlink_to(data / "data")
    address, running = f"127.0.0.1:{_port()}", []
    for i in range(2):
        running.append(
            programs.start(
                "train_gan", programs.TINY, "--config.gan.steps=100000", f"--workdir={tmp_path}",
                "--config.gan.checkpoint_every=5", f"--coordinator={address}", "--num_processes=2",
                f"--process_id={i}", f"--peer_timeout={PEER_TIMEOUT}", log=tmp_path / f"{i}.log",
            )
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 200
        while not (tmp_path / "gan" / "checkpoints" / "5").exists():
            assert time.monotonic() < deadline, (tmp_path / "0.log").read_text()[-2000:]
            time.sleep(0.1)
        began = time.monotonic()
        running[index].send_signal(blow)
        assert running[1 - index].wait(timeout=30) == distributed.PEER_LOST
        assert time.monotonic() - began < within
    finally:
        for process in running:
            process.kill()
            process.wait()
    assert f"error: {words}" in (tmp_path / f"{1 - index}.log").read_text()


@pytest.mark.parametrize(
    ("index", "words"),
    [(0, "process 1 of 2 did not come to"), (1, "process 0 of 2 did not answer process 1")],
)
def test_a_process_that_does_not_come_is_named(tmp_path, index, words):
    done = programs.run(
        "prepare", programs.TINY, f"--workdir={tmp_path}", f"--coordinator=127.0.0.1:{_port()}",
        "--num_processes=2", f"--process_id={index}", "--init_timeout=2",
    )  # fmt: skip
    assert done.returncode == distributed.PEER_LOST
    assert words in done.stderr
    assert "within 2 s" in done.stderr
    assert not list(tmp_path.iterdir())


def _call(address, count, index, timeout=10.0, lost=lambda news: None):
    return lifeline.call(address, count, index, timeout, 60, lost)


def test_the_roll_call_names_all_who_are_missing_to_all_who_came():
    address, sentences = f"127.0.0.1:{_port()}", {}

    def come(index):
        try:
            _call(address, 4, index, timeout=1.5)
        except lifeline.AbsentError as error:
            sentences[index] = str(error)

    threads = [threading.Thread(target=come, args=(index,)) for index in (0, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sentences[0] == sentences[2]
    assert "process 1, 3 of 4 did not come" in sentences[0]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UserError("no such file"), "^no such file"),
        (guard.NotFiniteError(5, 2, "loss not finite"), "^NotFiniteError: loss not finite for 2"),
    ],
)
def test_what_process_0_raises_all_raise(monkeypatch, error, words):
    sent = []

    def broadcast(message):
        sent.append(message)
        return sent[0]

    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(distributed, "barrier", lambda name: None)
    monkeypatch.setattr(distributed, "_broadcast", broadcast)

    def call():
        raise error

    with pytest.raises(type(error)) as raised:
        distributed.on_main(call)
    assert raised.value is error
    assert raised.traceback[-1].name == "call"
    monkeypatch.setattr(distributed, "is_main", lambda: False)
    with pytest.raises((UserError, RuntimeError), match=words):
        distributed.on_main(call)


@pytest.mark.parametrize("words", [b"hello 1\n", b"hello one 2\n", b"\n", b"x" * 70000])
def test_whoever_does_not_greet_properly_is_sent_away(words):
    port = _port()
    with ThreadPoolExecutor(2) as pool:
        zero = pool.submit(_call, f"127.0.0.1:{port}", 2, 0)
        with _connected(port) as stranger, contextlib.suppress(ConnectionError):
            stranger.sendall(words)
            assert stranger.recv(1) == b""
        one = pool.submit(_call, f"127.0.0.1:{port}", 2, 1)
        lines = [zero.result(), one.result()]
    for line in reversed(lines):
        line.leave()
    for line in lines:
        line._watch.join(5)


def test_a_process_tries_again_when_something_else_answers():
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        one = pool.submit(_call, f"127.0.0.1:{listener.getsockname()[1]}", 2, 1)
        for answer in (b"HTTP/1.1 400 Bad Request\r\n", b"go \n"):
            peer, _ = listener.accept()
            with peer:
                peer.sendall(answer)
                line = one.result(10) if answer.startswith(b"go") else None
        line.leave()
        line._watch.join(5)


def _connected(port):
    deadline = time.monotonic() + 10
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=10)
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_news_reaches_every_process_and_an_orderly_end_is_none():
    for stop, expected in (
        ("process 2 ended", {0: "process 2 ended", 1: "process 2 ended"}),
        ("", {}),
    ):
        address, lines, news = f"127.0.0.1:{_port()}", {}, {}

        def come(index, address=address, lines=lines, news=news):
            tell = lambda text: news.setdefault(index, text)  # noqa: E731
            lines[index] = _call(address, 3, index, lost=tell)

        threads = [threading.Thread(target=come, args=(index,)) for index in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        lines[2].leave(stop)
        deadline = time.monotonic() + 8
        while len(news) < len(expected) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert news == expected
        for index in (1, 0):
            lines[index].leave()
        for line in lines.values():
            line._watch.join(5)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--coordinator=host:1"], "--num_processes is missing"),
        (["--distributed=auto"], "no SLURM step"),
        (
            ["--coordinator=h:1", "--num_processes=2", "--process_id=2"],
            "--process_id=2 is too large",
        ),
        (["--coordinator=h", "--num_processes=2", "--process_id=1"], "--coordinator=h has no port"),
    ],
)
def test_flags_that_cannot_be_are_explained(tmp_path, flags, words):
    done = programs.run("prepare", programs.TINY, f"--workdir={tmp_path}", *flags)
    assert done.returncode == 2
    assert words in done.stderr


def test_a_slurm_step_is_found(monkeypatch):
    variables = {
        "SLURM_JOB_ID": "70000", "SLURM_STEP_NODELIST": "node[003-004]", "SLURM_NTASKS": "8",
        "SLURM_PROCID": "5", "SLURM_LOCALID": "1",
    }  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for flag, value in (("MODE", "auto"), ("COORDINATOR", None), ("NUM_PROCESSES", None),
                        ("PROCESS_ID", None), ("INIT_TIMEOUT", 5)):  # fmt: skip
        monkeypatch.setattr(distributed, flag, SimpleNamespace(value=value))
    address, count, index = distributed._find()
    assert re.fullmatch(r"node003:\d+", address)
    assert (count, index) == (8, 5)


def test_scripts_are_well_formed():
    for script in (*SCRIPTS.glob("*.sh"), *SCRIPTS.glob("*.sbatch")):
        assert subprocess.run(["bash", "-n", script], check=False).returncode == 0, script
    service, job = yaml.safe_load_all((SCRIPTS / "kubernetes.yaml").read_text())
    assert service["spec"]["clusterIP"] == "None"
    pod = job["spec"]["template"]["spec"]
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == job["spec"]["template"]["metadata"]["labels"]
    (line,) = pod["containers"][0]["args"]
    name, count = job["metadata"]["name"], job["spec"]["completions"]
    assert f"--coordinator={name}-0.{pod['subdomain']}:" in line
    assert f"--num_processes={count} " in line
    assert job["spec"]["parallelism"] == count
    rules = job["spec"]["podFailurePolicy"]["rules"]
    codes = {r["action"]: r["onExitCodes"]["values"] for r in rules if "onExitCodes" in r}
    assert codes == {"FailJob": [2], "Ignore": [distributed.PEER_LOST]}
    assert pod["restartPolicy"] == "Never"  # the policy is refused with any other
