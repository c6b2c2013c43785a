"""Rows of float32 scores in; what compiled loops find in them out, rows shared out over threads.

What numpy and torch need a dozen passes over a row for is done in two while it is in the processor's cache.
Needs numba (the extra ``fast``). Importing this takes a second, and the first call on a machine compiles for
ten more, so only jobs with many rows come here (``kernels.worth``). What the numbers mean is said in
``elimtool.shapes`` and ``elimtool.ranking``, which also do without.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from elimtool.kernels import loops

KEPT = 64
"""Leading scores kept of a row at most."""

TOGETHER = 32
"""Rows counted by a thread at a time."""

Scores = npt.NDArray[np.float32]


def prepare() -> None:
    """Compile, or read what an earlier process compiled, so that nothing later waits for it."""
    nothing = np.zeros((1, 1, 1), dtype=np.float32)
    reduced(nothing, 1.0)
    normalisers(nothing[0])
    larger, equal = np.zeros((2, 1, 1), dtype=np.int64)
    count(nothing[0], nothing[0], np.ones((1, 1), dtype=np.bool_), larger, equal)


def reduced(
    logits: Scores, mass: float
) -> tuple[dict[str, npt.NDArray[np.float64]], Scores, npt.NDArray[np.int64]] | None:
    """What ``elimtool.shapes`` sums over the vocabulary, of every layer and row.

    Args:
        logits: [layers, rows, vocab]; -inf is a removed token.
        mass: Share of the probability that a nucleus holds.

    Returns:
        ``None`` where a score is NaN or +inf, or a distribution has no finite one; else
        ``(numbers, leading, n)``: arguments of ``shapes.settled``, each [layers, rows]; and each cell's ``n``
        best scores, rising, at the end of its row of [layers, rows, ``KEPT``], all that are as good as the
        least of them.
    """
    logits = np.ascontiguousarray(logits)
    layers, rows, _ = logits.shape
    numbers, leading = np.zeros((10, layers, rows)), np.empty((layers, rows, KEPT), dtype=np.float32)
    n = np.empty((layers, rows), dtype=np.int64)
    _shared(lambda row: loops.reduce_row(logits, row, mass, numbers, leading, n), rows)
    if (numbers[loops.TOP] < 0).any():
        return None
    names = ("best", "weight", "weighted", "squared", "cross", "mass", "held", "top", "size", "common")
    return {name: numbers[getattr(loops, name.upper())] for name in names}, leading, n


def count(
    values: Scores,
    bounds: Scores,
    wanted: npt.NDArray[np.bool_],
    larger: npt.NDArray[np.int64],
    equal: npt.NDArray[np.int64],
) -> None:
    """Compare some bounds with all scores of their rows.

    Args:
        values: [rows, vocab].
        bounds: [rows, k].
        wanted: Which bounds to compare, [rows, k].
        larger: How many scores are larger is added here, [rows, k].
        equal: How many are equal, likewise.
    """
    values, bounds = np.ascontiguousarray(values), np.ascontiguousarray(bounds)
    _some(lambda *rows: loops.count(values, bounds, wanted, larger, equal, *rows), len(values))


def normalisers(values: Scores) -> npt.NDArray[np.float64]:
    """Logarithm of the sum of exp(score) of each row; NaN where it has one that is NaN or +inf, or none."""
    values, found = np.ascontiguousarray(values), np.empty(len(values))
    _some(lambda *rows: loops.normalise(values, found, *rows), len(values))
    return found


def _some(work: Callable[[int, int], Any], rows: int) -> None:
    """Do some rows at a time."""
    _shared(lambda i: work(i * TOGETHER, min((i + 1) * TOGETHER, rows)), -(-rows // TOGETHER))


def _shared(work: Callable[[int], Any], pieces: int) -> None:
    """Do some pieces of work, on as many threads as torch uses."""
    with ThreadPoolExecutor(max(1, min(torch.get_num_threads(), pieces))) as pool:
        for _ in pool.map(work, range(pieces)):
            pass
