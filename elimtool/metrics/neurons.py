"""Count the active neurons of an MLP, and those that can be dropped before its output changes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from elimtool.model.affine import wide

NEGLIGIBLE = 0.01
"""Share of the largest absolute activation under which a neuron is below threshold."""

HELD = 0.9
"""Share of the squared activations that the n90 neurons hold."""

ERROR = 0.2
"""Relative error of the MLP's output that dropped neurons may cause."""

STEPS = 32
"""Neurons are dropped in this many steps first, then one by one within the step that goes too far."""

LATE = 15
"""Number of last steps, which are tried first: mostly more than half of all neurons can be dropped."""

HELD_NUMBERS = 2**20
"""About the most numbers in one intermediate tensor, unless a single layer has more."""


def activity(neurons: Float[Tensor, "*rows neurons"]) -> dict[str, Float[Tensor, "*rows"]]:
    """Measure how many neurons of an MLP are active, by three definitions; NaN where all are 0."""
    size = neurons.double().abs()
    largest = size.amax(-1)
    energy = (size / largest[..., None]).square()  # scaled: fourth powers of large numbers stay finite
    total = energy.sum(-1)
    falling = (_falling(neurons.abs()).double() / largest[..., None]).square()  # as energy, in order
    held = (falling.cumsum(-1) - falling < HELD * total[..., None]).sum(-1).double()
    return {
        "below_threshold_frac": (size < NEGLIGIBLE * largest[..., None])
        .double()
        .mean(-1)
        .where(largest > 0, torch.nan),
        "participation_ratio": total.square() / energy.square().sum(-1),
        "n90": held.where(largest > 0, torch.nan),
    }


def _falling(size: Float[Tensor, "*rows neurons"]) -> Float[Tensor, "*rows neurons"]:
    """Sort each row in falling order; on the CPU by NumPy, whose vectorised sort is several times as fast."""
    if size.device.type != "cpu" or size.dtype == torch.bfloat16:
        return size.sort(-1, descending=True).values
    return torch.from_numpy(-np.sort(-size.numpy(), axis=-1))


def _rising(size: Float[Tensor, "*rows neurons"]) -> Int[Tensor, "*rows neurons"]:
    """Return indices in rising order; ties come in the same order every time."""
    if size.device.type != "cpu":
        return size.argsort(stable=True)
    return torch.from_numpy(size.numpy().argsort(-1))


