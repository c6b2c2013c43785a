"""Find ranks, largest scores and nuclei of rows of scores.

On a CPU numpy works on one row at a time, while it is in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from elimtool.numerics.distributions import LIKELY, OverVocab

FEW = 16
"""Tokens of a row that a GPU compares with it one after the other; for more it sorts the row."""


def top(logits: Float[Tensor, "*rows vocab"]) -> Int[Tensor, "*rows"]:
    """Return the index of each row's largest score, the first of equals."""
    # on a CPU numpy is five times faster than torch
    return torch.from_numpy(logits.numpy().argmax(-1)) if logits.is_cpu else logits.argmax(-1)


def rank(
    logits: OverVocab,
    tokens: Int[Tensor, "rows k"],
    leading: Sequence[npt.NDArray[Any]] | None = None,
    maxima: npt.NDArray[np.float32] | None = None,
) -> tuple[Int[Tensor, "rows k"], Int[Tensor, "rows k"]]:
    """Rank tokens strictly, and count the other tokens tied with each.

    Args:
        logits: Scores; ``nan`` is not allowed.
        tokens: Vocabulary indices to rank, one row of ``k`` for each row of logits.
        leading: Each row's best scores, rising, where they are known (``Edge.leading``): a token among them
            is ranked without looking at the others.
        maxima: The largest score of each block of a row's tokens, [rows, blocks], where compiled loops found
            them (``kernels.rows.reduced``); then compiled loops count too.

    Returns:
        ``(rank, ties)``: rank = 1 + number of strictly larger scores, 1 .. vocab; ties >= 0.
    """
    scores = logits.gather(-1, tokens)
    if not tokens.shape[1]:
        return torch.zeros_like(tokens), torch.zeros_like(tokens)
    if logits.is_cpu:
        larger, equal = (
            _counted(logits, scores, leading) if maxima is None else _in_loops(logits, scores, maxima)
        )
    elif tokens.shape[1] > FEW:
        rising = logits.sort(-1).values
        first, behind = (torch.searchsorted(rising, scores, right=right) for right in (False, True))
        larger, equal = logits.shape[1] - behind, behind - first
    else:
        columns = scores.unbind(-1)  # one comparison for all k would need k times the memory
        larger = torch.stack([(logits > one[:, None]).sum(-1) for one in columns], -1)
        equal = torch.stack([(logits == one[:, None]).sum(-1) for one in columns], -1)
    return larger + 1, equal - 1


def _in_loops(
    logits: OverVocab, scores: Float[Tensor, "rows k"], maxima: npt.NDArray[np.float32]
) -> tuple[Tensor, Tensor]:
    from elimtool.numerics.kernels.rows import count

    larger, equal = count(logits.numpy(), scores.numpy(), maxima)
    return torch.from_numpy(larger), torch.from_numpy(equal)


def _counted(
    logits: OverVocab, scores: Float[Tensor, "rows k"], leading: Sequence[npt.NDArray[Any]] | None
) -> tuple[Tensor, Tensor]:
    """Count the scores of each row larger than, and equal to, given ones.

    Scores that are not among the leading ones are compared with the whole row.
    """
    values, bounds = logits.numpy(), scores.numpy()
    larger, equal = np.zeros((2, *bounds.shape), dtype=np.int64)
    for row, known in enumerate(leading or ()):
        first, behind = (known.searchsorted(bounds[row], side) for side in ("left", "right"))
        larger[row], equal[row] = len(known) - behind, behind - first
    beyond = equal == 0
    larger[beyond], equal[beyond] = count_compared(values, bounds, beyond, np.greater, np.equal)
    return torch.from_numpy(larger), torch.from_numpy(equal)


def count_compared(
    values: npt.NDArray[Any], bounds: npt.NDArray[Any], wanted: npt.NDArray[np.bool_], *comparisons: np.ufunc
) -> npt.NDArray[np.int64]:
    """Count the values of each row for which a comparison with a bound of the row is true.

    Args:
        values: [rows, width].
        bounds: [rows, k].
        wanted: Which bounds to compare with, [rows, k].
        comparisons: Comparisons, such as ``np.greater``.

    Returns:
        Counts, [comparisons, wanted bounds].
    """
    # numpy counts bytes ten times faster than torch
    mask = np.empty(values.shape[1], dtype=np.bool_)
    places = np.argwhere(wanted).tolist()
    found = np.empty((len(comparisons), len(places)), dtype=np.int64)
    for place, (row, k) in enumerate(places):
        for which, compare in enumerate(comparisons):
            found[which, place] = np.count_nonzero(compare(values[row], bounds[row, k], out=mask))
    return found


def largest(
    logits: OverVocab, count: int, leading: Sequence[npt.NDArray[Any]] | None = None
) -> Float[Tensor, "rows count"]:
    """Return the largest scores of each row, falling; at most as many as there are columns.

    Args:
        logits: Scores; ``nan`` is not allowed.
        count: How many, from 1.
        leading: Each row's best scores, rising, where they are known (``Edge.leading``).
    """
    count = min(count, logits.shape[-1])
    if not logits.is_cpu:
        return logits.topk(count, -1).values
    rows = logits.numpy()
    found = np.empty((len(rows), count), dtype=rows.dtype)
    for row, values in enumerate(rows):
        known = values[:0] if leading is None else leading[row]
        if len(known) < count:
            known = np.sort(reaching(values, count))
        found[row] = known[: -count - 1 : -1]
    return torch.from_numpy(found)


