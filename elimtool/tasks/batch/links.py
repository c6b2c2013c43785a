"""Notice that a part of a Ray cluster that a run needs is gone, before Ray ends this process."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any, TypeVar

from elimtool.errors import ElimError, Exit
from elimtool.tasks.batch.state import AGAIN

T = TypeVar("T")

GONE_AFTER = 10.0
"""Seconds without an answer after which a link is gone; Ray waits 60, then ends the process with 1."""
EVERY = 2.0
"""Seconds between two looks at an address, and within which it must answer."""

HEAD = "the head node of the Ray cluster"
NODE = "the Ray node that this command joined"


@dataclass
class _Link:
    what: str
    address: str
    silent_since: float
    answers: bool = True


class RayLinks:
    """What a run on a Ray cluster cannot do without: its head node, and the node that was joined.

    Args:
        head: HOST:PORT of the control store; ``None`` if it is not known, and then never gone.
        clock: Returns the time in seconds.

    Attributes:
        gone: Whether ``check`` found that one is gone; calls of Ray may then wait for ever.
    """

    def __init__(self, head: str | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = clock()
        self._links: list[_Link] = []
        self.gone = False
        self.add(HEAD, head)

    def add(self, what: str, address: str | None) -> None:
        """Look at one more address, ``HOST:PORT``, from now on."""
        if address is not None:
            self._links.append(_Link(what, address, self._clock()))

    def check(self) -> None:
        """Look whether all answer, at most every ``EVERY`` seconds.

        Raises:
            ElimError: One has not for ``GONE_AFTER`` seconds.
        """
        if self._clock() < self._next:
            return
        for link in self._links:
            self._look(link)
        self._next = self._clock() + EVERY

    def _look(self, link: _Link) -> None:
        before, link.answers = link.answers, answers(link.address)
        now = self._clock()
        if before:
            link.silent_since = now
        silence = now - link.silent_since
        if not link.answers and silence >= GONE_AFTER:
            self.gone = True
            raise ElimError(
                f"{link.what} at {link.address} is gone: it has not answered for {silence:.0f} s",
                f"what was finished is kept; start the cluster again, then {AGAIN}",
                Exit.PARTIAL,
            )

    def during(self, call: Callable[[], T]) -> T:
        """Return what a call of Ray returns, and look at the links while it lasts.

        The call has a thread of its own: where the head node is gone it waits for a minute, then ends
        the process with 1.

        Raises:
            ElimError: As ``check``. What the call raises is raised as well.
        """
        answer: Future[T] = Future()

        def work() -> None:
            try:
                answer.set_result(call())
            except BaseException as error:
                answer.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        while not wait([answer], EVERY).done:
            self.check()
        return answer.result()


def links_of(ray: Any) -> RayLinks:
    """Find what the connection of ``ray`` hangs on.

    Raises:
        ElimError: The head node is gone.
    """
    context = ray.get_runtime_context()
    links = RayLinks(getattr(context, "gcs_address", None))
    for node in links.during(ray.nodes):
        if node["NodeID"] == context.get_node_id():
            links.add(NODE, f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}")
    return links


def answers(address: str) -> bool:
    """Whether something listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=EVERY):
            return True
    except OSError:
        return False


def is_here(address: str) -> bool:
    """Whether HOST:PORT is on this machine: nobody can bind the address of another."""
    host, _, _ = address.rpartition(":")
    try:
        family, kind, _, _, place = socket.getaddrinfo(host.strip("[]"), 0, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as own:
            own.bind(place)
    except OSError:
        return False
    return True
