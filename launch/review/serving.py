"""Serves a study until it is told to stop."""

import contextlib
import dataclasses
import functools
import ipaddress
import pathlib
import socket

import fastapi
import ml_collections
import uvicorn

from data.errors import UserError
from launch import cli
from launch.report.results import without_nan
from launch.review import numbers, opening, page
from vrn.review import access, server, study

LOOPBACK = ("127.0.0.1", "localhost", "::1")
ORDERS = ("random", "active")


@dataclasses.dataclass(frozen=True)
class Service:
    """A study that is ready to be served.

    Attributes:
      app: the web application.
      study: what it serves.
      queries: rater, or the lead, to what follows the address of the server.
    """

    app: fastapi.FastAPI
    study: study.Study
    queries: dict[str, str]


def service(config: ml_collections.ConfigDict, workdir: pathlib.Path, host: str) -> Service:
    """Opens the study of a run, or begins it.

    Args:
      config: experiment.
      workdir: with the pool.
      host: name that the server is called by, besides those of loopback.

    Raises:
      UserError: a setting is wrong, the pool is missing, or for the active order the VRN.
    """
    if config.review.order not in ORDERS:
        raise UserError(
            f"--config.review.order={config.review.order!r}: choose from {', '.join(ORDERS)}."
        )
    opening.rule(config)
    pool, real = opening.images(config, workdir)
    active = config.review.order == "active"
    uncertainty = opening.uncertainty(config, workdir, pool) if active else {}
    opened = opening.open_study(config, workdir, pool, real)
    gallery, secret = opening.gallery(workdir, pool, real)
    keys = access.Keys(secret, opened.name)

    def statistics() -> tuple[str, dict]:
        found = without_nan(numbers.gather(config, workdir, opened))
        return page.render(found, workdir.resolve().name), found

    faults = tuple(config.review.faults)
    desk = server.Desk(opened, gallery, keys, faults, uncertainty, statistics)
    people = (*opened.settings.raters, study.LEAD)
    return Service(
        server.application(desk, {*LOOPBACK, host}),
        opened,
        {who: f"/{who}/?token={keys.token(who)}" for who in people},
    )


def serve(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, host: str, port: int
) -> pathlib.Path:
    """Prints the addresses of the raters and the lead, and serves; returns the store's folder."""
    listener = _listen(host, port)
    host_in_address = f"[{host}]" if ":" in host else host
    address = f"http://{host_in_address}:{listener.getsockname()[1]}"
    ready = service(config, workdir, host)
    for rater in ready.study.settings.raters:
        done = len(ready.study.store.current(ready.study.name, rater))
        total = len(ready.study.store.tasks(ready.study.name, rater))
        cli.say(f"{rater}: {address}{ready.queries[rater]}  ({done} of {total})")
    cli.say(f"statistics: {address}{ready.queries[study.LEAD]}")
    if not _is_loopback(host):
        cli.say(
            f"warning: other machines reach {address}, unencrypted; an SSH tunnel to loopback is "
            "safer (docs/review.md)"
        )
    cli.say("Ctrl-C ends it; every label is on disk before the page says so.")
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn passes it on when it has ended
        uvicorn.Server(OPTIONS(ready.app)).run(sockets=[listener])
    ready.study.store.close()
    return workdir / opening.FOLDER


# Requests are not logged: the first of a rater has the token in it.
OPTIONS = functools.partial(
    uvicorn.Config, log_level="warning", access_log=False, server_header=False,
    timeout_keep_alive=75, timeout_graceful_shutdown=5,
)  # fmt: skip


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket; opened first, so that a port in use is told before anything is read."""
    try:
        family, kind, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(place)
            listener.listen(256)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise UserError(
            f"--host={host} --port={port}: {error.strerror}; give another --port or --host."
        ) from error
    return listener


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
