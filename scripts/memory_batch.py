"""Measure peak memory of ``elimtool batch`` over few and over many prompts: it should not grow.

    python scripts/memory_batch.py                        # 2,000 and 20,000 prompts
    python scripts/memory_batch.py --prompts 2000 8000 --tables lens,survival,verdicts

Each run is a process of its own; prints its peak resident memory as the kernel counted it, and the ratio of
the last to the first. Exits with 1 if that is above 1.1.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from kill_batch import tiny_model, write_prompts


def peak(command: list[str]) -> float:
    """MiB that a command took at most."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, code, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(code)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return used.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, nargs="+", default=[2000, 20000])
    parser.add_argument("--tables", default="lens")
    asked = parser.parse_args()
    peaks = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny_model(folder / "model")
        for count in asked.prompts:
            write_prompts(folder / f"{count}.jsonl", count)
            command = [sys.executable, "-m", "elimtool", "batch", str(folder / f"{count}.jsonl"), "-q"]
            command += ["-o", str(folder / f"{count}"), "-m", str(folder / "model"), "--tables", asked.tables]
            started = time.monotonic()
            peaks.append(peak([*command, "--samplers", "hf"]))
            print(f"{count:,} prompts: {peaks[-1]:,.0f} MiB, {time.monotonic() - started:.0f} s", flush=True)
    print(f"ratio {peaks[-1] / peaks[0]:.3f}")
    sys.exit(0 if peaks[-1] <= 1.1 * peaks[0] else 1)


if __name__ == "__main__":
    main()
