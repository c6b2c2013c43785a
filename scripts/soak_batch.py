"""Run ``elimtool batch`` over many prompts on a tiny model, and watch memory, handles and files.

    nice -n 15 python scripts/soak_batch.py                  # 20,000 prompts
    python scripts/soak_batch.py --prompts 2000

Prints resident memory and open handles of the process in the first half of the run and in the second, and
what is left in the temporary folder and of half-written files. Exits with 1 if memory grew by more than a
tenth, if handles grew, or if a file is left.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from kill_batch import tiny_model, write_prompts

ROOT = Path(__file__).parent.parent
WARM = 10
"""Shards before memory is looked at: until then caches fill."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=20_000)
    parser.add_argument("--shard-size", type=int, default=100)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as made:
        folder = Path(made)
        scratch = folder / "tmp"
        scratch.mkdir()
        tiny_model(folder / "model")
        write_prompts(folder / "prompts.jsonl", asked.prompts)
        command = [
            "batch",
            "prompts.jsonl",
            "-o",
            "run",
            "-m",
            "model",
            "--shard-size",
            str(asked.shard_size),
        ]
        environment = {**os.environ, "TMPDIR": str(scratch), "PYTHONPATH": str(ROOT)}
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "elimtool", *command, "-q"], cwd=folder, env=environment
        )
        seen: list[tuple[int, float, int]] = []
        while process.poll() is None:
            time.sleep(2)
            seen += sample(process.pid, folder / "run")
        seconds = time.monotonic() - began
        markers = [json.loads(one.read_bytes()) for one in (folder / "run" / ".batch").glob("shard-*.json")]
        done = sum(one["prompts"] for one in markers)
        left = [*scratch.rglob("*"), *(folder / "run").rglob("*.tmp")]
    late = [one for one in seen if one[0] >= WARM]
    halves = late[: len(late) // 2], late[len(late) // 2 :]
    memory = [median(one[1] for one in half) for half in halves]
    handles = [int(median(one[2] for one in half)) for half in halves]  # a file being written is one more
    print(f"exit code {process.returncode}; {done:,} of {asked.prompts:,} prompts in {seconds:.0f} s")
    largest = max(one[1] for one in late)
    print(f"resident memory: {memory[0]:.0f} MiB, then {memory[1]:.0f} MiB; largest {largest:.0f} MiB")
    print(f"open handles: {handles[0]}, then {handles[1]}; files left: {len(left)} {left[:5]}")
    grew = handles[1] > handles[0] or memory[1] > 1.1 * memory[0]
    sys.exit(bool(process.returncode or done != asked.prompts or left or grew))


def sample(process: int, run: Path) -> list[tuple[int, float, int]]:
    """Read finished shards, resident memory (MiB) and open handles; nothing if the process has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        resident = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
        return [
            (
                len(list((run / ".batch").glob("shard-*.json"))),
                resident / 1024,
                len(list(Path(f"/proc/{process}/fd").iterdir())),
            )
        ]
    except (OSError, StopIteration):
        return []


if __name__ == "__main__":
    main()
