"""Start the server of ``elimtool explore``, say where it is, and serve until it is interrupted."""

from __future__ import annotations

import re
import secrets
import socket
import webbrowser
from collections.abc import Callable
from typing import Any

from elimtool.errors import ElimError
from elimtool.lenses.find import check_choice
from elimtool.model.interventions.recording import Recording
from elimtool.samplers.grammar import Grammar
from elimtool.tasks.explore.asked import Offered
from elimtool.tasks.explore.guard import hosts_of
from elimtool.tasks.explore.opened import OpenedComparison, OpenedRun
from elimtool.tasks.explore.server import INSTALL, application
from elimtool.tasks.explore.states import TracedStates
from elimtool.tasks.explore.work import JobQueue

TOKEN = re.compile(r"[A-Za-z0-9_-]{16,128}")
SECONDS = 3
"""Time that open requests get when the server is interrupted."""


def check_token(token: str) -> str:
    """Return a token that can stand in an address.

    Raises:
        ElimError: It is short or has other characters.
    """
    if not TOKEN.fullmatch(token):
        raise ElimError("`token` must be 16 to 128 letters, digits, - or _", "leave it out for a random one")
    return token


def serve(
    states: TracedStates,
    host: str,
    port: int,
    token: str | None,
    offered: Offered,
    browser: bool,
    tell: Callable[[str], None],
    opened: OpenedRun | OpenedComparison | None = None,
) -> None:
    """Serve until interrupted.

    Args:
        states: The model, loaded when it is first asked, and what is traced.
        host: Address to serve on.
        port: Port, 0 for any that is free.
        token: Secret part of the address; ``None`` for a random one.
        offered: Files and models that the page may name.
        browser: Whether to open the page.
        tell: Called with the address once it answers.
        opened: A finished run or comparison, which is shown first; ``None`` for none.

    Raises:
        ElimError: The address cannot be used, a file is not what it was named as, or a package is missing.
    """
    check_offered(offered)
    try:
        import uvicorn
    except ImportError as error:
        raise ElimError("`elimtool explore` needs starlette and uvicorn", INSTALL) from error
    bound = listening(host, port)
    port = bound.getsockname()[1]
    secret = token or secrets.token_urlsafe(24)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{port}/{secret}/" + ("run" if opened else "")
    tell(address)
    if browser:
        webbrowser.open(address)
    with JobQueue() as jobs:
        app = application(states, jobs, secret, hosts_of(host, port), offered, opened)
        settings = uvicorn.Config(
            app,
            log_level="warning",
            lifespan="off",
            timeout_graceful_shutdown=SECONDS,
            server_header=False,
            ws="none",
        )

        class Server(uvicorn.Server):
            def handle_exit(self, *given: Any) -> None:
                jobs.cancel()  # first, so that answers under way end by themselves
                super().handle_exit(*given)

        Server(settings).run(sockets=[bound])


def check_offered(offered: Offered) -> None:
    """Read what was named at the start, so that a wrong name is said before anything is served.

    Raises:
        ElimError: A lens, a grammar or a recording cannot be used.
    """
    for lens in offered.lenses:
        check_choice(lens)
    for grammar in offered.grammars:
        Grammar(grammar)
    for recording in offered.recordings:
        Recording.load(recording)


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        ElimError: The address is not this machine's, or in use.
    """
    try:
        family, kind, proto, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(family, kind, proto)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(where)
    except OSError as error:
        raise ElimError(
            f"cannot serve on {host}, port {port}: {error.strerror or error}",
            "give another `host` or `port`, or leave both out",
        ) from error
    made.listen()
    return made
