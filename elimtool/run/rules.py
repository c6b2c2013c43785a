"""The rule by which a target counts as surfaced, in the nucleus, or lost: the numbers that rooms share."""

from __future__ import annotations

SURFACED = 10
"""A token has surfaced after a block if it is among so many first."""

NUCLEUS = 0.95
"""Share of the output's probability that counts as its nucleus."""

BEATS_CHANCE = 0.05
"""Largest p-value with which a loss is told from what befalls tokens that are as frequent."""
