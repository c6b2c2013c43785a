"""Compute the outputs of single heads: their parts of a block's output projection."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from elimtool.model.affine import wide
from elimtool.numerics.transfer import roomy

RowIndex = tuple[Int[Tensor, "rows"], Int[Tensor, "rows"]]

KEPT_NUMBERS = 2**18
"""Most numbers in the outputs of one layer's heads that are kept: 1 MiB in float32."""

FORMED_NUMBERS = 2**22
"""Most numbers in the outputs of heads that are formed at a time to be measured: 16 MiB in float32."""


@dataclass(frozen=True)
class Heads:
    """The heads of one block at the probed positions, before attention's bias and a norm after it.

    A few outputs are formed once and kept; many are formed for the requested rows, each time.

    Attributes:
        inputs: Inputs of the output projection, heads side by side.
        weight: The output projection.
        count: Number of heads.
    """

    inputs: Float[Tensor, "batch probes inner"]
    weight: Float[Tensor, "width inner"]
    count: int

    def at(self, rows: RowIndex) -> Float[Tensor, "rows heads width"]:
        """Return the outputs of the heads at some rows."""
        few = self.few(rows)
        return outputs_of(wide(self.inputs[rows]), wide(self.weight), self.count) if few is None else few

    def few(self, rows: RowIndex) -> Float[Tensor, "rows heads width"] | None:
        """Return the outputs at some rows where they are kept, else ``None``."""
        return None if self._kept is None else self._kept[rows]

    def sum_of_first(self) -> Float[Tensor, "width"]:
        """Return the sum of all heads' outputs at the first probe."""
        if self._kept is not None:
            return self._kept[0, 0].sum(0)
        return wide(self.weight) @ wide(self.inputs[0, 0])

    def lengths(self, rows: RowIndex) -> tuple[Float[Tensor, "rows heads"], Float[Tensor, "rows"]]:
        """Compute the Euclidean norms of each head's output, and of their sum."""
        size = max(1, roomy(FORMED_NUMBERS, self.weight.device) // (self.count * len(self.weight)))
        each, total = [], []
        for start in range(0, len(rows[0]), size):
            outputs = self.at((rows[0][start : start + size], rows[1][start : start + size]))
            each.append(torch.linalg.vector_norm(outputs, dim=-1))
            total.append(torch.linalg.vector_norm(outputs.sum(1), dim=-1))
        return torch.cat(each), torch.cat(total)

    @cached_property
    def _kept(self) -> Float[Tensor, "batch probes heads width"] | None:
        """All outputs; ``None`` where they are many."""
        batch, probes, inner = self.inputs.shape
        if batch * probes * self.count * len(self.weight) > KEPT_NUMBERS:
            return None
        flat = outputs_of(wide(self.inputs).reshape(-1, inner), wide(self.weight), self.count)
        return flat.reshape(batch, probes, self.count, -1)


def outputs_of(
    inputs: Float[Tensor, "rows inner"], weight: Float[Tensor, "width inner"], count: int
) -> Float[Tensor, "rows heads width"]:
    """Split an output projection into each head's part."""
    per_head = inputs.reshape(len(inputs), count, -1).transpose(0, 1)
    return (per_head @ weight.T.reshape(count, -1, len(weight))).transpose(0, 1)
