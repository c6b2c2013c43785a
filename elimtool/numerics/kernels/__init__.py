"""Decide whether a job is large enough for compiled loops.

The loops themselves are in ``elimtool.numerics.kernels.rows``, which takes a second to import.
"""

from __future__ import annotations

from importlib.util import find_spec

VOCABULARY = 8_192
"""Tokens of a vocabulary from which it makes a difference."""

DISTRIBUTIONS = 10_000
"""Distributions (layers times probed rows) from which more time is won than loading takes."""


def usable(vocab: int) -> bool:
    """Whether numba is installed, and rows are long."""
    return vocab >= VOCABULARY and find_spec("numba") is not None


def worth(vocab: int, distributions: int) -> bool:
    """Whether a job of some distributions will be done sooner with them."""
    return distributions >= DISTRIBUTIONS and usable(vocab)