def droppable(
    neurons: Float[Tensor, "layers rows neurons"],
    weights: Sequence[Float[Tensor, "width neurons"]],
    sizes: Float[Tensor, "layers neurons"],
    held: int = HELD_NUMBERS,
) -> tuple[Float[Tensor, "layers rows"], Float[Tensor, "layers rows width"]]:
    """Return the share of neurons that can be dropped before the output is off by ``ERROR`` of its length.

    Neurons are dropped by rising length of what they write, |a_f| |W_f|. The error of the output is exact,
    and need not grow with every neuron: the search takes the last of ``STEPS`` equal steps that stays within
    ``ERROR``, then the most neurons of the next step that do.

    Args:
        neurons: Activations, the inputs of the down projections.
        weights: Down projection of each layer; half precision is widened one layer at a time.
        sizes: Euclidean norms of its columns.
        held: Numbers in one intermediate tensor at most, about, unless a single layer has more.

    Returns:
        ``(share, written)``: 0 .. 1, NaN where the output is 0; and the output of all neurons.
    """
    layers, rows, count = neurons.shape
    together = max(1, held // (rows * count * (LATE + 1)))
    found = [
        _droppable(neurons[some], weights[some], sizes[some])
        for some in (slice(start, start + together) for start in range(0, layers, together))
    ]
    shares, written = (torch.cat(part) for part in zip(*found, strict=True))
    return shares, written


def _droppable(
    neurons: Float[Tensor, "layers rows neurons"],
    weights: Sequence[Float[Tensor, "width neurons"]],
    sizes: Float[Tensor, "layers neurons"],
) -> tuple[Float[Tensor, "layers rows"], Float[Tensor, "layers rows width"]]:
    count = neurons.shape[-1]
    step = -(-count // STEPS)
    order = _rising(neurons.abs() * sizes[:, None])
    late = _steps(neurons, weights, order, step, STEPS - LATE)
    written = late[..., -1].transpose(1, 2)
    allowed = ERROR * torch.linalg.vector_norm(written, dim=-1)
    within, kept = _within(late, allowed)
    done = within + (STEPS - LATE - 1)
    for layer in ((within == 0) & (allowed > 0)).any(-1).nonzero()[:, 0].tolist():
        # few neurons of some row can be dropped: the last is in an earlier step
        some = slice(layer, layer + 1)
        early = _steps(neurons[some], weights[some], order[some], step, 1)[..., : STEPS - LATE - 1]
        before, rest = _within(early, allowed[some])
        seldom = within[some] == 0
        done[some] = before.where(seldom, done[some])
        kept[some] = rest.where(seldom[:, None], kept[some])
    places = done[..., None] * step + torch.arange(step, device=order.device)
    chosen = order.gather(-1, places.clamp(max=count - 1))
    values = neurons.gather(-1, chosen).where(places < count, 0.0)
    more = _last(_lengths(kept, weights, chosen, values), allowed.double().square())
    share = (done * step + more).to(neurons.dtype) / count
    return share.where(allowed > 0, torch.nan), written


def _steps(
    neurons: Float[Tensor, "layers rows neurons"],
    weights: Sequence[Float[Tensor, "width neurons"]],
    order: Int[Tensor, "layers rows neurons"],
    step: int,
    first: int,
) -> Float[Tensor, "layers width rows steps"]:
    """Return the sum of what the neurons of the first steps write, for ``first`` to all ``STEPS`` of them."""
    layers, rows, count = order.shape
    steps = STEPS - first + 1
    place = (torch.arange(count, device=order.device) // step - (first - 1)).clamp(min=0)
    columns = torch.empty_like(order).scatter_(-1, order, place.expand(order.shape))
    columns += steps * torch.arange(rows, device=order.device)[:, None]
    parts = neurons.new_zeros(layers, count, rows * steps)
    parts.scatter_(-1, columns.transpose(1, 2), neurons.transpose(1, 2))
    written = torch.stack([wide(weight) @ part for weight, part in zip(weights, parts, strict=True)])
    return _running(written.view(layers, -1, rows, steps))


def _lengths(
    kept: Float[Tensor, "layers width rows"],
    weights: Sequence[Float[Tensor, "width neurons"]],
    chosen: Int[Tensor, "layers rows step"],
    values: Float[Tensor, "layers rows step"],
) -> Float64[Tensor, "layers rows step"]:
    """Return squared lengths of ``kept`` plus what the first chosen neurons write, for 1 to all of them.

    From products of the neurons' columns: |k + sum v_i|^2 is |k|^2, twice the products k v_i, twice those of
    pairs, and the squares.
    """
    with_kept, pairs = [], []
    for one, weight, which in zip(kept, weights, chosen, strict=True):
        columns = wide(weight).index_select(1, which.flatten()).view(-1, *which.shape).transpose(0, 1)
        with_kept.append((one.T[:, None] @ columns)[:, 0])
        pairs.append(columns.mT @ columns)
    values = values.double()
    products = torch.stack(pairs) * (values[..., None] * values[..., None, :])
    earlier = products.tril(-1).sum(-1) + torch.stack(with_kept) * values
    added = 2 * earlier + products.diagonal(dim1=-2, dim2=-1)
    return kept.double().square().sum(1)[..., None] + added.cumsum(-1)


def _running(parts: Float[Tensor, "*some n"]) -> Float[Tensor, "*some n"]:
    """Sum cumulatively; a matrix product takes half the time of ``cumsum``."""
    n = parts.shape[-1]
    return parts @ torch.ones(n, n, dtype=parts.dtype, device=parts.device).triu()


def _within(
    dropped: Float[Tensor, "layers width rows n"], allowed: Float[Tensor, "layers rows"]
) -> tuple[Int[Tensor, "layers rows"], Float[Tensor, "layers width rows"]]:
    """Return 1 + the index of the last column no longer than allowed, 0 for none; and that column, or 0."""
    last = _last(dropped.square().sum(1), allowed.square())
    column = (last - 1).clamp(min=0)[:, None, :, None].expand(*dropped.shape[:-1], 1)
    return last, dropped.gather(-1, column)[..., 0] * (last > 0)[:, None]


def _last(
    squares: Float[Tensor, "layers rows n"], allowed: Float[Tensor, "layers rows"]
) -> Int[Tensor, "layers rows"]:
    """Return 1 + the index of each row's last squared length no larger than allowed, 0 for none."""
    places = torch.arange(1, squares.shape[-1] + 1, device=squares.device)
    return ((squares <= allowed[..., None]) * places).amax(-1)
