"""Scores of spans by several methods in; ranks, directions, agreement and disagreement out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

NEUTRAL = 0.01
"""A score of less than this (nats or logits) is taken for no effect."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two methods agree about one prompt and target."""

    method: str
    other: str
    rank_correlation: float | None
    same_top: bool


def ranks(scores: Sequence[float]) -> list[int]:
    """Places from 1, the largest score first; equal scores share the better place."""
    return [1 + sum(other > one for other in scores) for one in scores]


def direction(score: float) -> str:
    """``preserving``, ``eliminating`` or ``neutral``."""
    if abs(score) < NEUTRAL:
        return "neutral"
    return "preserving" if score > 0 else "eliminating"


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Spearman's rank correlation; ``None`` for fewer than three values, or where one side is constant."""
    if len(one) < 3:
        return None
    first, second = _mean_ranks(one), _mean_ranks(other)
    spread = float(first.std() * second.std())
    if spread == 0:
        return None
    both = float(((first - first.mean()) * (second - second.mean())).mean())
    return max(-1.0, min(1.0, both / spread))


def _mean_ranks(values: Sequence[float]) -> NDArray[np.float64]:
    known = np.asarray(values, dtype=np.float64)
    below = (known[:, None] > known).sum(1)
    equal = (known[:, None] == known).sum(1)
    places: NDArray[np.float64] = below + (equal + 1) / 2
    return places


def top(scores: Sequence[float]) -> int:
    """Index of the span ranked first; of equals the first in the prompt."""
    return max(range(len(scores)), key=lambda at: (scores[at], -at))


def agreement(scores: Mapping[str, Sequence[float]]) -> list[Agreement]:
    """Every pair of methods, in their order.

    Args:
        scores: Scores of the spans by method.
    """
    return [
        Agreement(
            one, other, rank_correlation(scores[one], scores[other]), top(scores[one]) == top(scores[other])
        )
        for one, other in combinations(scores, 2)
    ]


def disagreements(scores: Mapping[str, Sequence[float]]) -> list[str | None]:
    """For each span where methods disagree about it: ``sign``, ``top``, both, or ``None``."""
    if not scores:
        return []
    firsts = {top(some) for some in scores.values()}
    found: list[str | None] = []
    for at in range(len(next(iter(scores.values())))):
        said = {direction(some[at]) for some in scores.values()}
        kinds = ["sign"] if {"preserving", "eliminating"} <= said else []
        kinds += ["top"] if at in firsts and len(firsts) > 1 else []
        found.append(", ".join(kinds) or None)
    return found
