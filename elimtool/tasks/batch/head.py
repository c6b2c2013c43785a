"""Notice that the head node of a Ray cluster is gone, before Ray ends this process."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

from elimtool.errors import ElimError, Exit
from elimtool.tasks.batch.state import AGAIN

GONE_AFTER = 10.0
"""Seconds without an answer after which the head node is gone; Ray waits 60, then ends the process with 1."""
EVERY = 2.0
"""Seconds between two looks at an address, and within which it must answer."""


class RayHead:
    """The head node of the cluster that this process is connected to.

    Args:
        address: HOST:PORT of its control store; ``None`` if it is not known, and then never gone.
        clock: Returns the time in seconds.

    Attributes:
        is_gone: Whether ``check`` found that it is gone; calls of Ray may then wait for ever.
    """

    def __init__(self, address: str | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.address = address
        self._clock = clock
        self._next = self._silent_since = clock()
        self._answers = True
        self.is_gone = False

    def check(self) -> None:
        """Look whether the head node answers, at most every ``EVERY`` seconds.

        Raises:
            ElimError: It has not for ``GONE_AFTER`` seconds.
        """
        if self.address is None or self._clock() < self._next:
            return
        before, self._answers = self._answers, answers(self.address)
        now = self._clock()
        self._next = now + EVERY
        if before:
            self._silent_since = now
        self.is_gone = not self._answers and now - self._silent_since >= GONE_AFTER
        if self.is_gone:
            raise ElimError(
                f"the head node of the Ray cluster at {self.address} is gone:"
                f" it has not answered for {now - self._silent_since:.0f} s",
                f"what was finished is kept; start the cluster again, then {AGAIN}",
                Exit.PARTIAL,
            )


def head_of(ray: Any) -> RayHead:
    """Find the head node of the cluster that ``ray`` is connected to."""
    return RayHead(getattr(ray.get_runtime_context(), "gcs_address", None))


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
