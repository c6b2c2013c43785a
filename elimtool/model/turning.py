"""Measure for which numbers of rows a product is faster turned round; once on a machine, kept in the cache.

It depends on the processor, on the number of threads and on the version of MKL, so no constant is right
everywhere (``few_rows`` says why it is faster at all). Since the two ways round differently, a machine keeps
what it found: two runs of one command write the same bytes. Where nothing can be kept, nothing is turned.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from elimtool.model.atomic import write_json
from elimtool.model.store import cache_dir, read_json

TRIED = (12, 24, 48)
"""Numbers of rows that are timed; those between two that are faster turned round are taken to be so too."""
WORTH = 1.1
"""Least ratio of the times: one near 1 may be noise."""
TURNS = 5
LAYERS, OUTPUTS, INPUTS = 8, 1536, 576
"""Weights of what is timed, of layers one after another, so that none stays in the processor's cache."""

Product = Callable[[Tensor, Tensor], Tensor]
NONE = range(0)


def turned_rows(turned: Product) -> range:
    """Return the numbers of rows for which products are turned round on this machine, with its threads.

    Args:
        turned: The product of weights [outputs, inputs] and rows [n, inputs], turned round.

    Returns:
        Empty without MKL or with one thread, where it is never faster, and where the cache cannot be written.
    """
    threads = torch.get_num_threads()
    available = bool(torch.backends.mkl.is_available())  # type: ignore[no-untyped-call]
    return _kept(cache_dir(), turned, threads) if available and threads > 1 else NONE


@cache
def _kept(folder: Path, turned: Product, threads: int) -> range:
    path, key = folder / "products.json", f"{processor()}, torch {torch.__version__}, {threads} threads"
    known = read_json(path)
    found = known.get(key)
    if not isinstance(found, list) or len(found) != 2:
        found = list(longest(measured(turned)))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(path, {**known, key: found})  # two processes at once: one loses its entry
        except OSError:
            return NONE
    return range(*map(int, found))


def processor() -> str:
    """Name the processor as its maker does, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


@torch.inference_mode()
def measured(turned: Product) -> dict[int, float]:
    """Time products both ways in turns: by number of rows, the least time of one over that of the other."""
    weights = torch.ones(LAYERS, OUTPUTS, INPUTS)

    def seconds(product: Product, rows: Tensor) -> float:
        start = time.perf_counter()
        for one in weights:
            product(one, rows)
        return time.perf_counter() - start

    def usual(weight: Tensor, rows: Tensor) -> Tensor:
        return torch.nn.functional.linear(rows, weight)

    found = {}
    for count in TRIED:
        rows = torch.ones(count, INPUTS)
        both = [(seconds(usual, rows), seconds(turned, rows)) for _ in range(TURNS)]
        # the least: whatever else runs here only ever adds to a time
        found[count] = min(one for one, _ in both) / min(other for _, other in both)
    return found


def longest(ratios: Mapping[int, float]) -> tuple[int, int]:
    """Return start and stop of the longest run of numbers of rows that are worth it; (0, 0) for none."""
    best: tuple[int, int] = (0, 0)
    run: list[int] = []
    for count, ratio in sorted(ratios.items()):
        run = [*run, count] if ratio >= WORTH else []
        if run and run[-1] + 1 - run[0] > best[1] - best[0]:
            best = run[0], run[-1] + 1
    return best
