"""Ordering rows: values in; places in rising order (ties by column), comparisons and counts out."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


def places(mask: Bool[Tensor, "rows width"]) -> Int64[Tensor, " found"]:
    """Where a mask is set, as places in the flattened mask, ascending."""
    if mask.device.type != "cpu":
        return mask.flatten().nonzero()[:, 0]
    return torch.from_numpy(mask.numpy().ravel().nonzero()[0])


def larger(values: Float[Tensor, "rows width"], than: Float[Tensor, "rows 1"]) -> Bool[Tensor, "rows width"]:
    """``values > than``; numpy compares eight times as fast as torch does on the CPU."""
    if values.device.type != "cpu":
        return values > than
    return torch.from_numpy(values.numpy() > than.numpy())


def tally(mask: Bool[Tensor, "rows width"]) -> Int64[Tensor, " rows"]:
    """How many columns of each row are set."""
    return mask.contiguous().view(torch.uint8).sum(-1, dtype=torch.int32).long()


def rising(values: Float[Tensor, "rows width"]) -> Int64[Tensor, "rows width"]:
    """Columns by rising value, the lower column first among ties.

    An unstable vectorised sort and a repair of the tied runs cost a third of a stable sort on long rows.

    Args:
        values: No NaN; ``+inf`` entries come last, in any order among themselves.
    """
    if values.device.type != "cpu" or values.shape[1] < 256:
        return values.argsort(dim=-1, stable=True)
    place = torch.from_numpy(values.numpy().argsort(axis=-1))
    ordered = values.gather(1, place)
    same = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] < torch.inf)
    pairs = places(same)
    if not pairs.numel():
        return place
    width = values.shape[1]
    second = pairs + torch.div(pairs, width - 1, rounding_mode="floor") + 1  # the pairs' grid is one narrower
    tied = torch.unique(torch.cat([second - 1, second]))
    run = (~torch.isin(tied, second)).cumsum(0)
    flat = place.flatten()
    flat[tied] = (run * width + flat[tied]).sort().values % width
    return flat.view_as(place)
