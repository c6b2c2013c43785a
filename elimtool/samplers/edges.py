"""Find the temperatures at which functions of T change sign, for many targets at once."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, inf, log, log2
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from elimtool.samplers.order import Array

ROOM = 1e-11
"""Relative width of the final bracket around an edge."""
LEAST, SHARE, REACH = 1e-12, 1 / 800, 1e9
"""Least temperature looked at, and the least and greatest in gaps of the target: under a gap / 800 the
target's weight exp(-gap / T) is 0 in float64."""
HALVINGS = ceil(log2(log(max(REACH / SHARE, 1 / LEAST)) / ROOM))
"""Halvings of the widest bracket, in ln T, until it is as narrow as ``ROOM``."""

Temperatures = Float64[Tensor, " targets"]


@runtime_checkable
class Targets(Protocol):
    """Targets whose edges are looked for."""

    @property
    def gap(self) -> Temperatures:
        """Distance of each target's logit from the best, >= 0."""

    def of(self, which: Int64[Tensor, " some"], /) -> Any:
        """Select some of them."""


Some = TypeVar("Some", bound=Targets)
Slack = Callable[[Some, Temperatures], Temperatures]
"""Tells how far targets are inside a surviving set at a temperature each: >= 0 for survival."""


def ceiling(gap: Temperatures) -> Temperatures:
    """Return the greatest temperature that is looked at for targets so far under the best logit."""
    return (gap * REACH).clamp(min=1.0)


def least(targets: Some, slack: Slack[Some]) -> Temperatures:
    """Find the least T with ``slack(T) >= 0``, for slacks that grow with T: 0 = every T, infinity = none.

    On the processor a target is narrowed down until it is found. Elsewhere that would have to be waited for:
    there a fixed number of halvings finds the same to ``ROOM``.
    """
    gap = targets.gap
    low, high = (gap * SHARE).clamp(min=LEAST), ceiling(gap)
    first, last = slack(targets, low), slack(targets, high)
    low, high = low.log(), high.log()
    if gap.is_cpu:
        high = _narrowed(targets, slack, (low, first), (high, last))
    else:
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            lives = slack(targets, middle.exp()) >= 0
            low, high = torch.where(lives, low, middle), torch.where(lives, middle, high)
    return high.exp().masked_fill(first >= 0, 0.0).masked_fill(last < 0, inf)


def _narrowed(
    targets: Some,
    slack: Slack[Some],
    dead: tuple[Temperatures, Temperatures],
    living: tuple[Temperatures, Temperatures],
) -> Temperatures:
    """Narrow brackets, given by ln T and slack of both ends, and return the ends with a slack >= 0.

    By Chandrupatla's method (1997): inverse quadratic interpolation where it can be trusted, else halving.
    """
    found = living[0].numpy().copy()
    which = np.flatnonzero(((dead[1] < 0) & (living[1] >= 0)).numpy())
    x1, f1, x2, f2 = (one.numpy()[which] for one in (*dead, *living))
    if not len(which):
        return living[0]
    some = targets.of(torch.from_numpy(which))
    place = np.clip(x1 / (x1 - x2), 0.001, 0.999)  # T = 1 first, then further and further from it
    step = log(2)
    with np.errstate(all="ignore"):
        while True:
            x = x1 + place * (x2 - x1)
            f = slack(some, torch.from_numpy(np.exp(x))).numpy()
            lives = f >= 0
            same = lives == (f1 >= 0)
            x3, f3 = np.where(same, x1, x2), np.where(same, f1, f2)
            x2, f2 = np.where(same, x2, x1), np.where(same, f2, f1)
            x1, f1 = x, f
            width = np.abs(x2 - x1)
            found[which] = np.where(lives, x1, x2)
            left = width >= ROOM
            if not left.all():
                if not left.any():
                    return torch.from_numpy(found)
                which, width, x1, f1, x2, f2, x3, f3 = (
                    one[left] for one in (which, width, x1, f1, x2, f2, x3, f3)
                )
                some = some.of(torch.from_numpy(left.nonzero()[0]))
            place = np.clip(_place(x1, f1, x2, f2, x3, f3, step / width), ROOM / 2 / width, None)
            place = np.minimum(place, 1 - ROOM / 2 / width)
            step *= 2


def _place(x1: Array, f1: Array, x2: Array, f2: Array, x3: Array, f3: Array, most: Array) -> Any:
    """Return where in a bracket to look next, 0 at its first end; ``most`` bounds a halving."""
    xi, phi = (x1 - x2) / (x3 - x2), (f1 - f2) / (f3 - f2)
    trusted = (phi * phi < xi) & ((1 - phi) ** 2 < 1 - xi)  # never where a slack is infinite
    alpha = (x3 - x1) / (x2 - x1)
    quadratic = f1 / (f1 - f2) * f3 / (f3 - f2) - alpha * f1 / (f3 - f1) * f2 / (f2 - f3)
    return np.where(trusted, quadratic, np.minimum(most, 0.5))
