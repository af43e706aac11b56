"""Who may ask the server for what: tokens and cookies, cross-site requests, headers, sizes.

Every rater has an address of their own, with a token that only the holder of the secret can make.
Opened once it becomes a cookie that scripts cannot read and other sites cannot send; the address is
then free of it. What changes anything must carry a second word that is only in the page.
"""

from __future__ import annotations

import hmac
import json
import os
import pathlib
import re
import secrets
from collections.abc import Collection, Sequence
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from data.errors import UserError

CSRF_HEADER = "x-csrf-token"
LARGEST_BODY = 1 << 20  # bytes; a thousand labels are a quarter of it
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}


def read_secret(path: pathlib.Path) -> bytes:
    """The secret of a run, made at the first call: 32 bytes that only their owner may read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        secret = path.read_bytes()
        if len(secret) != 32:
            raise UserError(
                f"{path} is damaged; delete it, and give the raters their new addresses."
            ) from None
        return secret
    with os.fdopen(descriptor, "wb") as file:
        file.write(secret := secrets.token_bytes(32))
        file.flush()
        os.fsync(descriptor)
    return secret


class Keys:
    """Tokens, cookies and cross-site words of one study, all derived from the secret."""

    def __init__(self, secret: bytes, study: str) -> None:
        """Keys of a study; another study of the same run has others."""
        self._secret, self._study = secret, study

    @property
    def cookie_name(self) -> str:
        """Of this study alone: browsers do not keep the cookies of one port from another's."""
        return "vrn_review_" + self._mac("name", "")[:16]

    def token(self, who: str) -> str:
        """What the address of a rater, or of the lead, carries."""
        return self._mac("token", who)

    def cookie(self, who: str) -> str:
        """What a browser that had the token carries from then on."""
        return self._mac("cookie", who)

    def csrf(self, who: str) -> str:
        """What requests that change something carry too."""
        return self._mac("csrf", who)

    def is_token(self, who: str, text: str) -> bool:
        """Whether `text` is the token of `who`."""
        return _same(text, self.token(who))

    def is_cookie(self, who: str, text: str) -> bool:
        """Whether `text` is the cookie of `who`."""
        return _same(text, self.cookie(who))

    def is_csrf(self, who: str, text: str) -> bool:
        """Whether `text` is the cross-site word of `who`."""
        return _same(text, self.csrf(who))

    def _mac(self, kind: str, who: str) -> str:
        text = f"{kind}\0{self._study}\0{who}".encode()
        return hmac.digest(self._secret, text, "sha256").hex()


def _same(given: str, right: str) -> bool:
    """Takes as long whatever was given."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), right.encode())


class Guard:
    """ASGI middleware: known hosts, own origin, small bodies, and headers on every answer."""

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        """Guards an application.

        Args:
          app: the application.
          hosts: names that requests may call this server by. Any other is refused, so that no
            foreign name that points here (DNS rebinding) reaches it.
        """
        self._app, self._hosts = app, {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes one request on, or refuses it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = _headers(scope["headers"])
        refused = self._refused(scope["method"], headers)
        if refused is not None:
            await _answer(_with_headers(send), *refused)
            return
        body = await _body(receive)
        if body is None:
            await _answer(_with_headers(send), 413, "The request is too large.")
            return
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def replay() -> Message:
            return next(messages, None) or await receive()

        await self._app(scope, replay, _with_headers(send))

    def _refused(self, method: str, headers: dict[str, list[str]]) -> tuple[int, str] | None:
        hosts = headers.get("host", [])
        if len(hosts) != 1 or _host(hosts[0]) not in self._hosts:
            return 421, "This server goes by another name."
        origins = headers.get("origin", [])
        if method not in ("GET", "HEAD") and any(
            urlsplit(origin).netloc.lower() != hosts[0].lower() for origin in origins
        ):
            return 403, "The request comes from another site."
        lengths = headers.get("content-length", ["0"])
        if not all(re.fullmatch("[0-9]{1,9}", n) and int(n) <= LARGEST_BODY for n in lengths):
            return 413, "The request is too large."
        return None


def _host(text: str) -> str:
    """The name in a Host header, without the port; '' where it is none."""
    try:
        return (urlsplit(f"//{text}").hostname or "").lower()
    except ValueError:
        return ""


def _headers(raw: Sequence[tuple[bytes, bytes]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in raw:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None where it is larger than allowed."""
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > LARGEST_BODY:
            return None
        more = message.get("more_body", False)
    return b"".join(parts)


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message["headers"]}
            message["headers"] = [
                *message["headers"],
                *(
                    (name.encode(), value.encode())
                    for name, value in HEADERS.items()
                    if name.encode() not in given
                ),
            ]
        await send(message)

    return sending


async def _answer(send: Send, status: int, detail: str) -> None:
    body = json.dumps({"detail": detail}).encode()
    headers: list[Any] = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
