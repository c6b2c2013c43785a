"""Compare a check's values in two runs, prompt by prompt: mean, interval, and which moved most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from elimtool.analysis.check.values import CheckedValue
from elimtool.analysis.statistics.paired import paired_difference

MOVED = 5
"""Prompts that are named."""


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """How the values of one check differ between two runs.

    Attributes:
        check: Id of the check.
        n: Number of prompts with a number in both runs.
        mean: Mean of now minus before, in the metric's unit.
        low: Lower end of the 95 % interval of the mean, over prompts, see ``mean_differences``; ``None`` if
            n < 2.
        high: Upper end.
        moved: Prompts that moved most and by how much, the farthest first.
    """

    check: str
    n: int
    mean: float
    low: float | None
    high: float | None
    moved: tuple[tuple[str, float], ...]


def pair(check: str, before: Sequence[CheckedValue], now: Sequence[CheckedValue]) -> PairedDifference | None:
    """Compare the readings of a check on two runs.

    Returns:
        ``None`` if no prompt has a number in both.
    """
    old = {one.prompt: float(one.value) for one in before if _number(one)}  # type: ignore[arg-type]
    new = {one.prompt: float(one.value) for one in now if _number(one)}  # type: ignore[arg-type]
    both = [prompt for prompt in new if prompt in old]
    if not both:
        return None
    yes_no = all(isinstance(one.value, bool) for one in now if one.prompt in old)
    then, later = (np.array([side[prompt] for prompt in both]) for side in (old, new))
    tested, moves = paired_difference(then, later, yes_no=yes_no), later - then
    order = np.argsort(-np.abs(moves), kind="stable")[:MOVED]
    moved = tuple((both[index] or "all prompts", float(moves[index])) for index in order if moves[index])
    return PairedDifference(check, len(both), tested.mean_difference, tested.ci_low, tested.ci_high, moved)


def _number(reading: CheckedValue) -> bool:
    value = reading.value
    return isinstance(value, (int, float)) and np.isfinite(value)
