"""Sum up which heads look at the token that is to be said, where it stands in a hidden sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from elimtool.model.model import Model
from elimtool.model.rows import Formed
from elimtool.model.view import Batch, LayerView
from elimtool.tasks.map.part import Arrays
from elimtool.tasks.map.units import Unit


class NeedleSums:
    """Sums of one pass: answers to questions for a sentence that is, or is not, hidden in the text.

    [units, layers, heads]: ``retrieval``, tokens of the answer at which the head's first key is in the
    hidden sentence and holds that token, of ``retrieval.rows``; ``greedy`` of ``greedy.rows``, the same
    where the model itself would say the token. Retrieval is teacher-forced: all tokens of the answer
    before are there. Source: Wu et al. 2024 (arXiv 2404.15574), who generate.
    """

    names: ClassVar[tuple[str, ...]] = ("retrieval", "greedy")

    def __init__(self, model: Model, units: Sequence[Unit], batch: Batch) -> None:
        self.model, self.units, self.ids = model, units, batch.ids
        self.hits: dict[int, list[Tensor]] = {}
        self.last: Tensor | None = None

    def observe(self, view: LayerView, rows: Formed | None) -> None:
        """Look at each head's first key."""
        self.last = view.residual
        if rows is not None:
            each = zip(self.units, self.ids, rows.weights, strict=True)
            self.hits[view.layer] = [_hits(unit, ids, weights) for unit, ids, weights in each]

    def sums(self) -> Arrays:
        """Read out what the model would say, and return all arrays."""
        shape = len(self.units), self.model.n_layers, self.model.n_heads
        names = [name for one in self.names for name in (one, f"{one}.rows")]
        found = {name: torch.zeros(shape, dtype=torch.float64) for name in names}
        assert self.last is not None
        for row, unit in enumerate(self.units):
            where = asking(unit)
            said = self.model.readout(self.last[row, where]).argmax(-1)
            right = said == self.ids[row, [at + 1 for at in where]]
            for layer, hits in self.hits.items():
                for name, chosen in zip(self.names, (torch.ones_like(right), right), strict=True):
                    found[name][row, layer] = (hits[row] & chosen).sum(-1).double().cpu()
                    found[f"{name}.rows"][row, layer] = float(chosen.sum())
        return {name: one.numpy() for name, one in found.items()}

    def totals(self) -> Arrays:
        """Return nothing: every number is of a unit."""
        return {}


def asking(unit: Unit) -> list[int]:
    """Return the positions before the tokens of a unit's answer."""
    assert unit.needle is not None
    end = len(unit.encoded.token_ids)
    return list(range(end - unit.needle.answer - 1, end - 1))


def _hits(unit: Unit, ids: Tensor, weights: Tensor) -> Tensor:
    """Tell for each head and token of the answer whether the head's first key is that token, hidden."""
    assert unit.needle is not None
    where = torch.tensor(asking(unit), device=ids.device)
    first = weights[:, where].argmax(-1)
    inside = (first >= unit.needle.start) & (first < unit.needle.end)
    return inside & (ids[first] == ids[where + 1])
