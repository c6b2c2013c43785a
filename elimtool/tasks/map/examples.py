"""Find where each head attends most on text: one row of attention a passage, for examples to be shown of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch

from elimtool.model.model import Model
from elimtool.model.rows import Formed
from elimtool.model.view import Batch, LayerView
from elimtool.tasks.map.options import MapOptions
from elimtool.tasks.map.part import Arrays
from elimtool.tasks.map.readable import text_of
from elimtool.tasks.map.units import TEXT, Unit

KEYS = 3
"""Keys of a row that are kept, those with the largest weights."""


class Examples:
    """Reads attention on text."""

    needs: ClassVar[Mapping[str, frozenset[str] | None]] = {TEXT: frozenset({"attention"})}

    def __init__(self, model: Model, asked: MapOptions) -> None:
        del asked
        self.model = model

    def watch(self, units: Sequence[Unit], batch: Batch) -> ExampleRows:
        """Begin a pass."""
        return ExampleRows(self.model, units, batch)


class ExampleRows:
    """The row of each passage on which a head attends most to one key, sinks left out.

    ``query``: its position, [units, layers, heads]; ``keys`` and ``weights``: the keys with the largest
    weights and these, the largest first, [units, layers, heads, KEYS]. They are 0 where a layer has none.
    """

    def __init__(self, model: Model, units: Sequence[Unit], batch: Batch) -> None:
        self.text = text_of(units, batch)
        shape = len(units), model.n_layers, model.n_heads
        shapes = {"query": shape, "keys": (*shape, KEYS), "weights": (*shape, KEYS)}
        self.found = {name: torch.zeros(one, dtype=torch.float64) for name, one in shapes.items()}

    def observe(self, view: LayerView, rows: Formed | None) -> None:
        """Choose the rows of one layer."""
        if rows is None:
            return
        weights = rows.weights * self.text[:, None, None] * self.text[:, None, :, None]
        query = weights.amax(-1).argmax(-1)  # of equal ones the first
        at = query[..., None, None].expand(-1, -1, 1, weights.shape[-1])
        top = weights.gather(2, at)[:, :, 0].topk(KEYS, dim=-1)
        for name, one in {"query": query, "keys": top.indices, "weights": top.values}.items():
            self.found[name][:, view.layer] = one.double().cpu()

    def sums(self) -> Arrays:
        """Return all arrays."""
        return {name: one.numpy() for name, one in self.found.items()}

    def totals(self) -> Arrays:
        """Return nothing: every number is of a unit."""
        return {}
