"""Kill ``elimtool batch`` at random moments, resume it, and compare with an uninterrupted run.

    python scripts/kill_batch.py                          # a tiny model, 2,000 prompts, 30 kills
    python scripts/kill_batch.py --model smollm2 --prompts 24 --kills 5 --shard-size 1

Runs are killed by SIGKILL. All are forks of one process that has imported everything, and run the command
line: a kill costs no imports. Prints how often it was killed and at how many finished shards, how many
half-written files are left, whether every prompt is there once, and whether every part can be read and equals
the other run's, byte for byte. Exits with 1 if any of this is wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
SEED = 11


def forked(work: Callable[[], Any]) -> int:
    """Do some work in a fork of this process, silently; its process id."""
    child = os.fork()
    if child:
        return child
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        work()
    except SystemExit as leaving:
        os._exit(leaving.code if isinstance(leaving.code, int) else 1)
    except BaseException:
        os._exit(1)
    os._exit(0)


def tiny_model(folder: Path) -> None:
    sys.path.insert(0, str(ROOT))
    from tests.conftest import byte_tokenizer
    from tests.families import save

    folder.mkdir()
    save("llama", folder, byte_tokenizer())


def write_prompts(path: Path, count: int) -> None:
    words = ["the", "capital", "of", "France", "is", "not", "a", "text", "token", "but"]
    chance = random.Random(3)
    with path.open("w") as file:
        for number in range(count):
            text = " ".join([str(number), *chance.choices(words, k=chance.randint(1, 12))])
            file.write(json.dumps({"prompt": text, "id": f"p{number}"}) + "\n")


def parts(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.glob("*/part-*.parquet"))}


def finished(directory: Path) -> int:
    return len(list(directory.glob(".batch/shard-*.json")))


def to_the_end(arguments: list[str]) -> None:
    from elimtool.cli.app import main

    code = os.waitstatus_to_exitcode(os.waitpid(forked(lambda: main(arguments)), 0)[1])
    if code:
        sys.exit(f"elimtool {' '.join(arguments)} ended with {code}")


def kill_and_resume(arguments: list[str], directory: Path, kills: int, shards: int, pace: float) -> list[int]:
    """Kill after a random time, most often counted from the first shard of each start, so that runs get on.

    Args:
        arguments: The command line.
        directory: The run directory.
        kills: How often to kill.
        shards: Shards of the whole run.
        pace: Seconds that a shard takes: kills are spread over the shards that are left, a rest aside.

    Returns:
        Shards that were finished at each kill; fewer than ``kills`` if a run ended before it was killed.
    """
    from elimtool.cli.app import main

    chance, moments = random.Random(SEED), []
    while len(moments) < kills:
        before, ended = finished(directory), 0
        spread = pace * max(0.5, (shards - before) / (kills - len(moments) + 1) - 0.8)
        child = forked(lambda: main(arguments))
        if chance.random() < 0.8:
            while not ended and finished(directory) <= before:
                time.sleep(0.002)
                ended = os.waitpid(child, os.WNOHANG)[0]
        time.sleep(chance.uniform(0, spread))
        if ended or os.waitpid(child, os.WNOHANG)[0]:
            break
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        moments.append(finished(directory))
    return moments


def warm_up(folder: Path, options: list[str]) -> None:
    """Run the command on one prompt in the process that is forked: it has imported everything then."""
    from elimtool.cli.app import main

    write_prompts(folder / "one.jsonl", 1)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main(["batch", str(folder / "one.jsonl"), "-o", str(folder / "one"), *options])


def seconds_a_shard(directory: Path) -> float:
    each = [json.loads(path.read_text())["seconds"] for path in directory.glob(".batch/shard-*.json")]
    return float(sorted(each)[len(each) // 2])


def compare(killed: Path, whole: Path, count: int) -> tuple[bool, bool]:
    """Whether every prompt is there once and in order, and whether all parts can be read and are the same."""
    import pyarrow.parquet as pq

    import elimtool

    ids = elimtool.open_run(killed).prompts["prompt_id"].tolist()
    for path in killed.glob("*/part-*.parquet"):
        pq.read_table(path)
    return ids == [f"p{number}" for number in range(count)], parts(killed) == parts(whole)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model")
    parser.add_argument("--prompts", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--shard-size", type=int, default=16)
    parser.add_argument("--tables", default="lens,survival,verdicts")
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        killed, whole = folder / "killed", folder / "whole"
        if not asked.model:
            os.waitpid(forked(lambda: tiny_model(folder / "model")), 0)
        write_prompts(folder / "prompts.jsonl", asked.prompts)
        options = ["-m", asked.model or str(folder / "model"), "--tables", asked.tables, "--samplers", "hf"]
        batch = ["batch", str(folder / "prompts.jsonl"), *options, "--shard-size", str(asked.shard_size)]
        warm_up(folder, [*options, "-q"])
        to_the_end([*batch, "-o", str(whole)])
        shards, pace = finished(whole), seconds_a_shard(whole)
        started = time.monotonic()
        moments = kill_and_resume([*batch, "-o", str(killed)], killed, asked.kills, shards, pace)
        taken = time.monotonic() - started
        half = len(list(killed.rglob("*.tmp")))
        to_the_end([*batch, "-o", str(killed)])
        once, same = compare(killed, whole, asked.prompts)
        print(f"killed {len(moments)} times in {taken:.0f} s, at {moments} of {shards} finished shards")
        over = len(list(killed.rglob("*.tmp")))
        print(f"unfinished files after the last kill: {half}, at the end: {over}")
        print(f"every prompt once and in order: {once}; parts readable and equal: {same}")
        sys.exit(0 if same and once and not over and len(moments) == asked.kills else 1)


if __name__ == "__main__":
    main()
