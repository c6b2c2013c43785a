"""Count how often each neuron of each MLP opens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from elimtool.model.affine import wide
from elimtool.model.model import Model
from elimtool.model.rows import Formed
from elimtool.model.view import Batch, LayerView
from elimtool.tasks.map.options import MapOptions
from elimtool.tasks.map.part import Arrays
from elimtool.tasks.map.readable import text_of
from elimtool.tasks.map.units import TEXT, Unit

NEGLIGIBLE = 0.01
"""Share of a token's largest absolute activation under which a neuron does next to nothing there."""


class Neurons:
    """Reads what goes into the down projections, and the gates before it."""

    needs: ClassVar[Mapping[str, frozenset[str] | None]] = {TEXT: frozenset({"block"})}

    def __init__(self, model: Model, asked: MapOptions) -> None:
        del asked
        self.model = model

    def watch(self, units: Sequence[Unit], batch: Batch) -> NeuronSums:
        """Begin a pass."""
        return NeuronSums(units, batch)


class NeuronSums:
    """Counts of one pass: ``open`` and ``below``, one array a layer, and ``n``, tokens by layer.

    By unit ``opened``, the share of neurons that are open, mean over tokens, [units, layers]; NaN in a layer
    whose MLP is not single neurons (a mixture of experts), which has no other arrays, and 0 tokens.
    """

    def __init__(self, units: Sequence[Unit], batch: Batch) -> None:
        self.text = text_of(units, batch)
        self.found: dict[str, Tensor] = {}
        self.seen: list[float] = []
        self.opened: list[Tensor] = []

    def observe(self, view: LayerView, rows: Formed | None) -> None:
        """Count in one layer."""
        del rows
        if view.layer < 0:
            return
        mlp = None if view.block is None else view.block.mlp
        if view.block is None or mlp is None or mlp.inputs is None or mlp.weight is None:
            self.seen.append(0.0)
            self.opened.append(torch.full((len(self.text),), torch.nan, dtype=torch.float64))
            return
        self.seen.append(float(self.text.sum()))
        # without a gate the activation's sign is that of its pre-activation (ReLU, GELU and SiLU keep it)
        before = mlp.inputs if view.block.gate is None else view.block.gate
        each = ((before > 0).double().mean(-1) * self.text).sum(-1) / self.text.sum(-1)
        self.opened.append(each.cpu())
        opened, below = openings(before[self.text], mlp.inputs[self.text])
        self.found |= {f"open.{view.layer}": opened, f"below.{view.layer}": below}

    def sums(self) -> Arrays:
        """Return the shares of each unit."""
        return {"opened": torch.stack(self.opened, 1).numpy()} if self.opened else {}

    def totals(self) -> Arrays:
        """Return the counts."""
        counts = {name: one.double().cpu().numpy() for name, one in self.found.items()}
        return counts | {"n": torch.tensor(self.seen, dtype=torch.float64).numpy()}


def openings(
    before: Float[Tensor, "tokens neurons"], after: Float[Tensor, "tokens neurons"]
) -> tuple[Int64[Tensor, "neurons"], Int64[Tensor, "neurons"]]:
    """Count the tokens at which each neuron is open, and those at which it does next to nothing.

    Args:
        before: Gate pre-activations, or what has their sign: open above 0.
        after: What goes into the down projection; next to nothing is under ``NEGLIGIBLE`` of the token's
            largest, in absolute value.
    """
    size = wide(after).abs()
    return (before > 0).sum(0), (size < NEGLIGIBLE * size.amax(-1, keepdim=True)).sum(0)
