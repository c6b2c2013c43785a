"""How many of an MLP's neurons matter: activations in, counts and shares out."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

NEGLIGIBLE = 0.01
"""A neuron counts as below threshold under this share of the largest absolute activation."""

HELD = 0.9
"""Share of the squared activations that the n90 neurons hold."""

ERROR = 0.2
"""Relative error of the MLP's output that dropped neurons may cause."""

STEPS = 32
"""Neurons are dropped in this many steps first, then one by one within the step that goes too far."""

LATE = 15
"""The last steps, which are looked at first: mostly more than half of all neurons can go."""

Row = Float[Tensor, "rows"]


def activity(neurons: Float[Tensor, "*rows neurons"]) -> dict[str, Float[Tensor, "*rows"]]:
    """How many of an MLP's neurons are active, by three definitions; NaN where all are 0."""
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
    """Each row in falling order. On the CPU NumPy sorts several times as fast, by vector instructions."""
    if size.device.type != "cpu" or size.dtype == torch.bfloat16:
        return size.sort(-1, descending=True).values
    return torch.from_numpy(-np.sort(-size.numpy(), axis=-1))


def _rising(size: Float[Tensor, "neurons"]) -> Int[Tensor, "neurons"]:
    """Places in rising order; which of equals comes first is the same every time."""
    if size.device.type != "cpu":
        return size.argsort(stable=True)
    return torch.from_numpy(size.numpy().argsort())


def droppable(
    neurons: Float[Tensor, "rows neurons"],
    weight: Float[Tensor, "width neurons"],
    sizes: Float[Tensor, "neurons"],
) -> tuple[Row, Float[Tensor, "rows width"]]:
    """Share of neurons that can go before an MLP's output is off by more than ``ERROR`` of its length.

    Neurons go in the order of what each writes, |a_f| |W_f|, the least first. The error is that of the
    output itself, exact. It need not grow with every neuron; the search takes the last of ``STEPS`` equal
    steps that stays within the error, then the most neurons of the next step that do.

    Args:
        neurons: Activations, the inputs of the down projection.
        weight: The down projection.
        sizes: Euclidean norms of its columns.

    Returns:
        ``(share, written)``: 0 .. 1, NaN where the output is 0; and what all neurons together write.
    """
    found = [_droppable(values, weight, sizes) for values in neurons]
    shares = torch.tensor([share for share, _ in found], device=neurons.device)
    return shares, torch.stack([written for _, written in found])


def _droppable(
    values: Float[Tensor, "neurons"], weight: Float[Tensor, "width neurons"], sizes: Float[Tensor, "neurons"]
) -> tuple[float, Float[Tensor, "width"]]:
    count = len(values)
    step = -(-count // STEPS)
    order = _rising(values.abs() * sizes)
    steps, dropped = _steps(values, weight, order, step, STEPS - LATE, STEPS)
    written = dropped[:, -1]
    allowed = ERROR * torch.linalg.vector_norm(written)
    if not bool(allowed > 0):
        return float("nan"), written
    within = _last_true(torch.linalg.vector_norm(dropped, dim=0) <= allowed)
    if not within:  # few neurons can go, and the last one that can is in an earlier step
        steps, dropped = _steps(values, weight, order, step, 0, STEPS - LATE)
        within = _last_true(torch.linalg.vector_norm(dropped, dim=0) <= allowed)
    done = steps + within
    chosen = order[done * step : (done + 1) * step]
    finer = (weight.index_select(1, chosen) * values[chosen]).cumsum(1)
    if within:
        finer = finer + dropped[:, [within - 1]]
    more = _last_true(torch.linalg.vector_norm(finer, dim=0) <= allowed)
    return (done * step + more) / count, written


def _steps(
    values: Float[Tensor, "neurons"],
    weight: Float[Tensor, "width neurons"],
    order: Int[Tensor, "neurons"],
    step: int,
    first: int,
    last: int,
) -> tuple[int, Float[Tensor, "width steps"]]:
    """What the neurons of the first steps write together, for ``first`` (or 1) to ``last`` of them.

    Returns:
        ``(before, dropped)``: column j of ``dropped`` is of the first ``before + j + 1`` steps.
    """
    before = max(first - 1, 0)
    places = (torch.arange(len(order), device=order.device) // step - before).clamp(min=0)
    counted = places < last - before
    parts = values.new_zeros(len(values), last - before)
    parts[order[counted], places[counted]] = values[order[counted]]
    return before, (weight @ parts).cumsum(1)


def _last_true(flags: Bool[Tensor, "n"]) -> int:
    """1 + the last index that is true; 0 for none."""
    true = flags.nonzero()
    return int(true[-1]) + 1 if len(true) else 0
