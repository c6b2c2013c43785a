"""Define when a target counts as surfaced, in the nucleus, eliminated by a chain or lost."""

from __future__ import annotations

SURFACED = 10
"""A token has surfaced after a block if its rank is at most this."""

NUCLEUS = 0.95
"""Share of the output's probability that the nucleus holds."""

CONTENDS = 0.1
"""A token contends in the output if its rank is at most ``SURFACED`` and its probability at least this share
of the most probable token's. Only what contended is said to be eliminated by a chain. Of 200 facts the right
answers contend in 74 %, wrong ones of the same kind in 13 %; docs/verdicts.md has the alternatives."""

NEAR_TIE = 0.8
"""A target with at least this share of the most probable token's probability is said to be nearly level."""

BEATS_CHANCE = 0.05
"""Largest p-value at which a loss counts as more than what happens to equally frequent tokens."""

MASSIVE_SIZE, MASSIVE_RATIO = 100.0, 1000.0
"""A massive activation is above both, the second times the median of the state (Sun et al. 2024)."""
