"""Kills ``elimtool batch`` with SIGKILL at random moments, resumes it, and compares with a run left alone.

    python scripts/kill_batch.py                          # a tiny model, 2,000 prompts, 30 kills
    python scripts/kill_batch.py --model smollm2 --prompts 200 --kills 5 --spread 20

Prints how often it was killed and at how many finished shards, and whether every prompt is there once, no
file is damaged and every part equals the other run's, byte for byte. Exits with 1 if not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import elimtool

ROOT = Path(__file__).parent.parent


def tiny_model(folder: Path) -> str:
    sys.path.insert(0, str(ROOT))
    from tests.conftest import byte_tokenizer
    from tests.families import save

    folder.mkdir()
    return str(save("llama", folder, byte_tokenizer()))


def write_prompts(path: Path, count: int) -> None:
    words, chance = (
        ["the", "capital", "of", "France", "is", "not", "a", "text", "token", "but"],
        random.Random(3),
    )
    with path.open("w") as file:
        for number in range(count):
            text = " ".join([str(number), *chance.choices(words, k=chance.randint(1, 12))])
            file.write(json.dumps({"prompt": text, "id": f"p{number}"}) + "\n")


def parts(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.glob("*/part-*.parquet"))}


def kill_and_resume(command: list[str], directory: Path, kills: int, spread: float) -> list[int]:
    """Kill at a random moment after each start; the last start is left alone."""
    chance, moments = random.Random(11), []
    while len(moments) < kills:
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        before = len(list(directory.glob(".batch/shard-*")))
        if chance.random() < 0.7:  # mostly in the midst of shards, sometimes while starting
            while process.poll() is None and len(list(directory.glob(".batch/shard-*"))) <= before:
                time.sleep(0.01)
        time.sleep(chance.uniform(0, spread))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        moments.append(len(list(directory.glob(".batch/shard-*"))))
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return moments


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model")
    parser.add_argument("--prompts", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--shard-size", type=int, default=16)
    parser.add_argument("--spread", type=float, default=1.5, help="seconds")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = asked.model or tiny_model(folder / "model")
        write_prompts(folder / "prompts.jsonl", asked.prompts)
        command = [sys.executable, "-m", "elimtool", "batch", str(folder / "prompts.jsonl"), "-m", model]
        command += ["--tables", "lens,survival,verdicts", "--shard-size", str(asked.shard_size)]
        os.environ["OMP_NUM_THREADS"] = "1"
        moments = kill_and_resume(
            [*command, "-o", str(folder / "killed")], folder / "killed", asked.kills, asked.spread
        )
        subprocess.run([*command, "-o", str(folder / "whole")], check=True, stderr=subprocess.DEVNULL)
        same = parts(folder / "killed") == parts(folder / "whole")
        ids = elimtool.open_run(folder / "killed").prompts["prompt_id"].tolist()
        once = ids == [f"p{number}" for number in range(asked.prompts)]
        left = len(list((folder / "killed").glob("*.tmp")))
        print(f"killed {len(moments)} times, at {moments} finished shards")
        print(
            f"every prompt once and in order: {once}; parts equal: {same}; temporary files left: {len(left)}"
        )
        sys.exit(0 if same and once and len(moments) == asked.kills else 1)


if __name__ == "__main__":
    main()
