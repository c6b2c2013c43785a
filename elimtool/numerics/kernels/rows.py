"""Run compiled loops over rows of scores, on several threads.

Two passes over a row, while it is in the processor's cache, replace a dozen of numpy and torch. Needs numba
(the extra ``fast``). Importing this takes a second, and the first call on a machine compiles for fifteen
more, so only large jobs use it (``kernels.worth``). ``elimtool.numerics.shapes`` and
``elimtool.numerics.ranking`` define the numbers, and compute them without numba too.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from elimtool.numerics.kernels import exact, loops
from elimtool.numerics.kernels.compiling import told

KEPT = 64
"""Largest number of leading scores kept of a row."""

TOGETHER = 32
"""Rows that a thread works on at a time."""

MEASURED = 4
"""Rows that a thread works on at a time in slower loops."""

Scores = npt.NDArray[np.float32]
Exact = npt.NDArray[np.float64]


def prepare(say: Callable[[str], None] | None = None) -> None:
    """Compile, or load what an earlier process compiled, so that nothing waits for it later.

    Args:
        say: Called with a line of text if something must be compiled, which takes half a minute.
    """
    with told(say or (lambda _line: None)):
        _use_all()


def _use_all() -> None:
    nothing = np.zeros((1, 1, 1), dtype=np.float32)
    reduced(nothing, 1.0)
    normalisers(nothing[0])
    count(nothing[0], nothing[0], nothing[0])
    leaders(nothing[0], nothing[0], 1)
    one = nothing[0].astype(np.float64)
    measured(one, np.zeros(1), np.zeros((1, 1), dtype=np.int64))
    held(one, one > 0)


def reduced(
    logits: Scores, mass: float
) -> tuple[dict[str, npt.NDArray[np.float64]], Scores, npt.NDArray[np.int64], Scores] | None:
    """Compute the sums over the vocabulary that ``elimtool.numerics.shapes`` needs, for every layer and row.

    Args:
        logits: [layers, rows, vocab]; -inf is a removed token.
        mass: Share of the probability that a nucleus holds.

    Returns:
        ``None`` where a score is NaN or +inf, or a distribution has no finite one; else
        ``(numbers, leading, n, maxima)``: arguments of ``shapes.settled``, each [layers, rows]; the ``n``
        best scores, rising, at the end of the last axis of [layers, rows, ``KEPT``], no tie split; and the
        largest score of each block of tokens, [layers, rows, blocks].
    """
    logits = np.ascontiguousarray(logits)
    layers, rows, vocab = logits.shape
    numbers, leading = np.zeros((10, layers, rows)), np.empty((layers, rows, KEPT), dtype=np.float32)
    n = np.empty((layers, rows), dtype=np.int64)
    maxima = np.empty((layers, rows, -(-vocab // loops.BLOCK)), dtype=np.float32)
    _shared(lambda row: loops.reduce_row(logits, row, mass, numbers, leading, n, maxima), rows)
    if (numbers[loops.TOP] < 0).any():
        return None
    names = ("best", "weight", "weighted", "squared", "cross", "mass", "held", "top", "size", "common")
    return {name: numbers[getattr(loops, name.upper())] for name in names}, leading, n, maxima


def count(
    values: Scores, bounds: Scores, maxima: Scores
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Count the scores of each row larger than, and equal to, some bounds.

    Args:
        values: [rows, vocab].
        bounds: [rows, k].
        maxima: The largest score of each block of tokens, as ``reduced`` finds them, [rows, blocks].
    """
    values, bounds = np.ascontiguousarray(values), np.ascontiguousarray(bounds)
    larger, equal = np.zeros((2, *bounds.shape), dtype=np.int64)
    _some(lambda *rows: loops.count(values, bounds, maxima, larger, equal, *rows), len(values))
    return larger, equal


