"""Check a Ray cluster before a run: it answers, is large enough, and sees the run directory."""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from elimtool.errors import ElimError, Exit
from elimtool.files.package import PACKAGE
from elimtool.run import layout
from elimtool.tasks.batch.links import RayLinks, is_here
from elimtool.tasks.batch.options import RayOptions
from elimtool.tasks.batch.state import AGAIN

REACHED_WITHIN = 5.0
"""Seconds within which an address must answer."""

GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
"""First bytes of a gRPC client, as Ray's head node expects: HTTP/2's preface, empty settings (RFC 9113)."""
SETTINGS = 4
"""Type of the first frame that an HTTP/2 server sends."""

SEEN_WITHIN = 60.0
"""Seconds within which every node must say whether it sees the run directory."""


def ray_module() -> Any:
    """Import the package ``ray``.

    Raises:
        ElimError: It is not installed.
    """
    try:
        import ray
        import ray.exceptions
        import ray.job_config
    except ImportError as error:
        raise ElimError("`engine='ray'` needs the package ray", "pip install 'elimtool[ray]'") from error
    return ray


def connect(ray: Any, address: str | None, within: float = REACHED_WITHIN) -> bool:
    """Connect to a cluster, or start one on this machine; return whether the connection is new.

    Args:
        ray: The package.
        address: HOST:PORT, ``auto``, or ``None`` to start one where none is known.
        within: Seconds within which the address must answer.

    Raises:
        ElimError: There is no such cluster, it does not answer, or its head node is gone.
    """
    if ray.is_initialized():
        return False
    found = _find(ray, address)
    if found is not None:
        _reach(found, within)
        if is_here(found):
            _take_token()
    extra: dict[str, Any] = {"include_dashboard": False} if found is None else {}
    init = partial(
        ray.init, address=found, log_to_driver=False, logging_level="ERROR", job_config=_code(ray), **extra
    )
    on_termination = signal.getsignal(signal.SIGTERM)
    try:
        # a cluster that is started here ends with the thread that starts it
        init() if found is None else RayLinks(found).during(init)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, ray.exceptions.RayError) as error:
        raise ElimError(
            f"cannot join the Ray cluster at {found or 'this machine'}: {first_line(error)}",
            "if it asks for a token (InvalidAuthToken), set RAY_AUTH_MODE=token and copy its"
            " ~/.ray/auth_token here, or set RAY_AUTH_TOKEN to what is in it; otherwise see ray status there",
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_termination)  # Ray puts its own in place, which ends the process
    return True


def _code(ray: Any) -> Any:
    """Say where workers find elimtool; Ray would have them look into this working directory first."""
    import site

    root = str(PACKAGE.parent)
    paths = [] if root in site.getsitepackages() else [root]
    # Ray has no other way to leave the working directory out
    return ray.job_config.JobConfig(_client_job=True, _py_driver_sys_path=paths)


def _take_token() -> None:
    """Have Ray send its token, if there is one and RAY_AUTH_MODE says nothing, as a head node here asks for.

    Ray does so by itself for an address that it found, and not for one that was given.
    """
    try:
        from ray._private.authentication import authentication_token_setup as tokens

        take = tokens.maybe_enable_token_auth_if_token_available
    except (ImportError, AttributeError):  # private, and not in releases whose clusters ask for no token
        return
    tokens.logger.setLevel("ERROR")  # not that of ``init``, which sets its own later
    take(warn_if_disabled=False)


def _find(ray: Any, address: str | None) -> str | None:
    """Find HOST:PORT of the cluster; ``None`` to start one here."""
    if address is not None and address != "auto":
        if not re.fullmatch(r"[^:/\s]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}", address):
            raise ElimError(f"`address` must be auto or HOST:PORT, got '{address}'")
        return address
    known = os.environ.get("RAY_ADDRESS") or _last_started(ray)
    if known in (None, "", "auto", "local") and address == "auto":
        raise ElimError(
            "`address='auto'`: no Ray cluster runs on this machine",
            "start one with ray start (as head node), or give HOST:PORT",
        )
    return None if known in ("", "auto", "local") else known


