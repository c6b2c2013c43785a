"""Define when a target counts as surfaced, in the nucleus or lost: thresholds that rooms share."""

from __future__ import annotations

SURFACED = 10
"""A token has surfaced after a block if its rank is at most this."""

NUCLEUS = 0.95
"""Share of the output's probability that the nucleus holds."""

BEATS_CHANCE = 0.05
"""Largest p-value at which a loss counts as more than what happens to equally frequent tokens."""
