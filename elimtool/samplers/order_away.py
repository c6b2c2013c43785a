"""Sort, compare, count and sum rows on a device, without looking at any number on the host.

The same as ``elimtool.samplers.order`` on the CPU, in operations over all rows: nothing is left out of a
row, removed columns count as 0, and no shape depends on the numbers.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

TOGETHER = 2**28
"""Comparisons made at once, a byte each; more are made bound by bound."""


def tally(mask: Bool[Tensor, "rows width"]) -> Int64[Tensor, " rows"]:
    """Count the set columns of each row."""
    return mask.sum(-1)


def count_larger(
    values: Float[Tensor, "rows width"], than: Float[Tensor, "rows k"]
) -> Int64[Tensor, "rows k"]:
    """Count the values of each row that are larger than each of its bounds."""
    if values.numel() * than.shape[1] <= TOGETHER:
        return (values[:, None, :] > than[:, :, None]).sum(-1)
    return torch.stack([(values > one[:, None]).sum(-1) for one in than.unbind(-1)], -1)


def sum_products(
    one: Float64[Tensor, "rows width"],
    other: Float64[Tensor, "rows width"],
    alive: Bool[Tensor, "rows width"],
) -> Float64[Tensor, " rows"]:
    """Sum the products of each row's survivors."""
    return (one * other).masked_fill_(~alive, 0.0).sum(-1)


def softmax(
    scores: Float[Tensor, "rows width"], alive: Bool[Tensor, "rows width"]
) -> Float[Tensor, "rows width"]:
    """Compute probabilities by row, 0 for removed columns and in rows without survivors."""
    return torch.softmax(scores, -1).masked_fill_(~alive, 0.0)


def rising(values: Float[Tensor, "rows width"]) -> Int64[Tensor, "rows width"]:
    """Sort columns by rising value, the lower column first among ties."""
    return values.argsort(dim=-1, stable=True)


def packed(
    mask: Bool[Tensor, "rows width"], width: int
) -> tuple[Int64[Tensor, "rows some"], Int64[Tensor, "rows width"]]:
    """Bring marked columns to the front, in their present order.

    Args:
        mask: Columns to bring, at most ``width`` in each row.
        width: Number of columns afterwards.

    Returns:
        For each new column the old one, 0 behind those of the row; and for each marked column the new one.
    """
    ahead = mask.cumsum(-1) - 1
    old = torch.arange(mask.shape[1], device=mask.device).expand(mask.shape)
    # what is not marked goes into a column of its own, which is cut off
    found = torch.zeros((mask.shape[0], width + 1), dtype=torch.int64, device=mask.device)
    found.scatter_(1, ahead.masked_fill(~mask, width), old)
    return found[:, :width], ahead


def parted(mask: Bool[Tensor, "rows width"]) -> Int64[Tensor, "rows width"]:
    """Return for each new column the old one, where marked ones come first and all keep their order."""
    ahead = mask.cumsum(-1)
    old = torch.arange(mask.shape[1], device=mask.device).expand(mask.shape)
    place = torch.where(mask, ahead - 1, ahead[:, -1:] + old - ahead)
    return torch.empty_like(place).scatter_(1, place, old)