def reaching(row: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    """Return values of a row that include its ``count`` largest.

    The row is folded into columns. ``count`` columns have a maximum that reaches the ``count``-th largest
    maximum, so all values under that one can be dropped.
    """
    columns = 12 * count  # the more columns, the fewer values are left to sort
    depth = len(row) // columns
    if depth < 4:  # too short a row for folding to be worth it
        return row
    maxima = row[: depth * columns].reshape(depth, columns).max(0)
    reached: npt.NDArray[Any] = row[row >= np.partition(maxima, -count)[-count]]
    return reached


def nucleus(logprobs: OverVocab, mass: float = 0.9) -> Bool[Tensor, "rows vocab"]:
    """Find the smallest set of most probable tokens that holds ``mass`` of each row.

    The token that crosses ``mass`` belongs to the set; of equally probable tokens the one with the lower id
    comes first. Source: Holtzman et al. 2020 (arXiv 1904.09751).

    Args:
        logprobs: Normalised log-probabilities.
        mass: Share of the probability to hold, 0 < mass <= 1.

    Returns:
        Which tokens belong; at least one in each row.
    """
    inside = torch.zeros(logprobs.shape, dtype=torch.bool, device=logprobs.device)
    if logprobs.is_cpu:
        for row, flags in zip(logprobs.numpy(), inside.numpy(), strict=True):
            flags[:] = marked(row, edge(row, mass))
        return inside
    return bisected(logprobs, mass)


def bisected(logprobs: OverVocab, mass: float) -> Bool[Tensor, "rows vocab"]:
    """Find nuclei without sorting and without looking at any number on the host, which suits a GPU.

    The least score in a nucleus is found by halving the range of a float's bits, which have the order of the
    numbers; sums are in float64.
    """
    bits = logprobs.contiguous().view(torch.int32 if logprobs.dtype == torch.float32 else torch.int64)
    rising = bits ^ ((bits >> (8 * bits.itemsize - 1)) & torch.iinfo(bits.dtype).max)
    probs, least, behind = logprobs.exp(), rising.amin(-1), rising.amax(-1) + 1
    for _ in range(8 * bits.itemsize):
        middle = (least & behind) + ((least ^ behind) >> 1)  # the mean, without the sum, which may overflow
        holds = probs.where(rising >= middle[:, None], 0.0).sum(-1, dtype=torch.float64) >= mass
        least, behind = middle.where(holds, least), behind.where(holds, middle)
    above, equal = rising > least[:, None], rising == least[:, None]
    held = probs.where(above, 0.0).sum(-1, dtype=torch.float64)
    each = probs.where(equal, 0.0).amax(-1).double()
    tied = ((mass - held) / each).nan_to_num(1.0).ceil().clamp(min=1)
    return above | (equal & (equal.cumsum(-1) <= tied[:, None]))


LEADING = 4096
"""Largest number of scores kept of a row."""


class Edge(NamedTuple):
    """The edge of a nucleus.

    Attributes:
        size: Number of tokens in the nucleus.
        score: The least of their scores.
        tied: How many tokens of that score belong, those with the lowest ids; ``None`` where all do.
        leading: The row's best scores, rising, with all that are tied with the least of them; at most
            ``LEADING``.
    """

    size: int
    score: float
    tied: int | None
    leading: npt.NDArray[Any]


def edge(values: npt.NDArray[Any], mass: float, normaliser: float = 0.0) -> Edge:
    """Find where the nucleus of one row ends.

    Only values are sorted, which is much faster than sorting indices, and few more than hold the mass: the
    likely ones, else the best ``LEADING``, else all.

    Args:
        values: Log-probabilities, or logits.
        mass: Share of the probability to hold.
        normaliser: ln of the sum of exp(value).
    """
    leading = np.sort(values.compress(values > float(normaliser) + log(LIKELY)))
    size = _reach(leading, mass, normaliser)
    if size is None and len(values) > 2 * LEADING:
        leading = np.sort(np.partition(values, -LEADING)[-LEADING:])
        size = _reach(leading, mass, normaliser)
    if size is None:
        leading = np.sort(values)
        size = _reach(leading, mass, normaliser) or len(values)
    score = leading[-size]
    first, behind = leading.searchsorted(score, "left"), leading.searchsorted(score, "right")
    equal = behind - first if first else np.count_nonzero(values == score)
    tied = size - (len(leading) - behind)
    if len(leading) >= LEADING:  # those as good as the last may be missing
        leading = leading[leading.searchsorted(leading[-LEADING], "right") :].copy()
    return Edge(size, score, None if tied == equal else tied, leading)


def _reach(rising: npt.NDArray[Any], mass: float, normaliser: float) -> int | None:
    """Return how many of the largest values hold the mass, at least 1; ``None`` if all do not."""
    ahead = 0.0
    for stop in range(len(rising), 0, -LEADING):
        part = np.subtract(rising[max(0, stop - LEADING) : stop][::-1], normaliser, dtype=np.float64)
        held = np.exp(part, out=part).cumsum()
        held += ahead
        if held[-1] >= mass:
            return len(rising) - stop + 1 + int(held.searchsorted(mass))
        ahead = float(held[-1])
    return None


def marked(values: npt.NDArray[Any], end: Edge) -> npt.NDArray[np.bool_]:
    """Mark the tokens of a row that belong to its nucleus."""
    if end.tied is None:
        return np.asarray(values >= end.score)
    flags = np.asarray(values > end.score)
    flags[np.flatnonzero(values == end.score)[: end.tied]] = True
    return flags
