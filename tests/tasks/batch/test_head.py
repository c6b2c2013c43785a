"""A Ray head node that ``ray start`` began: it is joined with its token, and its end is told in time."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import elimtool
from elimtool.errors import ElimError, Exit
from elimtool.tasks.batch import head
from tests.tasks.batch.conftest import write_prompts


def test_a_head_is_gone_after_ten_seconds_of_silence() -> None:
    now = 0.0
    with socket.create_server(("127.0.0.1", 0)) as listening:
        watched = head.RayHead(f"127.0.0.1:{listening.getsockname()[1]}", clock=lambda: now)
        watched.check()
        now = 500.0  # a long shard: nobody looked, and it answers
        watched.check()
    for later in (502.0, 504.0, 511.0):
        now = later
        watched.check()
    now = 513.0
    with pytest.raises(ElimError, match="is gone: it has not answered for 11 s") as told:
        watched.check()
    assert told.value.exit_code == Exit.PARTIAL
    assert "run the same command again" in told.value.hint


def test_a_head_that_answers_again_is_not_gone() -> None:
    now = 0.0
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        watched = head.RayHead(f"127.0.0.1:{port}", clock=lambda: now)
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


def test_only_addresses_of_this_machine_are_here() -> None:
    assert head.is_here("127.0.0.1:1") and head.is_here("localhost:1")
    assert not head.is_here("198.51.100.7:1")  # kept for documentation (RFC 5737)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[tuple[dict[str, str], int, subprocess.Popen[bytes]]]:
    """``ray start --head`` in a home where ``ray.init`` once left a token: environment, port, process."""
    pytest.importorskip("ray")
    (tmp_path / "home" / ".ray").mkdir(parents=True)
    (tmp_path / "home" / ".ray" / "auth_token").write_text("0123456789abcdef" * 2)
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env |= {"HOME": str(tmp_path / "home")}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "ray.scripts.scripts",
        "start",
        "--head",
        "--block",
        "--disable-usage-stats",
    ]
    command += ["--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=1", "--include-dashboard=false"]
    with (tmp_path / "ray.txt").open("w") as said:
        process = subprocess.Popen(command, env=env, stdout=said, stderr=said)
    try:
        wait_for(lambda: "runtime started" in (tmp_path / "ray.txt").read_text(), process)
        yield env, port, process
    finally:
        process.send_signal(signal.SIGTERM)  # ends what it started, and nothing else
        process.wait(30)


def wait_for(what: object, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 90
    while not what():  # type: ignore[operator]
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.slow
def test_a_started_head_is_joined_and_its_death_is_told(
    started: tuple[dict[str, str], int, subprocess.Popen[bytes]], llama_directory: Path, tmp_path: Path
) -> None:
    psutil = pytest.importorskip("psutil")
    env, port, ray = started
    prompts = write_prompts(tmp_path / "a.jsonl", 300)
    run = tmp_path / "run"
    same = [sys.executable, "-m", "elimtool", "batch", str(prompts), "-o", str(run), "--model"]
    same += [str(llama_directory), "--shard-size", "2", "--tables", "lens", "--lens", "raw"]
    with (tmp_path / "said.txt").open("wb") as said:
        batch = subprocess.Popen(
            [*same, "--engine", "ray", "--ray-address", f"127.0.0.1:{port}"], env=env, stderr=said
        )
    try:
        wait_for(lambda: list(run.glob(".batch/shard-*.json")), batch)  # joined: without the token it is not
        [store] = [one for one in psutil.Process(ray.pid).children(True) if "gcs_server" in one.name()]
        began = time.monotonic()
        store.kill()
        assert batch.wait(60) == Exit.PARTIAL
        assert time.monotonic() - began < 30
    finally:
        batch.kill()
        batch.wait()
    told = (tmp_path / "said.txt").read_text()
    assert "the head node of the Ray cluster at" in told and "run the same command again" in told
    done = subprocess.run(same, check=False, capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 0, done.stderr
    assert elimtool.open_run(run).prompts["prompt_id"].tolist() == [f"p{n}" for n in range(300)]
