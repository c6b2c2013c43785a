"""Time a nine-stage chain on a vocabulary of 50,000, relative to one torch.sort of the same row; and bans.

Run on one core: ``OMP_NUM_THREADS=1 python scripts/bench_samplers.py``. With ``--against COMMIT [--turns N]``
the chains of that version and of this one are timed in turns, each in processes of their own, and the median
over turns of the ratio of processor times is printed, new to old: 0092418^ is the last version without bans.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from bench_against import HERE, tree_of

from elimtool.samplers import Chain, History, resolve

CHAINS = {
    "nine stages": (
        "llama.cpp:repeat_penalty=1.1,dry=0.8,top_n_sigma=3,top_k=400,typical=0.99,top_p=0.98,min_p=0.001,"
        "xtc.probability=1.0,temperature=0.9"
    ),
    "nine, no top-k": (
        "repetition_penalty=1.1,dry=0.8,top_n_sigma=3,typical=0.99,temperature=0.9,"
        "top_p=0.98,min_p=0.001,epsilon=1e-6,xtc=1.0"
    ),
    "llama.cpp": "llama.cpp",
    "hf": "hf",
    "vllm, all on": "vllm:temperature=0.8,min_p=0.02,top_k=50,top_p=0.9",
}
LIMIT_MS = 15.0
BAN_MS = 5.0
COUNT = 5000
"""Banned words or phrases."""


def timed(work: Callable[[], object], repeats: int = 15) -> float:
    """Median milliseconds of one call."""
    work()
    spent = []
    for _ in range(repeats):
        begun = time.process_time()
        work()
        spent.append((time.process_time() - begun) * 1e3)
    return sorted(spent)[len(spent) // 2]


def made(vocab: int = 50_000) -> tuple[Any, Any, Any]:
    """Make eight rows, five targets for each, and a history."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = torch.randn(8, vocab) * 3
    return rows, torch.randint(0, vocab, (8, 5)), History(tuple(range(200)), (7, 8, 9, 7, 8, 9, 7, 8))


def measured() -> dict[str, tuple[float, float]]:
    """Time every chain: milliseconds a row, alone and in a batch of eight."""
    rows, targets, history = made()
    found = {}
    for name, spec in CHAINS.items():
        chain = resolve(spec)
        one = timed(lambda c=chain: c.run(rows[:1], targets[:1], [history]))
        many = timed(lambda c=chain: c.run(rows, targets, [history] * 8), repeats=7)
        found[name] = (one, many / 8)
    return found


def bans() -> dict[str, float]:
    """Time what 5,000 banned words cost a row of a batch of eight, besides a chain that bans one."""
    from elimtool.samplers.bad_words import BadWords
    from elimtool.samplers.phrase_ban import PhraseBan

    rows, targets, _ = made()
    draw = torch.Generator().manual_seed(0)
    words = torch.randint(0, len(rows[0]), (COUNT, 3), generator=draw).tolist()
    letters = torch.randint(97, 123, (COUNT, 14), generator=draw).tolist()
    pieces = ["".join(map(chr, letters[at % COUNT][: 1 + at % 7])) for at in range(len(rows[0]))]
    phrases = ["".join(map(chr, one)) for one in letters]
    stages: dict[str, Callable[[int], Any]] = {
        "words": lambda some: BadWords(words=tuple(map(tuple, words[:some]))),
        "phrases": lambda some: PhraseBan(tuple(phrases[:some]), held=9, pieces=pieces),
    }
    texts = {"words": words[0][:2], "phrases": [pieces.index(letter) for letter in phrases[0][:5]]}
    found = {}
    for name, stage in stages.items():
        past = [History((), tuple(texts[name]))] * 8
        spent = {}
        for some in (1, COUNT):
            chain = Chain("ban", stages=(stage(some),))
            spent[some] = timed(lambda c=chain, past=past: c.run(rows, targets, past), repeats=7)
        found[name] = (spent[COUNT] - spent[1]) / 8
    return found


def against(old: str, turns: int) -> None:
    """Print how many times as long the chains take as in another version."""
    ratios: dict[str, list[float]] = {name: [] for name in CHAINS}
    with ExitStack() as stack:
        trees = [tree_of(old, stack), HERE]
        for turn in range(turns):
            found = {}
            for tree in trees[:: 1 if turn % 2 else -1]:
                environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
                command = [sys.executable, "-W", "ignore", str(Path(__file__).resolve()), "--measure"]
                done = subprocess.run(command, env=environment, cwd=tree, capture_output=True, check=True)
                found[tree] = json.loads(done.stdout)
            for name, all_turns in ratios.items():
                all_turns.append(found[trees[1]][name][0] / found[trees[0]][name][0])
    for name, all_turns in ratios.items():
        least, most = min(all_turns), max(all_turns)
        print(f"{name:14s} {statistics.median(all_turns):.3f} times ({least:.3f} to {most:.3f})")


def main() -> None:
    """Print one line a chain."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--against", metavar="COMMIT")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measured()))
        return
    if options.against:
        against(options.against, options.turns)
        return
    rows, _, _ = made()
    sort = timed(lambda: torch.sort(rows[:1].double(), descending=True))
    print(f"torch.sort of one row of {rows.shape[1]}: {sort:.2f} ms (float64, one thread)")
    for name, (one, many) in measured().items():
        verdict = "ok" if one < LIMIT_MS else f"OVER {LIMIT_MS:g} ms"
        print(
            f"{name:14s} {len(resolve(CHAINS[name]).stages):2d} stages: {one:6.2f} ms a row "
            f"({one / sort:4.2f} sorts, {verdict}); batch of 8: {many:6.2f} ms a row"
        )
    for name, cost in bans().items():
        verdict = "ok" if cost < BAN_MS else f"OVER {BAN_MS:g} ms"
        print(f"{COUNT:,} banned {name}: {cost:.2f} ms a row more than one ({verdict})")


if __name__ == "__main__":
    main()
