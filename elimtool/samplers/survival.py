"""Find the settings at which each target just survives each sampler."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.order import Array, held_below
from elimtool.samplers.temperature_range import TemperatureRanges, temperature_ranges
from elimtool.samplers.top_n_sigma import deviation
from elimtool.samplers.typical import Typical

__all__ = ["Bounds", "TemperatureRanges", "bounds", "temperature_ranges"]

ROOM = 1e-12
"""Relative step that moves a bound to the surviving side, so that rounding cannot undo it."""


@dataclass(frozen=True, eq=False)
class Bounds:
    """Settings at which each target survives a single sampler at T = 1; ties survive or are removed together.

    NaN (0 for ``min_top_k``) for padding, or where the target's logit is ``-inf``.

    Attributes:
        min_top_k: Least k, 1 .. vocab: the strict rank.
        min_top_p: Infimum of p: the mass of strictly more probable tokens; the target survives for p above
            it.
        max_min_p: Greatest min-p, 0 .. 1: ``p / p_max``.
        min_typical_p: Infimum of the typical mass: the mass of strictly more typical tokens.
        min_top_n_sigma: Least n: ``(l_max - l) / sigma``; any n > 0 where it is 0.
        max_epsilon: Greatest epsilon: the probability; the most probable token survives any epsilon.
    """

    min_top_k: Int[Tensor, "rows k"]
    min_top_p: Float64[Tensor, "rows k"]
    max_min_p: Float64[Tensor, "rows k"]
    min_typical_p: Float64[Tensor, "rows k"]
    min_top_n_sigma: Float64[Tensor, "rows k"]
    max_epsilon: Float64[Tensor, "rows k"]


def bounds(
    logits: Float[Tensor, "rows vocab"], targets: Int[Tensor, "rows k"], begun: Candidates | None = None
) -> Bounds:
    """Find the bounds of every target, without sorting: the mass ahead of it is summed.

    Args:
        logits: Any float dtype, ``-inf`` allowed.
        targets: Token ids, -1 = none.
        begun: ``Candidates.of(logits, targets)``, if there is one already.

    Raises:
        ElimError: A row without a finite logit, with NaN or +inf, or a target outside the vocabulary.
    """
    c = begun or Candidates.of(logits, targets)
    above, nearer, sigma = _masses(c)
    below = (c.top - c.target_scores).masked_fill(c.gone, torch.nan)
    sigmas = torch.where(below == 0, below, below / sigma)
    return Bounds(
        min_top_k=c.ranks,
        min_top_p=above,
        max_min_p=torch.where(below == 0, torch.ones_like(below), torch.exp(-below) * (1 - ROOM)),
        min_typical_p=nearer,
        min_top_n_sigma=sigmas * (1 + ROOM),
        max_epsilon=(c.target_probs * (1 - ROOM)).masked_fill(c.gone, torch.nan),
    )


def _masses(
    c: Candidates,
) -> tuple[Float64[Tensor, "rows k"], Float64[Tensor, "rows k"], Float64[Tensor, "rows 1"]]:
    """Return the mass of tokens more probable and more typical than each target; the logits' deviation."""
    if c.measured is not None:
        above, nearer = torch.from_numpy(c.measured.above), torch.from_numpy(c.measured.nearer)
        return above, nearer, torch.from_numpy(c.measured.deviation)[:, None]
    shifts = Typical(0.5).shifts(c)  # which do not depend on the mass
    if c.masked:
        above, nearer = (
            _held_before(c, -c.scores, -c.target_scores),
            _held_before(c, shifts, c.at(shifts, torch.nan)),
        )
        return above, nearer, deviation(c, "population")
    above = _mass_before(c, (-row for row in c.scores.numpy()), -c.target_scores)
    return above, _mass_before(c, shifts.numpy(), c.at(shifts, torch.nan)), deviation(c, "population")


def _mass_before(
    c: Candidates, places: Iterable[Array], mine: Float64[Tensor, "rows k"]
) -> Float64[Tensor, "rows k"]:
    """Sum the probability of the tokens whose place is strictly less than the target's, ``mine``."""
    found = torch.full_like(mine, torch.nan)
    rows = zip(places, c.exact.numpy(), mine.numpy(), (~c.gone).numpy(), found.numpy(), strict=True)
    for values, probs, bounds, wanted, held in rows:
        held[wanted] = held_below(values, probs, bounds[wanted])
    return found


def _held_before(
    c: Candidates, places: Float64[Tensor, "rows vocab"], mine: Float64[Tensor, "rows k"]
) -> Float64[Tensor, "rows k"]:
    """Sum the same on a device, target by target: for all at once it would take as many times the memory."""
    columns = [c.exact.masked_fill(places >= one[:, None], 0.0).sum(-1) for one in mine.unbind(-1)]
    return torch.stack(columns, -1).masked_fill(c.gone, torch.nan) if columns else mine
