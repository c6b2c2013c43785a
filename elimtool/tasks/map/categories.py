"""Sum up how much attention falls on each category of tokens, and how much would by distance alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from elimtool.analysis.map.named import OVERLAYS
from elimtool.model.model import Model
from elimtool.model.rows import Formed
from elimtool.model.view import Batch, LayerView
from elimtool.tasks.map.options import MapOptions
from elimtool.tasks.map.part import Arrays
from elimtool.tasks.map.readable import PAST, on_text, text_of
from elimtool.tasks.map.units import TEXT, Unit
from elimtool.tasks.map.words import labelled, overlays, written

NAMES = ("found", "uniform", "expected")


class Categories:
    """Reads attention on text."""

    needs: ClassVar[Mapping[str, frozenset[str] | None]] = {TEXT: frozenset({"attention"})}

    def __init__(self, model: Model, asked: MapOptions) -> None:
        self.model = model
        self.names = asked.categories

    def watch(self, units: Sequence[Unit], batch: Batch) -> CategorySums:
        """Begin a pass."""
        return CategorySums(self.model, self.names, units, batch)


class CategorySums:
    """Sums of one pass, [units, layers, heads, categories], over the queries that count.

    ``found``: attention on the category; ``uniform``: what even attention gives it; ``expected``: what it
    gets if tokens change places within a distance. ``rows``: how many queries count, [units, layers, heads];
    ``read``: 1 for a layer with attention weights, [units, layers]; ``tokens``: [units, categories].
    """

    def __init__(self, model: Model, names: Sequence[str], units: Sequence[Unit], batch: Batch) -> None:
        self.text = text_of(units, batch)
        kinds = torch.stack([one_hot(unit, names) for unit in units]).to(batch.ids.device)
        self.kinds = kinds * self.text[..., None]
        shape = len(units), model.n_layers, model.n_heads
        self.found = {name: torch.zeros(*shape, kinds.shape[-1], dtype=torch.float64) for name in NAMES}
        self.found["rows"] = torch.zeros(shape, dtype=torch.float64)
        self.found["read"] = torch.zeros(shape[:2], dtype=torch.float64)
        self.found["tokens"] = self.kinds.sum(1).cpu()
        self.seen: tuple[Tensor, Tensor, Tensor] | None = None

    def observe(self, view: LayerView, rows: Formed | None) -> None:
        """Sum up one layer."""
        if rows is None or view.visible is None:
            return
        weights, counts = on_text(rows, self.text, PAST)
        even, within = self._chances(view.visible[:, PAST:] & self.text[:, None])
        summed = {
            "found": weights.sum(2) @ self.kinds,
            "uniform": counts.double() @ even,
            "expected": torch.einsum("uhqd,uqdc->uhc", by_distance(weights, PAST), within),
            "rows": counts.sum(-1).double(),
        }
        for name, one in summed.items():
            self.found[name][:, view.layer] = one.cpu()
        self.found["read"][:, view.layer] = 1

    def _chances(
        self, visible: Bool[Tensor, "units queries keys"]
    ) -> tuple[Float64[Tensor, "units queries c"], Float64[Tensor, "units queries bins c"]]:
        """Return each category's share of the keys that a query sees, and of those in each distance bin."""
        if self.seen is None or not torch.equal(self.seen[0], visible):  # most layers see the same
            keys = visible.double()
            even = keys @ self.kinds / keys.sum(-1, keepdim=True).clamp(min=1)
            all_keys = by_distance(keys, PAST)[..., None]
            each = [by_distance(keys * one[:, None], PAST) for one in self.kinds.unbind(-1)]
            self.seen = visible, even, torch.stack(each, -1) / all_keys.clamp(min=1)
        return self.seen[1:]

    def sums(self) -> Arrays:
        """Return all arrays."""
        return {name: one.numpy() for name, one in self.found.items()}

    def totals(self) -> Arrays:
        """Return nothing: every number is of a unit."""
        return {}


def by_distance(
    values: Float64[Tensor, "*units queries keys"], first: int
) -> Float64[Tensor, "*units queries bins"]:
    """Sum over keys whose distance from the query is 0, 1, 2 to 3, 4 to 7 and so on.

    Args:
        values: Of each query and key.
        first: Position of the first query.
    """
    queries, keys = values.shape[-2:]
    sums = torch.cat([values.new_zeros(*values.shape[:-1], 1), values.cumsum(-1)], -1)
    edges = [0, 1]
    while edges[-1] < keys:
        edges.append(2 * edges[-1])
    at = torch.arange(first, first + queries, device=values.device)[:, None]
    ends = (at + 1 - torch.tensor(edges, device=values.device)).clamp(min=0)  # [queries, edges]
    found = sums.gather(-1, ends.expand(*values.shape[:-1], -1))
    return found[..., :-1] - found[..., 1:]


def one_hot(unit: Unit, names: Sequence[str]) -> Float64[Tensor, "keys categories"]:
    """Return what each token of a passage is: its category, and then each of ``OVERLAYS``."""
    one = unit.encoded
    meta = one.prompt.meta
    assert isinstance(meta, Mapping)
    if "labels" in meta:
        kinds = labelled(one.offsets, [tuple(span) for span in meta["labels"]], one.text, names[-1])
    else:
        kinds = written(one.text, one.offsets)
    found = torch.zeros(len(kinds), len(names) + len(OVERLAYS), dtype=torch.float64)
    found[range(len(kinds)), [names.index(kind) for kind in kinds]] = 1
    for index, marks in enumerate(overlays(one.text, one.offsets, one.token_ids).values()):
        found[:, len(names) + index] = torch.tensor(marks, dtype=torch.float64)
    return found
