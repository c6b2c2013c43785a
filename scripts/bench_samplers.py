"""Time a nine-stage chain on a vocabulary of 50,000, relative to one torch.sort of the same row.

Run on one core: ``OMP_NUM_THREADS=1 python scripts/bench_samplers.py``.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from elimtool.samplers import resolve

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


def timed(work: Callable[[], object], repeats: int = 15) -> float:
    """Median milliseconds of one call."""
    work()
    spent = []
    for _ in range(repeats):
        begun = time.process_time()
        work()
        spent.append((time.process_time() - begun) * 1e3)
    return sorted(spent)[len(spent) // 2]


def main() -> None:
    """Print one line a chain."""
    from elimtool.samplers import History

    torch.set_num_threads(1)
    torch.manual_seed(0)
    vocab = 50_000
    rows = torch.randn(8, vocab) * 3
    targets = torch.randint(0, vocab, (8, 5))
    history = History(tuple(range(200)), (7, 8, 9, 7, 8, 9, 7, 8))
    sort = timed(lambda: torch.sort(rows[:1].double(), descending=True))
    print(f"torch.sort of one row of {vocab}: {sort:.2f} ms (float64, one thread)")
    for name, spec in CHAINS.items():
        chain = resolve(spec)
        one = timed(lambda c=chain: c.run(rows[:1], targets[:1], [history]))
        many = timed(lambda c=chain: c.run(rows, targets, [history] * 8), repeats=7)
        verdict = "ok" if one < LIMIT_MS else f"OVER {LIMIT_MS:g} ms"
        print(
            f"{name:14s} {len(chain.stages):2d} stages: {one:6.2f} ms a row "
            f"({one / sort:4.2f} sorts, {verdict}); batch of 8: {many / 8:6.2f} ms a row"
        )


if __name__ == "__main__":
    main()
