"""Mixtures of experts: what each router chose and dropped, and what each expert gave each target's logit.

Tables ``experts`` and ``expert_components``. A layer's output is the sum of its chosen experts' outputs, each
times its weight, and of experts that always run. So the direct logit attribution of the MLP (see
``elimtool.metrics.components``) is the sum of theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from elimtool.metrics.branches import Branch, toward_tokens
from elimtool.metrics.columns import Categorical, Columns, join, null_where, place
from elimtool.metrics.metric import Here, Metric, ReadoutView, RowFacts, Settings
from elimtool.model.mixture import NOT_A_SUM, Mixture
from elimtool.model.view import Batch, Block, LayerView
from elimtool.numerics.transfer import Array

Mask = npt.NDArray[np.bool_]


class Experts(Metric):
    """Keeps what each mixture read, chose and wrote at the probed rows, and splits it at the readout."""

    needs: frozenset[str] = frozenset({"block"})
    tables: ClassVar[tuple[str, ...]] = ("experts", "expert_components")

    def __init__(self, batch: Batch, settings: Settings) -> None:
        super().__init__(batch, settings)
        self.layers: list[tuple[int, Mixture, Block]] = []

    def observe(self, view: LayerView) -> None:
        """Keep one layer's mixture, if it has one."""
        if self.settings.heads and view.block is not None and view.block.experts is not None:
            self.layers.append((view.layer, view.block.experts, view.block))

    def read(self, view: ReadoutView) -> None:
        """Tell what the routers chose at some rows, and attribute the followed targets' logits to experts."""
        counts, facts = [(layer, mixture.count) for layer, mixture, _ in self.layers], view.facts
        self.bring(self._found(view), lambda here: self._columns(facts, counts, here))

    def end(self) -> None:
        """Let go of the mixtures."""
        self.layers.clear()

    def _columns(self, facts: RowFacts, counts: list[tuple[int, int]], here: Here) -> dict[str, Columns]:
        every: list[dict[str, Array]] = [{} for _ in counts]
        for (index, name), values in here.items():
            every[index][name] = values
        routed, given = [], []
        for (layer, count), found in zip(counts, every, strict=True):
            split, shares, chosen = (found.pop(name, None) for name in ("split", "shares", "ran"))
            assert split is not None
            routed.append(self._routed(facts, layer, count, found, split))
            if shares is not None and chosen is not None:
                given.append(self._given(facts, layer, count, shares, chosen, split))
        parts = (("experts", routed), ("expert_components", given))
        return {table: _in_order(columns) for table, columns in parts if columns}

    def _found(self, view: ReadoutView) -> dict[tuple[int, str], Tensor]:
        """Return what some rows show of every layer.

        Returns:
            For each layer ``Mixture.routed``; ``split``, whether its parts sum to its output; and, where that
            is to be shared out, ``shares``, what each part gave, and ``ran``, which experts they are.
        """
        toward = None
        if self.layers and view.directions is not None and self.settings.wants("expert_components"):
            toward = toward_tokens(view.directions(view.followed.ids, slice(None)))
        there: dict[tuple[int, str], Tensor] = {}
        for index, (_, mixture, block) in enumerate(self.layers):
            parts = mixture.at(view.rows)
            each = {**mixture.routed(view.rows), "split": mixture.explained(view.rows, parts)}
            if toward is not None and (block.flaw is None or block.flaw() is None):
                back = Branch.mlp(block).pulled(view.rows, toward)
                each["shares"] = (back @ parts.transpose(1, 2)).double()
                each["ran"] = mixture.chosen[view.rows]
            there |= {(index, name): values for name, values in each.items()}
        return there

    def _routed(
        self, facts: RowFacts, layer: int, count: int, found: Mapping[str, Array], split: Mask
    ) -> dict[str, Any]:
        row, expert = np.indices((len(split), count)).reshape(2, -1)
        every = {name: values[row, expert] for name, values in found.items()}
        chosen = every["weight"] == every["weight"]  # NaN where the expert did not run
        unsplit = Categorical([NOT_A_SUM, None], split.astype(np.int32)[row])
        rank = every.pop("rank")
        return {
            "order": (row,),
            **place(self.batch, facts.rows, row),
            "layer": np.full(len(row), layer),
            "expert": expert,
            **every,
            "rank": null_where(rank, rank == 0),
            "chosen": chosen,
            "unsplit": unsplit,
        }

    def _given(
        self, facts: RowFacts, layer: int, count: int, shares: Array, experts: Array, split: Mask
    ) -> dict[str, Any]:
        targets = facts.followed.are_targets & split[:, None]
        row, k, part = cells = targets[:, :, None].repeat(shares.shape[-1], axis=2).nonzero()
        experts = np.pad(experts, ((0, 0), (0, shares.shape[-1] - experts.shape[1])), constant_values=-1)
        expert = experts[row, part]
        names = [*(f"expert {layer}.{number}" for number in range(count)), f"shared {layer}"]
        centred = shares[:, :-1] - shares[:, -1:]
        return {
            "order": (row, k),
            **place(self.batch, facts.rows, row),
            **facts.followed.names(row, k),
            "component": Categorical(names, np.where(expert < 0, count, expert)),
            "layer": np.full(len(row), layer),
            "expert": null_where(expert, expert < 0),
            "dla": shares[:, :-1][cells],
            "dla_centred": centred[cells],
        }


def _in_order(layers: list[dict[str, Any]]) -> Columns:
    """Join the columns of layers, and put the rows of one probed row, and target, side by side."""
    keys = [np.concatenate(part) for part in zip(*(one.pop("order") for one in layers), strict=True)]
    order = np.lexsort(keys[::-1])  # stable: layers stay in order
    return {name: values[order] for name, values in join(layers).items()}