def leaders(values: Scores, maxima: Scores, count: int) -> npt.NDArray[np.int64]:
    """Return the tokens with each row's largest scores, falling, the lower id first of ties, [rows, count].

    Args:
        values: [rows, vocab].
        maxima: The largest score of each block of tokens, as ``reduced`` finds them, [rows, blocks].
        count: How many, 1 .. vocab.
    """
    values, found = np.ascontiguousarray(values), np.empty((len(values), count), dtype=np.int64)
    _some(lambda *rows: loops.lead(values, maxima, found, *rows), len(values), MEASURED)
    return found


def normalisers(values: Scores) -> npt.NDArray[np.float64]:
    """Return ln of the sum of exp(score) of each row; NaN if a score is NaN or +inf, or none is finite."""
    values, found = np.ascontiguousarray(values), np.empty(len(values))
    _some(lambda *rows: loops.normalise(values, found, *rows), len(values))
    return found


class RowStatistics(NamedTuple):
    """Statistics of rows, in double precision.

    Attributes:
        probs: Probabilities, [rows, vocab].
        top_prob: The largest of them, [rows].
        entropy: Shannon entropy (nats), [rows].
        deviation: Standard deviation of the scores that are not -inf, [rows].
        left: How many scores are not, [rows].
        held: Sum of the probabilities, 1 up to rounding, [rows].
        squared: Sum of their squares, [rows].
        least: The least of them, 0 where a score is -inf, [rows].
        larger: How many scores are larger than each target's, [rows, k]; 0 without a target.
        above: Probability of these, [rows, k]; NaN without a target.
        nearer: Probability of the tokens whose surprise is nearer to the entropy, [rows, k]; NaN without a
            target.
    """

    probs: Exact
    top_prob: Exact
    entropy: Exact
    deviation: Exact
    left: npt.NDArray[np.int64]
    held: Exact
    squared: Exact
    least: Exact
    larger: npt.NDArray[np.int64]
    above: Exact
    nearer: Exact


def measured(scores: Exact, best: Exact, slots: npt.NDArray[np.int64]) -> RowStatistics:
    """Compute the statistics of whole distributions that samplers need, in double precision.

    Args:
        scores: [rows, vocab]; -inf is a removed token, neither NaN nor +inf.
        best: The largest of each row, [rows]; -inf for a row without tokens, whose numbers are all NaN.
        slots: Tokens to follow, -1 = none, [rows, k].
    """
    scores, probs = np.ascontiguousarray(scores), np.empty(scores.shape)
    numbers = np.empty((len(scores), exact.NUMBERS))
    larger, none = np.zeros(slots.shape, dtype=np.int64), np.where(slots < 0, np.nan, 0.0)
    above, nearer = none.copy(), none
    _some(
        lambda *rows: exact.measure(scores, best, slots, probs, numbers, larger, above, nearer, *rows),
        len(scores),
        MEASURED,
    )
    weight, entropy, deviation, left, held, squared, least = numbers.T
    each = (held, squared, least, larger, above, nearer)
    return RowStatistics(probs, 1 / weight, entropy, deviation, left.astype(np.int64), *each)


def held(probs: Exact, mask: npt.NDArray[np.bool_]) -> Exact:
    """Sum the probabilities of each row inside a mask, both [rows, vocab]."""
    probs, found = np.ascontiguousarray(probs), np.empty(len(probs))
    mask = np.ascontiguousarray(mask).view(np.uint8)  # numba is twice as fast on bytes as on flags
    _some(lambda *rows: exact.hold(probs, mask, found, *rows), len(probs), MEASURED)
    return found


def _some(work: Callable[[int, int], Any], rows: int, together: int = TOGETHER) -> None:
    """Run ``work(start, stop)`` over all rows, ``together`` at a time."""
    _shared(lambda i: work(i * together, min((i + 1) * together, rows)), -(-rows // together))


def _shared(work: Callable[[int], Any], pieces: int) -> None:
    """Run ``work(i)`` for each piece, on as many threads as torch uses."""
    with ThreadPoolExecutor(max(1, min(torch.get_num_threads(), pieces))) as pool:
        for _ in pool.map(work, range(pieces)):
            pass
