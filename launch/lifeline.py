"""A line from every process to process 0: who has come, and who has died, by name and at once.

JAX's runtime ends a process from C++ when a peer is late or dead, and only after its heartbeat has
timed out. This line is there before it: process 0 calls the roll on the coordinator's port, frees
the port for JAX, and keeps the connections. The kernel closes the connection of a process that
dies; one that hangs, or whose host vanishes, sends no more beats. Plain sockets, no JAX.
"""

import contextlib
import re
import selectors
import socket
import threading
import time
from collections.abc import Callable

from data.errors import UserError

_RETRY = 0.1  # seconds between two tries to reach process 0
_PAUSE = 1.0  # seconds in which a process may end by itself, of the same error
_GRACE = 3.0  # seconds that process 0 stays for the others to end
_LONGEST = 65536  # bytes of a line; a longer one is of another program
_BEATS = 8  # in the time after which silence is death
_MISSED = 6  # of them in a row: the others have ended before that time is over
_GO, _REFUSED, _ABSENT, _STOP, _BYE, _BEAT = "go", "refused", "absent", "stop", "bye", "beat"


class AbsentError(Exception):
    """Somebody did not come in time; the same command may succeed when it is given again."""


_ERRORS = {_REFUSED: UserError, _ABSENT: AbsentError}
Lost = Callable[[str], None]


class Lifeline:
    """The connections of one process, after the roll call.

    Args:
      index: of this process.
      peers: process 0 has one of every other process, the others have that of process 0.
      silence: seconds within which a process that gives no sign of life counts as lost.
      lost: called once, from a thread, with a sentence that names the process that ended first.
    """

    def __init__(self, index: int, peers: dict[int, socket.socket], silence: float, lost: Lost):
        self._index, self._peers, self._lost = index, peers, lost
        self._beat = silence / _BEATS
        self._leaving = False
        self._watch = threading.Thread(target=self._run, name="lifeline", daemon=True)
        self._watch.start()

    def leave(self, stop: str = "") -> None:
        """Ends the watch.

        Args:
          stop: a sentence for the others, who then stop too; "" for an orderly end.
        """
        self._leaving = True
        self._tell(f"{_STOP} {stop}" if stop else _BYE)
        # JAX aborts the others when process 0, its coordinator, is gone.
        if stop and self._index == 0:
            self._watch.join(_GRACE)

    def _run(self) -> None:
        with contextlib.ExitStack() as stack:
            selector = stack.enter_context(selectors.DefaultSelector())
            for index, peer in self._peers.items():
                selector.register(stack.enter_context(peer), selectors.EVENT_READ, index)
            news, stopped = self._listen(selector, None)
            if not news:
                return
            self._tell(f"{_STOP} {news}")
            if stopped:
                time.sleep(_PAUSE)
            if self._index == 0:
                self._listen(selector, time.monotonic() + _GRACE)
            if not self._leaving:
                self._lost(news)

    def _listen(self, selector: selectors.BaseSelector, until: float | None) -> tuple[str, bool]:
        """The first news, and whether its process told it; with a deadline, awaits all ends."""
        missed = dict.fromkeys(self._peers, 0)
        beat = time.monotonic()
        while selector.get_map():
            now = time.monotonic()
            if until is not None and now >= until:
                break
            if now >= beat:
                beat = now + self._beat
                self._tell(_BEAT)
                for key in list(selector.get_map().values()):
                    # Beats are counted, not seconds: whoever was stopped himself blames nobody.
                    missed[key.data] += 1
                    if missed[key.data] > _MISSED and until is None and not self._leaving:
                        selector.unregister(key.fileobj)
                        return _silence(key.data, _MISSED * self._beat), False
            for key, _ in selector.select(min(beat, until or beat) - now):
                word, _, text = _receive(key.fileobj, None).partition(" ")
                missed[key.data] = 0
                if word == _BEAT:
                    continue
                selector.unregister(key.fileobj)
                if until is None and not self._leaving and word != _BYE:
                    return (text, True) if word == _STOP else (_death(key.data), False)
        return "", False

    def _tell(self, line: str) -> None:
        for peer in self._peers.values():
            _send(peer, line)


