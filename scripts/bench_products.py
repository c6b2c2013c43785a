"""Time linear layers on a few rows, as PyTorch runs them and with the product transposed.

``elimtool.model.few_rows`` says why they differ. Each line is one size of weights: PyTorch's time over the
other's by number of rows; above 1 the transposed product is faster. Both are timed in turns.

Run: python scripts/bench_products.py [--threads N] [--rows N ...]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from elimtool.model.few_rows import few_rows, product
from elimtool.model.turning import TRIED, processor, turned_rows

SIZES = ((576, 576), (1536, 576), (576, 1536), (49152, 576), (2048, 2048), (8192, 2048), (2048, 8192))
"""Outputs and inputs: those of SmolLM2-135M, and of a model of about 1B parameters."""
COPIES = 12
"""Layers of one size, so that no weights stay in the processor's cache from one turn to the next."""
TURNS = 9


def seconds(run: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@torch.inference_mode()
def ratio(layers: list[nn.Linear], rows: int) -> float:
    """Median of PyTorch's time over that of the turned products, in the same turn."""
    values = torch.randn(rows, layers[0].in_features)

    def run() -> None:
        for layer in layers:
            layer(values)

    def turned() -> None:
        with few_rows(layers, few=range(rows, rows + 1)):
            run()

    turned()
    return statistics.median(seconds(run) / seconds(turned) for _ in range(TURNS))


def main() -> None:
    """Print a line a size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rows", type=int, nargs="+", default=list(TRIED))
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    chosen = turned_rows(product)
    said = f"{chosen.start} to {chosen.stop - 1} rows are turned round" if chosen else "none is turned round"
    print(f"{processor()}, {asked.threads} threads: {said} on this machine\n")
    print("| outputs x inputs | " + " | ".join(f"{rows} rows" for rows in asked.rows) + " |")
    print("| --- |" + " --- |" * len(asked.rows))
    for outputs, inputs in SIZES:
        copies = 1 if outputs * inputs > 2**24 else COPIES
        layers = [nn.Linear(inputs, outputs, bias=False) for _ in range(copies)]
        found = " | ".join(f"{ratio(layers, rows):.2f}" for rows in asked.rows)
        print(f"| {outputs} x {inputs} | {found} |", flush=True)


if __name__ == "__main__":
    main()
