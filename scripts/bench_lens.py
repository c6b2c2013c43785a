"""Time fitting, opening and reading through the ridge lens on the default model.

Run: python scripts/bench_lens.py [TOKENS]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from elimtool.lenses.corpus import shipped
from elimtool.lenses.fit import fit_lens
from elimtool.lenses.ridge import RidgeLens
from elimtool.lenses.stream import cut_windows, stream
from elimtool.model.loading import load_model


def best(run: Callable[[], object], times: int = 5) -> float:
    """Least seconds of some runs."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main() -> None:
    tokens = int(sys.argv[1]) if len(sys.argv) > 1 else None
    model = load_model("smollm2")
    windows = cut_windows(model, shipped("fit"), 128, tokens)
    total = sum(map(len, windows))
    start, before = time.perf_counter(), time.process_time()
    lens = fit_lens(model, shipped("fit"), tokens=tokens)
    wall, cpu = time.perf_counter() - start, time.process_time() - before
    print(f"fit: {total:,} tokens in {wall:.0f} s ({cpu:.0f} s of CPU, {torch.get_num_threads()} threads)")
    start = time.perf_counter()
    for some in stream(model, windows[:32], 8):
        del some
    alone = (time.perf_counter() - start) * len(windows) / 32
    print(f"     of which the model alone: about {alone:.0f} s")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lens.safetensors"
        lens.save(path)
        print(f"open: {best(lambda: RidgeLens.load(path)) * 1e3:.0f} ms, {path.stat().st_size / 1e6:.1f} MB")
    row = torch.randn(1, model.width)
    carry = best(lambda: [lens.to_final(row, layer) for layer in range(-1, model.n_layers - 1)])
    read = best(lambda: model.readout(row.expand(model.n_layers, -1)))
    print(
        f"read one position at {model.n_layers} layers: maps {carry * 1e3:.1f} ms, head {read * 1e3:.1f} ms"
    )


if __name__ == "__main__":
    main()
