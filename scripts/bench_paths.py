"""Measure what searching for paths costs: greedy, beams, least entropy and sampled ones.

Times depend on what else runs: beside seconds stand the processor's own.

Run: python scripts/bench_paths.py [MODEL] [--threads N] [--rounds N]
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import torch

import elimtool
from elimtool import TraceOptions
from elimtool.model.model import Model

PROMPT = "The capital of France is"
KINDS = ("greedy", "beam:4", "least-entropy:4", "sampled:16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    model = elimtool.load_model(asked.model)
    print(f"{asked.model}, {asked.threads} threads, median of {asked.rounds}: seconds, processor's")
    for paths in ((), KINDS):
        options = TraceOptions(tables=("top_tokens",), lens="raw", generate=12, paths=paths)
        found = [seconds(model, options) for _ in range(asked.rounds)]
        wall, own = (median(one[at] for one in found) for at in (0, 1))
        print(f"  {', '.join(paths) or 'trace and walk alone'}: {wall:.1f}, {own:.1f}")


def seconds(model: Model, options: TraceOptions) -> tuple[float, float]:
    """Time one trace, on the wall and by the processor."""
    began = time.perf_counter(), time.process_time()
    elimtool.trace(model, PROMPT, options=options)
    return time.perf_counter() - began[0], time.process_time() - began[1]


if __name__ == "__main__":
    main()
