"""Decide whether a job is large enough for compiled loops.

The loops themselves are in ``elimtool.numerics.kernels.rows``, which takes a second to import.
"""

from __future__ import annotations

from importlib.util import find_spec

VOCABULARY = 8_192
"""Least vocabulary for which the loops are faster."""

DISTRIBUTIONS = 10_000
"""Least number of distributions (layers times probed rows) that saves more time than loading takes."""


def usable(vocab: int) -> bool:
    """Return whether numba is installed and rows are long enough."""
    return vocab >= VOCABULARY and find_spec("numba") is not None


def worth(vocab: int, distributions: int) -> bool:
    """Return whether a job is done sooner with compiled loops."""
    return distributions >= DISTRIBUTIONS and usable(vocab)
