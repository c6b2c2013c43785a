"""The head node, and the node that a run on Ray joined: joined with a token, and their end told in time."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import elimtool
from elimtool.errors import ElimError, Exit
from elimtool.tasks.batch import links
from tests.tasks.batch.conftest import write_prompts


def test_a_head_is_gone_after_ten_seconds_of_silence() -> None:
    now = 0.0
    with socket.create_server(("127.0.0.1", 0)) as listening:
        watched = links.RayLinks(f"127.0.0.1:{listening.getsockname()[1]}", clock=lambda: now)
        watched.check()
        now = 500.0  # a long shard: nobody looked, and it answers
        watched.check()
    for later in (502.0, 504.0, 511.0):
        now = later
        watched.check()
    now = 513.0
    with pytest.raises(ElimError, match="is gone: it has not answered for 11 s") as told:
        watched.check()
    assert told.value.exit_code == Exit.PARTIAL and watched.gone
    assert "run the same command again" in told.value.hint


def test_a_head_that_answers_again_is_not_gone() -> None:
    now = 0.0
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        watched = links.RayLinks(f"127.0.0.1:{port}", clock=lambda: now)
    watched.check()
    now = 9.0
    with socket.create_server(("127.0.0.1", port)):
        watched.check()
    for later in (18.0, 27.0):
        now = later
        watched.check()
    now = 29.0
    with pytest.raises(ElimError, match="for 11 s"):
        watched.check()


def test_a_node_that_is_gone_is_told_apart_from_the_head() -> None:
    now = 0.0
    with socket.create_server(("127.0.0.1", 0)) as head:
        watched = links.RayLinks(f"127.0.0.1:{head.getsockname()[1]}", clock=lambda: now)
        with socket.create_server(("127.0.0.1", 0)) as node:
            port = node.getsockname()[1]
            watched.add(links.NODE, f"127.0.0.1:{port}")
            watched.check()
        now = 2.0
        watched.check()
        now = 12.0
        with pytest.raises(ElimError, match=f"the Ray node .* joined at 127.0.0.1:{port} is gone"):
            watched.check()


def test_a_call_that_waits_for_a_head_that_is_gone_is_left_and_others_end_as_they_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        assert links.RayLinks(address).during(lambda: 7) == 7
        with pytest.raises(TimeoutError, match="its own"):
            links.RayLinks(address).during(lambda: _raise(TimeoutError("its own")))
    seconds, ends = count(step=6), threading.Event()
    with pytest.raises(ElimError, match="is gone"):
        links.RayLinks(address, clock=lambda: next(seconds)).during(ends.wait)
    ends.set()


def _raise(error: Exception) -> None:
    raise error


def test_only_addresses_of_this_machine_are_here() -> None:
    assert links.is_here("127.0.0.1:1") and links.is_here("localhost:1")
    assert not links.is_here("198.51.100.7:1")  # kept for documentation (RFC 5737)


class Started:
    """A Ray head node that ``ray start`` began in a home where ``ray.init`` once left a token.

    Args:
        home: A folder for the home, logs and what a command says.
    """

    def __init__(self, home: Path) -> None:
        (home / ".ray").mkdir(parents=True)
        (home / ".ray" / "auth_token").write_text("0123456789abcdef" * 2)
        self.home = home
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.env |= {"HOME": str(home)}
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--disable-usage-stats"]
        command += ["--node-ip-address=127.0.0.1", f"--port={self.address.split(':')[1]}", "--num-cpus=1"]
        with (home / "ray.txt").open("w") as said:
            subprocess.run(
                [*command, "--include-dashboard=false"],
                check=True,
                env=self.env,
                stdout=said,
                stderr=said,
                timeout=120,
            )

    def processes(self, name: str = "") -> list[Any]:
        """Its processes: all are told the port."""
        psutil, found = pytest.importorskip("psutil"), []
        for one in psutil.process_iter():
            with suppress(psutil.Error):
                if self.address.split(":")[1] in " ".join(one.cmdline()) and name in one.name():
                    found.append(one)
        return found

    def batch(self, command: list[str], until: Callable[[], Any], kill: str) -> tuple[int, float, str]:
        """Run a command, and kill a process of Ray at a time: exit code, seconds after it, what was said."""
        with (self.home / "said.txt").open("wb") as said:
            batch = subprocess.Popen(command, env=self.env, stderr=said, stdout=said)
        try:
            deadline = time.monotonic() + 240  # on a machine with other work
            while not until():
                assert batch.poll() is None and time.monotonic() < deadline
                time.sleep(0.1)
            [victim] = self.processes(kill)
            began = time.monotonic()
            victim.kill()
            return batch.wait(150), time.monotonic() - began, (self.home / "said.txt").read_text()
        finally:
            batch.kill()
            batch.wait()


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    pytest.importorskip("ray")
    head = Started(tmp_path / "home")
    try:
        yield head
    finally:
        for one in head.processes():
            one.send_signal(signal.SIGKILL)


SLOW = """
import pathlib, runpy, sys, time
from elimtool.tasks.batch import cluster, links

class Slow(cluster.Member):
    def do(self, *given):
        time.sleep(1)
        return super().do(*given)

def joined(*given, once=cluster.capacity):
    pathlib.Path(sys.argv[4], "joined").touch()
    time.sleep(3)
    return once(*given)

cluster.Member, cluster.capacity, links.GONE_AFTER = Slow, joined, 4.0
runpy.run_module("elimtool", run_name="__main__")
"""
"""Takes its time for each shard and between joining a cluster and the first worker, and misses a head sooner.

The fourth word is the run directory."""
PROMPTS = 80
"""Two in a shard of a second: more than workers do while the head is not missed yet."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kill", "when", "gone"),
    [
        ("gcs_server", "shard-*.json", links.HEAD),
        ("raylet", "shard-*.json", links.NODE),
        ("gcs_server", "joined", links.HEAD),
    ],
    ids=["head", "node", "head-before-workers"],
)
def test_a_started_head_is_joined_and_the_end_of_what_a_run_needs_is_told(
    started: Started, kill: str, when: str, gone: str, llama_directory: Path, tmp_path: Path
) -> None:
    prompts = write_prompts(tmp_path / "a.jsonl", PROMPTS)
    run = tmp_path / "run"
    words = ["batch", str(prompts), "-o", str(run), "--model", str(llama_directory), "--shard-size", "2"]
    words += ["--tables", "lens", "--lens", "raw"]
    ray = ["--engine", "ray", "--ray-address", started.address]
    # without the token it is not joined
    code, seconds, said = started.batch(
        [sys.executable, "-c", SLOW, *words, *ray], lambda: list(run.rglob(when)), kill
    )
    assert (code, seconds < 30) == (Exit.PARTIAL, True), (seconds, said)
    assert f"error: {gone} at " in said and "run the same command again" in said
    if kill == "raylet" or when == "joined":
        return
    done = subprocess.run(
        [sys.executable, "-m", "elimtool", *words],
        check=False,
        capture_output=True,
        text=True,
        env=started.env,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert elimtool.open_run(run).prompts["prompt_id"].tolist() == [f"p{n}" for n in range(PROMPTS)]
