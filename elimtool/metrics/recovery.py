"""Recovery: which tokens early layers starve of attention, and whether late layers come back to them.

Table ``recovery``. A token's share in early (late) layers is the mean over these layers and all heads of its
share among the non-sink keys, relative to an even one; once by weight and once by the norm of what is
carried. Starved: under half an even share early. Recovered: starved, and at least an even share late. What
chance would recover is the exact mean over all ways to shuffle late shares among tokens at like distance,
since both shares fall with distance. The definitions are elimtool's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, nan
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from elimtool.metrics.attention_sums import LEAST_OUTSIDE_SINK, AttentionSums
from elimtool.metrics.carried_sums import CarriedSums
from elimtool.metrics.columns import Categorical, Columns
from elimtool.model.view import Batch

STARVED = 0.5
"""A token with less than this many even shares in early layers is starved."""

LEAST_KEYS = 32
"""Fewest visible non-sink tokens for which anything is said."""

BY = ("mass", "norm")

Array = npt.NDArray[Any]


class Recovery:
    """Adds up each token's shares in early and in late layers.

    Args:
        batch: The batch.
        sink: Which keys are sinks.
        depth: Number of layers.
    """

    def __init__(self, batch: Batch, sink: Bool[Tensor, "batch keys"], depth: int) -> None:
        self.batch = batch
        self.sink = sink
        self.early, self.late = ceil(depth / 3), 2 * depth // 3
        shape = (len(BY), 2, *batch.positions.shape, batch.ids.shape[1])
        self.sums = torch.zeros(shape, dtype=torch.float64, device=batch.ids.device)
        self.counts = torch.zeros(shape, dtype=torch.float64, device=batch.ids.device)

    def add(self, layers: Sequence[int], rows: AttentionSums, carried: CarriedSums, some: slice) -> None:
        """Add the rows of some layers and probes."""
        keys = rows.weights.shape[-1]
        outside = rows.outside[:, :, None]
        for by, shares in enumerate((rows.weights, carried.norms)):
            if shares is None:
                continue
            kept = shares.double() * outside
            rest, total = kept.sum(-1), shares.sum(-1, dtype=torch.float64)
            if by == 0:  # what goes to no key is part of the whole
                total = torch.ones_like(rest)
            measured = rest >= LEAST_OUTSIDE_SINK * total
            if by == 1:
                measured = measured & carried.known[:, :, None]
            lift = kept * (rows.n_outside[:, :, None] / rest)[..., None]
            lift = lift.where(measured[..., None], 0.0).sum(2)
            count = measured.sum(2)[..., None] * rows.outside
            # layers come in order, so each third is a slice
            early, late = (sum(layer < edge for layer in layers) for edge in (self.early, self.late))
            for place, chosen in enumerate((slice(0, early), slice(late, len(layers)))):
                if chosen.start < chosen.stop:
                    self.sums[by, place, :, some, :keys] += lift[chosen].sum(0)
                    self.counts[by, place, :, some, :keys] += count[chosen].sum(0)

    def means(self) -> Float[Tensor, "by thirds batch probes keys"]:
        """Return each token's mean share, by ``BY``, early and late."""
        return self.sums / self.counts  # 0 / 0 = NaN: not visible or not measured

    def columns(self, means: Array, flawed: Sequence[str | None]) -> Columns:
        """Return columns of the table.

        Args:
            means: Of ``means``, on the host.
            flawed: Why the parts of each layer are not known; ``None`` if they are.
        """
        means = np.stack([means[0], np.where(any(flawed), np.nan, means[1])])
        prompt, probe = self.batch.rows.here
        rows, by = np.indices((len(prompt), len(BY))).reshape(2, -1)
        positions = self.batch.here["positions"]
        found = [
            recovery(
                means[kind, 0, prompt[row], probe[row]],
                means[kind, 1, prompt[row], probe[row]],
                int(positions[prompt[row], probe[row]]),
            )
            for row, kind in zip(rows, by, strict=True)
        ]
        return {
            "prompt_id": Categorical([one.prompt_id for one in self.batch.encoded], prompt[rows]),
            "position": positions[prompt, probe][rows],
            "by": Categorical(BY, by),
            **{name: [one[name] for one in found] for name in found[0]},
        }


def recovery(
    early: Float[Array, "keys"], late: Float[Array, "keys"], position: int
) -> dict[str, int | float | None]:
    """Count starved and recovered tokens.

    Args:
        early: Each token's mean share in early layers, in even shares; NaN where it is not measured.
        late: The same in late layers.
        position: Index of the query.

    Returns:
        ``n_keys``, ``starved``, ``recovered``, ``expected`` (by chance), and ``carry_over``, the rank
        correlation of early and late shares at like distance (-1 .. 1); ``None`` with fewer than
        ``LEAST_KEYS`` tokens.
    """
    (keys,) = np.nonzero(~np.isnan(early) & ~np.isnan(late))
    if len(keys) < LEAST_KEYS:
        return {"n_keys": len(keys), **dict.fromkeys(("starved", "recovered", "expected", "carry_over"))}
    e, f = early[keys], late[keys]
    distance = position - keys
    bins = np.where(distance > 0, np.floor(np.log2(np.maximum(distance, 1))) + 1, 0)
    starved, fed = e < STARVED, f >= 1.0
    expected, ranks = 0.0, np.zeros((2, len(keys)))
    for one in np.unique(bins):
        inside = bins == one
        expected += float(starved[inside].sum() * fed[inside].mean())
        for row, values in enumerate((e, f)):
            order = ranked(values[inside])
            ranks[row, inside] = order - order.mean()
    spread = float(np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum()))
    return {
        "n_keys": len(keys),
        "starved": int(starved.sum()),
        "recovered": int((starved & fed).sum()),
        "expected": expected,
        "carry_over": float((ranks[0] * ranks[1]).sum()) / spread if spread > 0 else nan,
    }


def ranked(values: Float[Array, "keys"]) -> Float[Array, "keys"]:
    """Return ranks from 1, equal values at the mean of theirs."""
    ordered = np.sort(values)
    first, behind = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    return (first + behind + 1) / 2.0
