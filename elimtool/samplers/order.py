"""Sort, compare, count and sum rows, each independently of the others.

Mostly in numpy, row by row: on rows of a vocabulary it compares and counts several times as fast as torch on
the CPU, a row stays in the processor's cache, and its numbers cannot depend on the other rows of the batch.
Rows of another device stay there, see ``elimtool.samplers.order_away``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Float64, Int64, Shaped
from torch import Tensor

from elimtool.numerics.ranking import count_compared, reaching
from elimtool.samplers import order_away

Array = npt.NDArray[Any]

FEW = 1024
"""Width under which calls cost more than the work in them; such rows are processed together."""


def places(mask: Bool[Tensor, "rows width"]) -> Int64[Tensor, " found"]:
    """Return the ascending indices into the flattened mask where it is set."""
    return torch.from_numpy(mask.numpy().ravel().nonzero()[0])


def larger(values: Float[Tensor, "rows width"], than: Float[Tensor, "rows 1"]) -> Bool[Tensor, "rows width"]:
    """Return ``values > than``."""
    return torch.from_numpy(values.numpy() > than.numpy()) if values.is_cpu else values > than


def at_least(
    values: Float[Tensor, "rows width"], bound: Float[Tensor, "rows 1"]
) -> Bool[Tensor, "rows width"]:
    """Return ``values >= bound``."""
    return torch.from_numpy(values.numpy() >= bound.numpy()) if values.is_cpu else values >= bound


def tally(mask: Bool[Tensor, "rows width"]) -> Int64[Tensor, " rows"]:
    """Count the set columns of each row."""
    if not mask.is_cpu:
        return order_away.tally(mask)
    rows = mask.numpy()
    return torch.from_numpy(np.fromiter(map(np.count_nonzero, rows), dtype=np.int64, count=len(rows)))


def count_larger(
    values: Float[Tensor, "rows width"], than: Float[Tensor, "rows k"]
) -> Int64[Tensor, "rows k"]:
    """Count the values of each row that are larger than each of its bounds."""
    if not values.is_cpu:
        return order_away.count_larger(values, than)
    rows, bounds = values.numpy(), than.numpy()
    if rows.shape[1] < FEW:
        return torch.from_numpy((rows[:, None, :] > bounds[:, :, None]).sum(-1, dtype=np.int64))
    found = count_compared(rows, bounds, np.ones(bounds.shape, dtype=np.bool_), np.greater)
    return torch.from_numpy(found.reshape(bounds.shape))


def leaders(values: Array, count: int) -> Array:
    """Return the indices of the ``count`` largest values, falling, the lower index first among ties."""
    if not len(values):
        return np.zeros(0, dtype=np.int64)
    least = np.sort(reaching(values, count))[-count:][0]
    found = np.flatnonzero(values >= least)
    return found[np.argsort(-values[found], kind="stable")[:count]]


def sum_products(
    one: Float64[Tensor, "rows width"],
    other: Float64[Tensor, "rows width"],
    alive: Bool[Tensor, "rows width"],
) -> Float64[Tensor, " rows"]:
    """Sum the products of each row's survivors."""
    if not one.is_cpu:
        return order_away.sum_products(one, other, alive)
    # short sums run in order: a vectorised sum groups terms by the width, which other rows decide
    if one.shape[1] < FEW:
        return torch.from_numpy(_in_turn((one * other).masked_fill_(~alive, 0.0).numpy()))
    parts = alive_parts(alive, one, other)
    found = [float(_in_turn(a * b)) if len(a) < FEW else dot(a, b) for a, b in parts]
    return one.new_tensor(found)


def _in_turn(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Sum along the last axis, from first to last; 0 for no values."""
    return np.asarray(values.cumsum(-1)[..., -1] if values.shape[-1] else values.sum(-1))


def dot(one: Array, other: Array) -> float:
    """Sum products so that even the last digit depends only on the values."""
    # the order of sums in a BLAS dot product depends on where in memory a row begins (MKL on AMD), and so on
    # the rows before it; numpy's pairwise sum does not, and starts no threads
    return float((one * other).sum())


def held_below(values: Array, weights: Array, bounds: Array) -> Array:
    """Sum the weights of the values strictly under each bound, in one pass over the weights."""
    inside = values < bounds.max(initial=-np.inf)
    if 8 * np.count_nonzero(inside) < len(values):  # few: copying them is cheaper than working on all
        values, weights = values[inside], weights[inside]
    steps, place = np.unique(bounds, return_inverse=True)
    bins = np.zeros(len(values), dtype=np.uint8 if len(steps) < 256 else np.int64)
    for step in steps:
        np.add(bins, values >= step, out=bins)
    return np.bincount(bins, weights, minlength=len(steps) + 1).cumsum()[place]


def alive_parts(
    alive: Bool[Tensor, "rows width"], *columns: Shaped[Tensor, "rows width"]
) -> Iterator[tuple[Array, ...]]:
    """Iterate over rows: the columns of survivors only, so that no sum depends on the width of the batch."""
    rows = [one.numpy() for one in columns]
    for index, mask in enumerate(alive.numpy()):
        yield tuple(one[index] if mask.all() else one[index][mask] for one in rows)


def softmax(
    scores: Float[Tensor, "rows width"], alive: Bool[Tensor, "rows width"]
) -> Float[Tensor, "rows width"]:
    """Compute probabilities by row, 0 for removed columns.

    How many columns are removed changes no probability. float32 stands for an engine's precision, and is
    left to torch.
    """
    if not scores.is_cpu:
        return order_away.softmax(scores, alive)
    exact = scores.dtype == torch.float64
    if exact and scores.shape[1] < FEW:
        return torch.from_numpy(_shares(scores.numpy()))
    if bool(alive.all()):
        return torch.softmax(scores, -1)
    found = torch.zeros_like(scores)
    for values, mask, probs in zip(scores, alive, found, strict=True):
        own = values[mask]
        few = exact and len(own) < FEW
        probs[mask] = torch.from_numpy(_shares(own.numpy())) if few else torch.softmax(own, -1)
    return found


def _shares(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    best = scores.max(-1, keepdims=True, initial=-np.inf)
    if np.isneginf(best).any():  # a row without survivors has none
        weights = np.exp(scores - np.where(best == -np.inf, 0.0, best))
        sums = _in_turn(weights)[..., None]
        return np.asarray(weights / np.where(sums == 0, 1.0, sums))
    weights = np.exp(scores - best)
    return np.asarray(weights / _in_turn(weights)[..., None])


def rising(values: Float[Tensor, "rows width"]) -> Int64[Tensor, "rows width"]:
    """Sort columns by rising value, the lower column first among ties.

    Args:
        values: No NaN; ``+inf`` entries come last, in any order among themselves.
    """
    if not values.is_cpu:
        return order_away.rising(values)
    if values.shape[1] < 256:
        return values.argsort(dim=-1, stable=True)
    # on long rows an unstable vectorised sort and a repair of ties cost a third of a stable sort
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
