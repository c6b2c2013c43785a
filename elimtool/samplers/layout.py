"""Sort the columns of candidates, and drop those of removed tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from elimtool.samplers.order import places, rising
from elimtool.samplers.order_away import packed, parted

if TYPE_CHECKING:
    from elimtool.samplers.candidates import Candidates

CARRIED = ("n", "top", "entropy", "top_token", "top_prob", "ranks", "target_scores")
"""Cached properties of candidates that stay true in any order of columns."""
REORDERED = ("probs", "exact")
"""Cached properties with a value per column."""


def in_order(c: Candidates) -> tuple[Candidates, Int[Tensor, "rows some"]]:
    """Sort the columns by falling score, the lower id first among ties; drop trailing ones no row uses.

    Returns:
        The sorted candidates, and for each of their columns the one that it was.
    """
    place = _places(c)
    scores = c.scores.gather(1, place)
    width = c.width if c.masked else max(1, int(c.n.max()))
    every = torch.arange(c.width, device=place.device).expand(place.shape)
    inverse = torch.empty_like(place).scatter_(1, place, every)
    place = place[:, :width]
    fresh = replace(
        c,
        scores=scores[:, :width].contiguous(),
        tokens=place if c.tokens is None else c.tokens.gather(1, place),
        slots=c.at(inverse, -1),
        order="falling",
        ranked=None,
        holes=False,
    )
    for name in REORDERED:
        if name in c.__dict__ and not c.sequential:  # sums in array order depend on the order
            fresh.__dict__[name] = c.__dict__[name].gather(1, place)
    for name in CARRIED:
        if name in c.__dict__:
            fresh.__dict__[name] = c.__dict__[name]
    return fresh, place


def _places(c: Candidates) -> Int[Tensor, "rows width"]:
    """Return the columns by falling score, the lower id first among ties, those of removed tokens last."""
    if c.ranked is not None:
        place = c.ranked.tokens
        return place.gather(1, parted(c.alive.gather(1, place))) if c.holes else place
    if c.order == "id":
        return rising(-c.scores)
    # ties fall by id: start from columns by rising id, removed tokens last
    columns = c.ids.masked_fill(~c.alive, c.vocab).argsort(dim=-1, stable=True)
    return columns.gather(1, rising(-c.scores.gather(1, columns)))


def hidden(
    c: Candidates,
    mask: Bool[Tensor, "rows width"],
    n: Int[Tensor, " rows"],
    size: Int[Tensor, " rows"],
    most: int | None,
) -> Candidates:
    """Remove the columns outside a mask without looking at it: they stay stored, unless few stay for certain.

    Args:
        c: The candidates.
        mask: Columns to keep.
        n: Number kept in each row.
        size: Length of the engine's array afterwards.
        most: Number of columns kept at most in a row, if that is known.
    """
    width = c.width if most is None else min(most, c.width)
    if c.order == "id" and 2 * width > c.width:
        slots = c.slots.masked_fill(~c.at(mask, False), -1)
        fresh = replace(
            c, scores=c.scores.masked_fill(~mask, float("-inf")), slots=slots, size=size, holes=True
        )
        fresh.__dict__["alive"] = mask
        return fresh
    # sorted survivors stay in front
    place, ahead = packed(mask, width)
    filled = torch.arange(width, device=mask.device) < n[:, None]
    fresh = replace(
        c,
        scores=c.scores.gather(1, place).masked_fill_(~filled, float("-inf")),
        tokens=(place if c.tokens is None else c.tokens.gather(1, place)).masked_fill(~filled, 0),
        slots=c.at(ahead, -1).masked_fill(~c.at(mask, False), -1),
        size=size,
        ranked=None,
        holes=False,
    )
    fresh.__dict__["alive"] = filled
    return fresh


def compacted(
    c: Candidates, mask: Bool[Tensor, "rows width"], n: Int[Tensor, " rows"], size: Int[Tensor, " rows"]
) -> Candidates:
    """Store only the columns of a mask, in their present order.

    Args:
        c: The candidates.
        mask: Columns to keep.
        n: Number kept in each row.
        size: Length of the engine's array afterwards.
    """
    filled = torch.arange(max(1, int(n.max())), device=mask.device) < n[:, None]
    kept = places(mask)
    scores = c.scores.new_full(filled.shape, float("-inf")).masked_scatter_(filled, c.scores.take(kept))
    ids = kept % c.width if c.tokens is None else c.tokens.take(kept)
    tokens = torch.zeros(filled.shape, dtype=torch.int64, device=mask.device).masked_scatter_(filled, ids)
    # the new column of a target: how many columns of its row are kept before it
    begins = torch.arange(mask.shape[0])[:, None] * c.width
    ahead = torch.from_numpy(kept.numpy().searchsorted((begins + c.slots.clamp(min=0)).numpy()))
    ahead -= (n.cumsum(0) - n)[:, None]
    slots = ahead.masked_fill(~c.at(mask, False), -1)
    return replace(c, scores=scores, tokens=tokens, slots=slots, size=size)
