"""Refuse requests that the server's page did not send: of other sites, to other names, without a token."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Any

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
LOCAL = ("127.0.0.1", "localhost", "[::1]")
"""Names of this machine that a browser may send as Host."""

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Guard:
    """Refuses a request unless it has the token, and a Host and an Origin that are this server's.

    Host is checked since another site's name may be made to point here (DNS rebinding), Origin since another
    site's page may send requests here. It stands before everything else that is served.

    Args:
        app: What is served.
        token: First part of every path.
        hosts: Hosts, with their port, by which the server may be asked for.
    """

    def __init__(self, app: Any, token: str, hosts: frozenset[str]) -> None:
        self.app = app
        self.token = token
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        refused = self._refused(scope)
        if refused:
            await _plain(send, *refused)
            return
        inner = {**scope, "path": scope["path"][len(self.token) + 1 :] or "/", "raw_path": None}

        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                own = [(key.lower().encode(), value.encode()) for key, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *own]}
            await send(message)

        await self.app(inner, receive, with_headers)

    def _refused(self, scope: Scope) -> tuple[int, str] | None:
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope.get("headers", [])}
        if scope["type"] != "http":
            return 404, "there is nothing here"
        if headers.get("host", "") not in self.hosts:
            return 421, "this server is asked for by another name: use the address that it printed"
        origin = headers.get("origin")
        if origin is not None and origin not in {f"http://{host}" for host in self.hosts}:
            return 403, "a page of another site may not ask here"
        given = scope["path"].removeprefix("/").partition("/")[0]
        if not secrets.compare_digest(given.encode(), self.token.encode()):
            return 403, "the address lacks the token: use the one that the server printed"
        if scope["method"] == "POST" and headers.get("content-type", "").split(";")[0] != "application/json":
            return 415, "requests are JSON"
        return None


async def _plain(send: Send, status: int, text: str) -> None:
    own = [(key.lower().encode(), value.encode()) for key, value in HEADERS.items()]
    own.append((b"content-type", b"text/plain; charset=utf-8"))
    await send({"type": "http.response.start", "status": status, "headers": own})
    await send({"type": "http.response.body", "body": text.encode()})


def hosts_of(host: str, port: int) -> frozenset[str]:
    """Hosts by which a server may be asked for: its own, and if it is this machine's, all names of that."""
    names = LOCAL if host in ("127.0.0.1", "localhost", "::1") else (*LOCAL, host)
    return frozenset(f"{name}:{port}" for name in names)
