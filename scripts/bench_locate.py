"""Measure a residual map of 5 positions with its null: seconds, and tokens run for it.

Times depend on what else runs: beside them stand the processor's own, and how long the same products take
alone.

Run: python scripts/bench_locate.py [MODEL] [--threads N]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from elimtool import load_model, locate
from elimtool.model.model import Model

CLEAN, CORRUPT = "The capital of France is the city of", "The capital of Japan is the city of"


def seconds_of_products(model: Model, tokens: float) -> np.ndarray:
    """Time the products of so many tokens with a model's blocks, in batches of 512 tokens."""
    weights = [one.weight for one in model.native._linear if one.weight.shape[0] != model.vocab]
    inputs = {one.shape[1]: torch.randn(512, one.shape[1]) for one in weights}
    began = clocks()
    with torch.inference_mode():
        for one in weights:
            torch.nn.functional.linear(inputs[one.shape[1]], one)
    return (clocks() - began) * tokens / 512


def clocks() -> np.ndarray:
    """Read the clock on the wall and that of the processor (all threads), in seconds."""
    return np.array([time.perf_counter(), time.process_time()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    model = load_model(asked.model)
    before = seconds_of_products(model, 1e4)
    began = clocks()
    run = locate(model, CLEAN, CORRUPT, target="Paris", foil="Tokyo")
    took = clocks() - began
    pair = run.table("location_pairs").iloc[0]
    cells = int((run.table("locations")["extent"] == "cell").sum())
    alone = (before + seconds_of_products(model, 1e4)) / 2 * pair["tokens_processed"] / 1e4
    print(f"{cells} cells, {pair['tokens_processed']:,} tokens through all layers, {asked.threads} threads")
    for name, one, other in zip(("seconds", "processor seconds"), took, alone, strict=True):
        print(f"{name}: {one:.1f}; the products alone {other:.1f}, {one / other:.2f} times that")


if __name__ == "__main__":
    main()
