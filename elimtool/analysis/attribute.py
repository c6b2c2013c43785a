"""Rank the scores of spans, and find where attribution methods agree or disagree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

NEUTRAL = 0.01
"""Scores smaller than this (nats or logits) count as no effect."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two methods agree about one prompt and target."""

    method: str
    other: str
    rank_correlation: float | None
    same_top: bool


def ranks(scores: Sequence[float]) -> list[int]:
    """Rank scores from 1, the largest first; equal scores share the better rank."""
    return [1 + sum(other > score for other in scores) for score in scores]


def direction(score: float) -> str:
    """Name the direction of a score: ``preserving``, ``eliminating`` or ``neutral``."""
    if abs(score) < NEUTRAL:
        return "neutral"
    return "preserving" if score > 0 else "eliminating"


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Compute Spearman's rank correlation; ``None`` with fewer than three values or a constant side."""
    if len(one) < 3:
        return None
    first, second = _mean_ranks(one), _mean_ranks(other)
    spread = float(first.std() * second.std())
    if spread == 0:
        return None
    both = float(((first - first.mean()) * (second - second.mean())).mean())
    return max(-1.0, min(1.0, both / spread))  # rounding can pass 1


def _mean_ranks(values: Sequence[float]) -> NDArray[np.float64]:
    known = np.asarray(values, dtype=np.float64)
    below = (known[:, None] > known).sum(1)
    equal = (known[:, None] == known).sum(1)
    places: NDArray[np.float64] = below + (equal + 1) / 2
    return places


def top(scores: Sequence[float]) -> int:
    """Find the span ranked first; among equals the first in the prompt."""
    return max(range(len(scores)), key=lambda at: (scores[at], -at))


def agreement(scores: Mapping[str, Sequence[float]]) -> list[Agreement]:
    """Compare every pair of methods, in their order, by the scores that each gives the spans."""
    return [
        Agreement(
            one, other, rank_correlation(scores[one], scores[other]), top(scores[one]) == top(scores[other])
        )
        for one, other in combinations(scores, 2)
    ]


def disagreements(scores: Mapping[str, Sequence[float]]) -> list[str | None]:
    """Say for each span how methods disagree about it: ``sign``, ``top``, both, or ``None``."""
    firsts = {top(by_span) for by_span in scores.values()}
    found: list[str | None] = []
    for at, of_span in enumerate(zip(*scores.values(), strict=True)):
        kinds = ["sign"] if {"preserving", "eliminating"} <= set(map(direction, of_span)) else []
        kinds += ["top"] if at in firsts and len(firsts) > 1 else []
        found.append(", ".join(kinds) or None)
    return found
