"""Sum up how far heads look, and the mean queries and keys that explain it by position alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from elimtool.model.affine import wide
from elimtool.model.model import Model
from elimtool.model.rotation import Rotation, Unread, rotations
from elimtool.model.rows import AttentionRows, Formed
from elimtool.model.view import Batch, LayerView
from elimtool.tasks.map.options import MapOptions
from elimtool.tasks.map.part import Arrays
from elimtool.tasks.map.readable import on_text, text_of
from elimtool.tasks.map.units import TEXT, Unit

FARTHEST = 64
"""Distances that are read, for queries that all see them; in short passages half of the tokens."""
FIRST = 4
"""First position whose query and key is in a mean."""


class Distances:
    """Reads attention, queries and keys on text."""

    needs: ClassVar[Mapping[str, frozenset[str] | None]] = {TEXT: frozenset({"attention"})}

    def __init__(self, model: Model, asked: MapOptions) -> None:
        self.model = model
        self.farthest = min(FARTHEST, asked.tokens // 2)
        self._turns: list[Rotation | Unread] | None = None

    def watch(self, units: Sequence[Unit], batch: Batch) -> DistanceSums:
        """Begin a pass."""
        return DistanceSums(self, units, batch)

    def turns(self, batch: Batch) -> list[Rotation | Unread]:
        """Return each layer's rotation at a passage's positions, or why it cannot be read; read once."""
        if self._turns is None:
            self._turns = rotations(self.model, batch.ids[:1])
        return self._turns


class DistanceSums:
    """Sums of one pass.

    By unit: ``lift`` and ``score`` over queries, [units, layers, heads, distances], with ``rows`` of lift,
    [units, layers, heads], and ``seen``, queries that see a key so far before, [units, layers, distances];
    ``own``, scores of tokens on themselves, [units, layers, heads], over ``n`` tokens, [units, layers];
    ``read`` and ``scored``, 1 for a layer with weights and scores; ``why_not``, of ``Unread`` for a
    layer whose rotation cannot be read, else 0. Summed over units, for each other layer:
    ``query.LAYER`` (times the scale) and ``key.LAYER``, channels in the order of ``Rotation.split``, and
    ``cos.LAYER``, ``sin.LAYER`` over ``passes``.
    """

    def __init__(self, part: Distances, units: Sequence[Unit], batch: Batch) -> None:
        self.text = text_of(units, batch)
        self.farthest = part.farthest
        self.turns = part.turns(batch)
        shape = len(units), part.model.n_layers, part.model.n_heads
        far = self.farthest
        shapes = {
            "lift": (*shape, far), "score": (*shape, far), "rows": shape, "seen": (*shape[:2], far),
            "own": shape, "n": shape[:2], "read": shape[:2], "scored": shape[:2], "why_not": shape[:2],
        }  # fmt: skip
        self.found = {name: torch.zeros(one, dtype=torch.float64) for name, one in shapes.items()}
        self.summed: dict[str, Tensor] = {"passes": torch.ones(1, dtype=torch.float64)}

    def observe(self, view: LayerView, rows: Formed | None) -> None:
        """Sum up one layer."""
        if view.layer < 0:
            return
        turn = self.turns[view.layer]
        if rows is None or view.visible is None:
            return
        self.found["read"][:, view.layer] = 1
        for name, one in self._looked(rows, view.visible).items():
            self.found[name][:, view.layer] = one.cpu()
        if isinstance(turn, Unread):
            self.found["why_not"][:, view.layer] = turn
        elif isinstance(view.rows, AttentionRows):
            assert view.rows.query is not None and view.rows.key is not None
            self._met(view.layer, turn, wide(view.rows.query) * view.rows.scale, wide(view.rows.key))

    def _looked(self, rows: Formed, visible: Tensor) -> dict[str, Tensor]:
        """Sum weights and scores by distance, over the queries that have all distances before them."""
        weights, counts = on_text(rows, self.text, self.farthest)
        keys = visible[:, self.farthest :] & self.text[:, None]
        queries = torch.arange(self.farthest, self.text.shape[1], device=self.text.device)
        at = queries[:, None] - torch.arange(self.farthest, device=self.text.device)
        there = self.text[:, self.farthest :]
        seen = keys.gather(-1, at.expand(len(keys), -1, -1)) & there[..., None]
        each = weights.gather(-1, at.expand(*weights.shape[:2], -1, -1))
        found = {
            "lift": torch.einsum("uhqd,uq->uhd", each, keys.sum(-1).double()),
            "rows": counts.sum(-1).double(),
            "seen": seen.sum(1).double(),
        }
        if rows.scores is not None:
            scores = rows.scores[:, :, self.farthest :].gather(-1, at.expand(*weights.shape[:2], -1, -1))
            found["score"] = torch.where(seen[:, None], scores.double(), 0.0).sum(2)
            found["scored"] = torch.ones(len(keys), dtype=torch.float64)
        return found

    def _met(self, layer: int, turn: Rotation, query: Tensor, key: Tensor) -> None:
        """Sum queries and keys as they are before they are turned, and their products at one position."""
        text = self.text.clone()
        text[:, :FIRST] = False
        groups = query.shape[1] // key.shape[1]
        own = (query * key.repeat_interleave(groups, 1)).sum(-1).double()
        self.found["own"][:, layer] = (own * text[:, None]).sum(-1).cpu()
        self.found["n"][:, layer] = text.sum(-1).double().cpu()
        for name, values in (("query", query), ("key", key)):
            mean = (turn.back(values).double() * text[:, None, :, None]).sum((0, 2))
            self.summed[f"{name}.{layer}"] = mean.cpu()
        for name, table in (("cos", turn.cos), ("sin", turn.sin)):
            self.summed[f"{name}.{layer}"] = table[: self.farthest].double().cpu()

    def sums(self) -> Arrays:
        """Return the arrays of units."""
        return {name: one.numpy() for name, one in self.found.items()}

    def totals(self) -> Arrays:
        """Return what is summed over units."""
        return {name: one.numpy() for name, one in self.summed.items()}
