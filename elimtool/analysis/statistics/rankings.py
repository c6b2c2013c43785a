"""Compare rankings of different lengths: rank-biased overlap, extrapolated."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

PERSISTENCE = 0.9
"""How much a place weighs of the one before it."""


def rank_biased_overlap(one: Sequence[Hashable], other: Sequence[Hashable], p: float = PERSISTENCE) -> float:
    """Compute RBO_ext: how far two rankings agree, the first places counting most.

    A ranking that begins another one scores 1: look at both lengths.

    Source: Webber, Moffat and Zobel 2010, "A similarity measure for indefinite rankings", equation 32.

    Args:
        one: Items, the best first, each once; at least one.
        other: The same.
        p: Persistence, above 0 and below 1.

    Returns:
        From 0 to 1.
    """
    short, long = sorted((one, other), key=len)
    s, l = len(short), len(long)
    seen_short: set[Hashable] = set()
    seen_long: set[Hashable] = set()
    common, total, at_short = 0, 0.0, 0
    for depth in range(1, l + 1):
        item = long[depth - 1]
        common += item in seen_short
        seen_long.add(item)
        if depth <= s:
            other_item = short[depth - 1]
            seen_short.add(other_item)
            common += other_item in seen_long
            at_short = common
        total += common * p**depth / depth
        if depth > s:
            total += at_short * (depth - s) * p**depth / (s * depth)
    return (1 - p) / p * total + ((common - at_short) / l + at_short / s) * p**l
