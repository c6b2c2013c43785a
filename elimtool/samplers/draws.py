"""Part one uniform random number into two, for chains that run twice."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

PARTS = 2.0**26
"""A float64 has 53 bits: the first 26 decide in the first pass, the others in the second."""


def second_draws(draws: Float[Tensor, " rows"] | None) -> Float[Tensor, " rows"] | None:
    """Return the numbers in [0, 1) with which a second pass draws: independent of the first's, to 1.5e-8."""
    return None if draws is None else (draws * PARTS).frac()


def joined(first: float, second: float) -> float:
    """Return the number whose first pass decides as ``first`` does, and its second as ``second``."""
    return (int(first * PARTS) + second) / PARTS
