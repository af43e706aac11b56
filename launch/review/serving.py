"""Serves a study until it is told to stop."""

import ipaddress
import pathlib
import socket

import ml_collections
import uvicorn

from data.errors import UserError
from launch import cli
from launch.report.results import without_nan
from launch.review import numbers, opening, page
from vrn.review import access, server, study

LOOPBACK = ("127.0.0.1", "localhost", "::1")
ORDERS = ("random", "active")


def serve(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, host: str, port: int
) -> pathlib.Path:
    """Prints the addresses of the raters and the lead, and serves; returns the store's folder."""
    if config.review.order not in ORDERS:
        raise UserError(
            f"--config.review.order={config.review.order!r}: choose from {', '.join(ORDERS)}."
        )
    listener = _listen(host, port)
    host_in_address = f"[{host}]" if ":" in host else host
    address = f"http://{host_in_address}:{listener.getsockname()[1]}"
    pool, real = opening.images(config, workdir)
    active = config.review.order == "active"
    uncertainty = opening.uncertainty(config, workdir, pool) if active else {}
    opened = opening.open_study(config, workdir, pool, real)
    gallery, secret = opening.gallery(workdir, pool, real)
    keys = access.Keys(secret, opened.name)

    def statistics() -> tuple[str, dict]:
        found = without_nan(numbers.gather(config, workdir, opened))
        return page.render(found, workdir.resolve().name), found

    desk = server.Desk(opened, gallery, keys, tuple(config.review.faults), uncertainty, statistics)
    app = server.application(desk, {*LOOPBACK, host})
    for rater in opened.settings.raters:
        done = len(opened.store.current(opened.name, rater))
        total = len(opened.store.tasks(opened.name, rater))
        cli.say(f"{rater}: {address}/?token={keys.token(rater)}  ({done} of {total})")
    cli.say(f"statistics: {address}/?token={keys.token(study.LEAD)}")
    if not _is_loopback(host):
        cli.say(
            f"warning: other machines reach {address}, unencrypted; an SSH tunnel to loopback is "
            "safer (docs/review.md)"
        )
    cli.say("Ctrl-C ends it; every label is on disk before the page says so.")
    options = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_keep_alive=75,
        timeout_graceful_shutdown=5,
    )  # fmt: skip
    uvicorn.Server(options).run(sockets=[listener])
    opened.store.close()
    return workdir / opening.FOLDER


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket; opened first, so that a port in use is told before anything is read."""
    try:
        family, kind, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(256)
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