def _last_started(ray: Any) -> str | None:
    try:
        found: str | None = ray._private.utils.read_ray_address()
    except AttributeError:  # a private function, which another release of Ray may lack
        return None
    return found


def _reach(address: str, within: float) -> None:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=within) as link:
            if os.environ.get("RAY_USE_TLS") == "1" or _speaks_grpc(link):
                return
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "no answer"
        raise ElimError(
            f"no Ray cluster answers at {address}: {reason}",
            "check the address (ray status on its head node) and that its port is open",
        ) from error
    raise ElimError(
        f"what answers at {address} is not a Ray head node",
        "give the port of its control store (6379 by default), not that of the dashboard",
    )


def _speaks_grpc(link: socket.socket) -> bool:
    """Whether a server speaks gRPC; for any other, ``ray.init`` would wait for minutes."""
    link.sendall(GREETING)
    head = b""
    while len(head) < 4 and (more := link.recv(4 - len(head))):
        head += more
    return len(head) == 4 and head[3] == SETTINGS  # a frame begins with 3 bytes of length and one of type


def capacity(ray: Any, options: RayOptions) -> int:
    """Decide how many actors to start.

    Raises:
        ElimError: The nodes have no room for one actor, or for as many as were asked for.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = sum(_fits(node, options) for node in nodes)
    have = f"{sum(n.get('CPU', 0) for n in nodes):g} CPUs and {sum(n.get('GPU', 0) for n in nodes):g} GPUs"
    each = f"{options.cpus:g} CPUs and {options.gpus:g} GPUs"
    if room < (options.actors or 1):
        raise ElimError(
            f"the Ray cluster has room for {room} actors with {each} each, not {options.actors or 1}:"
            f" its {len(nodes):,} nodes have {have}",
            "ask for less with `actors`, `cpus` and `gpus`, or add nodes",
        )
    return options.actors or room


def _fits(resources: dict[str, float], options: RayOptions) -> int:
    by_kind = []
    if options.cpus:
        by_kind.append(resources.get("CPU", 0) / options.cpus)
    if options.gpus:
        by_kind.append(resources.get("GPU", 0) / options.gpus)
    return int(min(by_kind))


def check_visible(ray: Any, directory: Path) -> None:
    """Check that every node that may get a worker sees the run directory.

    Raises:
        ElimError: A node does not, or cannot say so; the message names it.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    token = directory / layout.STATE / f"seen-{secrets.token_hex(4)}"
    token.touch()
    try:
        nodes = [
            n for n in ray.nodes() if n["Alive"] and (n["Resources"].get("CPU") or n["Resources"].get("GPU"))
        ]
        seen = ray.remote(num_cpus=0, max_retries=0)(_sees)  # else repeated for ever where memory is full
        asked = {
            seen.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(str(token)): node
            for node in nodes
        }
        ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=SEEN_WITHIN)
        blind = [asked[one] for one in (*(one for one in ready if not _answer(ray, one, asked[one])), *late)]
    finally:
        token.unlink()
    if blind:
        raise ElimError(
            f"the Ray node {blind[0]['NodeManagerAddress']} does not see {directory}",
            "choose a `directory` on a file system that all nodes share",
        )


def _answer(ray: Any, asked: Any, node: Mapping[str, Any]) -> bool:
    """Get a node's answer; one that died since it was listed counts as seeing, as it gets no worker."""
    try:
        return bool(ray.get(asked))
    except (ray.exceptions.TaskUnschedulableError, ray.exceptions.NodeDiedError):
        return True
    except ray.exceptions.RayError as error:
        raise ElimError(
            f"the Ray node {node['NodeManagerAddress']} cannot run a worker: {first_line(error)}",
            f"see ray status and free memory there, or stop that node; then {AGAIN}",
            Exit.PARTIAL,
        ) from error


def first_line(error: Exception | None) -> str:
    """Shorten a message of Ray, which may have forty lines."""
    return next(iter(str(error).strip().splitlines()), "no message")


def _sees(path: str) -> bool:
    return Path(path).exists()