def call(address: str, count: int, index: int, timeout: float, silence: float, lost: Lost):
    """Waits until all processes have come.

    Args:
      address: HOST:PORT of process 0, free until this returns and again afterwards.
      count: number of processes.
      index: of this one.
      timeout: seconds that process 0 waits for the others, and each of them for it.
      silence: see `Lifeline`.
      lost: see `Lifeline`.

    Returns:
      The `Lifeline`.

    Raises:
      AbsentError: somebody did not come in time; the same sentence in all who did.
      UserError: two came with one id or with different counts; the same sentence in all.
    """
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + timeout
    if index == 0:
        peers = _assemble(int(port), address, count, timeout, deadline)
    else:
        peers = {0: _report(host, int(port), count, index, timeout, deadline)}
    return Lifeline(index, peers, silence, lost)


def _assemble(
    port: int, address: str, count: int, timeout: float, deadline: float
) -> dict[int, socket.socket]:
    """Process 0: the connection of every other process."""
    peers: dict[int, socket.socket] = {}
    word, refusal = _GO, ""
    try:
        listener = socket.create_server(("", port), backlog=count)
    except OSError as error:
        raise UserError(
            f"--coordinator={address}: process 0 cannot listen there ({error.strerror}); give an "
            "address of its host and a free port"
        ) from error
    with listener:
        while len(peers) < count - 1 and not refusal:
            left = deadline - time.monotonic()
            if left <= 0:
                word = _ABSENT
                missing = [str(i) for i in range(1, count) if i not in peers]
                refusal = (
                    f"process {', '.join(missing)} of {count} did not come to {address} within "
                    f"{timeout:g} s; see its log, or raise --init_timeout"
                )
                break
            listener.settimeout(left)
            with contextlib.suppress(TimeoutError):
                peer, _ = listener.accept()
                hello = re.fullmatch("hello ([0-9]{1,9}) ([0-9]{1,9})", _receive(peer, 5.0))
                if hello is None:
                    peer.close()  # a port scanner, or a process of another program
                    continue
                other, theirs = map(int, hello.groups())
                if theirs != count or not 0 < other < count or other in peers:
                    word = _REFUSED
                    refusal = (
                        f"a process came with --process_id={other} --num_processes={theirs}, but "
                        f"there are {count} and each id comes once; mend its flags"
                    )
                    _send(peer, f"{word} {refusal}")
                    peer.close()
                else:
                    peers[other] = peer
    for peer in peers.values():
        _send(peer, f"{word} {refusal}")
    if refusal:
        for peer in peers.values():
            peer.close()
        raise _ERRORS[word](refusal)
    return peers


def _report(
    host: str, port: int, count: int, index: int, timeout: float, deadline: float
) -> socket.socket:
    """Every other process: its connection to process 0."""
    absent = AbsentError(
        f"process 0 of {count} did not answer process {index} at {host}:{port} within {timeout:g} "
        "s; see its log, check --coordinator, or raise --init_timeout"
    )
    while True:
        with contextlib.suppress(OSError):
            peer = socket.create_connection((host, port), timeout=1.0)
            _send(peer, f"hello {index} {count}")
            # Process 0 may have begun to wait later; it answers when its own time is over.
            word, _, text = _receive(peer, timeout + 5).partition(" ")
            if word == _GO:
                return peer
            peer.close()
            if word in _ERRORS:
                raise _ERRORS[word](text)
        if time.monotonic() > deadline:
            raise absent
        time.sleep(_RETRY)


def _death(index: int) -> str:
    return f"process {index} died; see its log. The same command goes on from the last checkpoint"


def _silence(index: int, seconds: float) -> str:
    return (
        f"process {index} gave no sign of life for {seconds:g} s; it hangs or its host is gone. "
        "The same command goes on from the last checkpoint"
    )


def _send(peer: socket.socket, line: str) -> None:
    with contextlib.suppress(OSError):
        peer.sendall(f"{line}\n".encode())


def _receive(peer: socket.socket, timeout: float | None) -> str:
    """One line; "?" where the connection ended, or nothing came, or no end of a line."""
    peer.settimeout(timeout)
    line = b""
    with contextlib.suppress(OSError):
        while not line.endswith(b"\n"):
            more = peer.recv(1)
            if not more or len(line) == _LONGEST:
                return "?"
            line += more
        return line.decode(errors="replace").strip()
    return "?"
