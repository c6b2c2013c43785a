"""Which tokens come first: scores of rows in; ranks, the largest scores and nuclei out.

Nothing here knows a model, a file or a table. On a CPU rows are worked through by numpy one at a time, while
they are in the processor's cache.
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


def top(logits: Float[Tensor, "*rows vocab"]) -> Int[Tensor, "*rows"]:
    """The largest score of each row, the first of equals; numpy finds it five times faster than torch."""
    return torch.from_numpy(logits.numpy().argmax(-1)) if _is_cpu(logits) else logits.argmax(-1)


def rank(
    logits: OverVocab,
    tokens: Int[Tensor, "rows k"],
    leading: Sequence[npt.NDArray[Any]] | None = None,
    maxima: npt.NDArray[np.float32] | None = None,
) -> tuple[Int[Tensor, "rows k"], Int[Tensor, "rows k"]]:
    """Strict rank of given tokens, and the number of other tokens tied with each.

    Args:
        logits: Scores; ``nan`` is not allowed.
        tokens: Vocabulary indices to rank, one row of ``k`` for each row of logits.
        leading: Each row's scores from one of them on, rising, where they are known (``Edge.leading``): a
            token among them is ranked without a look at the others.
        maxima: The largest score of each block of a row's tokens, [rows, blocks], where compiled loops found
            them (``kernels.rows.reduced``): they count then too.

    Returns:
        ``(rank, ties)``: rank = 1 + number of strictly larger scores, 1 .. vocab; ties >= 0.
    """
    scores = logits.gather(-1, tokens)
    if not tokens.shape[1]:
        return torch.zeros_like(tokens), torch.zeros_like(tokens)
    if _is_cpu(logits):
        larger, equal = (
            _counted(logits, scores, leading) if maxima is None else _in_loops(logits, scores, maxima)
        )
    else:
        columns = scores.unbind(-1)
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
    """How many scores of each row are larger than, and equal to, some others.

    Those that are not among the leading ones are compared with the whole row.
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
    """How many values of a row stand in some relations to each wanted bound of the row.

    By numpy, which counts bytes ten times faster than torch, row by row, so that a row stays in the
    processor's cache.

    Args:
        values: [rows, width].
        bounds: [rows, k].
        wanted: Which bounds to look at, [rows, k].
        comparisons: The relations, such as ``np.greater``.

    Returns:
        [comparisons, wanted bounds].
    """
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
    """The largest scores of each row, falling; at most as many as there are columns.

    Args:
        logits: Scores; ``nan`` is not allowed.
        count: How many, from 1.
        leading: Each row's best scores, rising, where they are known (``Edge.leading``).
    """
    count = min(count, logits.shape[-1])
    if not _is_cpu(logits):
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
    """Some values of a row, the ``count`` largest among them.

    The row is folded to the maxima of some columns: ``count`` of these are values that reach the ``count``-th
    largest maximum, so all values under that one can go.
    """
    columns = 12 * count
    depth = len(row) // columns
    if depth < 4:
        return row
    maxima = row[: depth * columns].reshape(depth, columns).max(0)
    reached: npt.NDArray[Any] = row[row >= np.partition(maxima, -count)[-count]]
    return reached


def nucleus(logprobs: OverVocab, mass: float = 0.9) -> Bool[Tensor, "rows vocab"]:
    """The smallest set of most probable tokens that holds ``mass`` of each row.

    The tokens above some probability are sorted, and no others, where together they hold the mass: the set
    is among them. All tokens under (1 - mass) / vocab hold less than 1 - mass, so that a threshold that
    proves the answer exists. The crossing token belongs to the set; of equally probable tokens the one with
    the lower id comes first. Source: Holtzman et al. 2020 (arXiv 1904.09751).

    Args:
        logprobs: Normalised log-probabilities.
        mass: Share of the probability to hold, 0 < mass <= 1.

    Returns:
        Which tokens belong; at least one of each row.
    """
    inside = torch.zeros(logprobs.shape, dtype=torch.bool, device=logprobs.device)
    if _is_cpu(logprobs):
        for row, flags in zip(logprobs.numpy(), inside.numpy(), strict=True):
            flags[:] = marked(row, edge(row, mass))
        return inside
    tokens, member = partly_sorted(logprobs, mass)
    row, place = member.nonzero(as_tuple=True)
    inside[row, tokens[row, place]] = True
    return inside


def count_true(flags: Bool[Tensor, "*rows width"]) -> Int[Tensor, "*rows"]:
    """How many flags of each row are set, on the CPU; numpy counts bytes ten times faster than torch."""
    if not _is_cpu(flags):
        return flags.sum(-1).cpu()
    rows = flags.numpy().reshape(-1, flags.shape[-1])
    found = np.fromiter((np.count_nonzero(row) for row in rows), dtype=np.int64, count=len(rows))
    return torch.from_numpy(found).reshape(flags.shape[:-1])


def partly_sorted(
    logprobs: OverVocab, mass: float, width: int = 256
) -> tuple[Int[Tensor, "rows width"], Bool[Tensor, "rows width"]]:
    """The same by a partial sort of ``width`` tokens, and a longer one of the rows that need more.

    Returns:
        ``(tokens, member)``: candidate token ids by falling probability, and which of them belong.
    """
    rows, vocab = logprobs.shape
    width = min(width, vocab)
    top, tokens = logprobs.topk(width, dim=-1, sorted=True)
    probs = top.double().exp()
    member = probs.cumsum(-1) - probs < mass
    member[:, 0] = True
    unanswered = member[:, -1]
    if width == vocab or not bool(unanswered.any()):
        return tokens, member
    more_tokens, more_member = partly_sorted(logprobs[unanswered], mass, width * 16)
    all_tokens = tokens.new_zeros(rows, more_tokens.shape[1])
    all_member = member.new_zeros(rows, more_tokens.shape[1])
    all_tokens[:, :width], all_member[:, :width] = tokens, member
    all_tokens[unanswered], all_member[unanswered] = more_tokens, more_member
    return all_tokens, all_member


LEADING = 4096
"""Scores that are kept of a row at most."""


class Edge(NamedTuple):
    """Where a nucleus ends.

    Attributes:
        size: How many tokens it has.
        score: The least of their scores.
        tied: How many tokens of that score belong, those with the lowest ids; ``None`` where all do.
        leading: Scores of the row's best tokens, rising, all that are as good as the least of them; at most
            ``LEADING``.
    """

    size: int
    score: float
    tied: int | None
    leading: npt.NDArray[Any]


def edge(values: npt.NDArray[Any], mass: float, normaliser: float = 0.0) -> Edge:
    """Where the nucleus of one row ends.

    Values alone are sorted, which is much faster than their places, and not many more than hold the mass:
    the likely ones, else the best ``LEADING``, else all.

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
    """How many of a row's largest values hold the mass, 1 at least; ``None`` if they do not."""
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
    """Which tokens of a row belong to the nucleus that ends there."""
    if end.tied is None:
        return np.asarray(values >= end.score)
    flags = np.asarray(values > end.score)
    flags[np.flatnonzero(values == end.score)[: end.tied]] = True
    return flags


def _is_cpu(values: Tensor) -> bool:
    return values.device.type == "cpu"
