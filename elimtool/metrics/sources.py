"""Sources: which part of the prompt wrote for and against each target, layer by layer and head by head.

Tables ``sources``, ``source_spans`` and ``contrast_sources``. With the last norm's scale frozen, a head adds
``A[i, j] (W_O^h' u) . v_j`` to a target's logit from key j, where u is the target's direction, carried back
to the head's output. These cells sum to the head's share in table ``components``. They are direct paths only,
and say what the span's stream at that layer wrote, which by then holds more than its own words.

Source: the terms of ALTI-Logit (Ferrando et al. 2023, arXiv 2305.12535), split by head as in Wang et al. 2022
(arXiv 2211.00593).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from elimtool.metrics.branches import Branch
from elimtool.metrics.metric import Settings
from elimtool.metrics.span_parts import DistanceBins, SpanParts
from elimtool.model.affine import wide
from elimtool.model.carried import NOT_REBUILT, Carried, gathered, is_rebuilt
from elimtool.model.view import Batch, FormedAttention, LayerView, Rows
from elimtool.numerics.transfer import arrays, roomy

HELD_NUMBERS = 2**20
"""Most numbers of one layer's sums over spans that are kept for the readout; more are computed again."""

MASKS = 4
"""Most kinds of masks whose bins are kept: most families have one or two."""

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SourceLayer:
    """One layer at the probed queries.

    Attributes:
        layer: Its index.
        branch: How attention's output reaches the residual stream.
        carried: What its heads carry; without values where ``held`` has the sums.
        seen: Of which spans each query sees a token.
        visible: Which keys.
        held: Sums of weights times values over each span, then of evenly spread weights.
        weights: Attention weights where no sums are held; ``None`` also where they are too many.
        rows: Forms these then.
        rebuilt: Whether weights and values give the output projection's inputs.
    """

    layer: int
    branch: Branch
    carried: Carried
    seen: Bool[Tensor, "batch probes spans"]
    visible: Bool[Tensor, "batch probes keys"]
    held: Float[Tensor, "batch heads probes both size"] | None = None
    weights: Float[Tensor, "batch heads probes keys"] | None = None
    rows: FormedAttention | None = None
    rebuilt: Bool[Tensor, "batch probes"] | None = None

    @property
    def kind(self) -> tuple[Any, ...]:
        """Only layers of one kind are stacked."""
        return self.visible.data_ptr(), self.carried.values.shape, self.carried.gated

    def formed(self, prompts: slice, probes: slice) -> Float[Tensor, "some heads rows keys"]:
        """Return the weights of some probes of some prompts, where no sums are held."""
        if self.weights is not None:
            return self.weights[prompts, :, probes]
        assert self.rows is not None
        return self.rows.of(prompts, probes)


class Sources:
    """Keeps what each span gives to the heads of each layer, and splits logits when directions are known."""

    def __init__(self, batch: Batch, settings: Settings) -> None:
        self.batch = batch
        self.settings = settings
        self.parts = SpanParts.of(batch)
        # then sums of values over spans would be as large as all values, so logits are summed instead
        self.single = 2 * self.parts.members.shape[1] >= batch.ids.shape[1]
        self.sink = batch.sink
        self.layers: list[SourceLayer] = []
        self.null = False
        self.why: str | None = None
        self.flaws: list[tuple[int, Callable[[], str | None] | None]] = []
        self.waiting: list[tuple[int, Tensor]] = []
        self._masks: dict[Any, list[Any]] = {}

    @torch.inference_mode()
    def observe(self, view: LayerView) -> None:
        """Sum one layer's weights times values over spans, or note why they do not make its output."""
        if view.layer < 0 or self.why is not None:
            return
        self.null |= view.null
        if view.carried is None or view.visible is None or view.block is None:
            self._give_up(view.layer, view.no_weights or view.unread or NOT_REBUILT)
            return
        self.flaws.append((view.layer, view.block.flaw))
        self._keep(view, view.carried, view.visible)

    def _give_up(self, layer: int, why: str) -> None:
        self.why = f"layer {layer}: {why}"
        self.layers.clear()
        self.waiting.clear()

    def _keep(self, view: LayerView, carried: Carried, visible: Bool[Tensor, "batch probes keys"]) -> None:
        """Keep one layer; few rows of several layers are looked at together."""
        assert view.block is not None
        branch, seen = Branch.attention(view.block), self._mask(visible)[1]
        made = SourceLayer(view.layer, branch, carried, seen, visible, rows=view.rows)
        size = 2 * self.parts.members.shape[1] * carried.heads.inputs.numel()
        held = roomy(HELD_NUMBERS, visible.device)
        if view.attention is not None and (self.single or size <= held):
            self.layers.append(made)
            self.waiting.append((len(self.layers) - 1, view.attention))
            numbers = view.attention.numel() + carried.values.numel() + size * (not self.single)
            if len(self.waiting) * numbers > self.settings.held_numbers:
                self._flush()
            return
        keep = not self.single and (view.rows is None or size <= held)
        found, rebuilt = [], []
        for some, weights in view.attention_parts():
            rebuilt.append(carried.rebuilds(some, weights))
            if keep:
                whole = torch.nn.functional.pad(weights, (0, visible.shape[-1] - weights.shape[-1]))
                found.append(self._summed(whole, carried.values, visible[:, some], slice(None), some))
        whole = torch.cat(rebuilt, 1)
        self.layers.append(_held(made, torch.cat(found, 2), whole) if keep else replace(made, rebuilt=whole))

    @torch.inference_mode()
    def _flush(self) -> None:
        """Look at the waiting layers, those with one mask and shape together."""
        kinds: dict[Any, list[tuple[int, Tensor]]] = {}
        for index, weights in self.waiting:
            kinds.setdefault((weights.shape, self.layers[index].kind), []).append((index, weights))
        self.waiting.clear()
        for some in kinds.values():
            layers = [self.layers[index] for index, _ in some]
            weights = torch.stack([one for _, one in some])
            values = torch.stack([one.carried.values for one in layers])
            gates = [one.carried.gate for one in layers if one.carried.gate is not None]
            inputs = torch.stack([one.carried.inputs for one in layers])
            fine = is_rebuilt(gathered(weights, values, torch.stack(gates) if gates else None), inputs)
            held = None
            if not self.single:
                every = slice(None)
                found = self._summed(
                    weights.flatten(0, 1), values.flatten(0, 1), layers[0].visible, every, every
                )
                held = found.view(len(some), -1, *found.shape[1:])
            for place, (index, own) in enumerate(some):
                one = layers[place]
                self.layers[index] = (
                    replace(one, weights=own, rows=None, rebuilt=fine[place])
                    if held is None
                    else _held(one, held[place], fine[place])
                )

    def _summed(
        self,
        weights: Float[Tensor, "some heads rows keys"],
        values: Float[Tensor, "some groups keys size"],
        visible: Bool[Tensor, "prompts rows keys"],
        prompts: slice,
        probes: slice,
    ) -> Float[Tensor, "some heads rows both size"]:
        """Sum weights times values over spans, then of evenly spread weights."""
        rows = weights.shape[2]
        both = torch.cat([weights, self._bins(visible, prompts, probes).spread(weights)], 2)
        found = self.parts.summed(both, values, prompts)
        return torch.cat([found[:, :, :rows], found[:, :, rows:]], 3)

    def _bins(self, visible: Tensor, prompts: slice, probes: slice) -> DistanceBins:
        """Return the bins of some rows."""
        known = self._mask(visible)
        if known[2] is None:
            known[2] = DistanceBins(visible, self.sink[prompts], self.batch.positions[prompts, probes])
        found: DistanceBins = known[2]
        return found

    def _mask(self, visible: Tensor) -> list[Any]:
        """Return a mask, which spans it shows where it has all rows, and its bins; most layers share one."""
        key = visible.data_ptr(), visible.shape
        if key not in self._masks:
            if len(self._masks) == MASKS:
                self._masks.clear()
            whole = visible.shape[:2] == self.batch.positions.shape
            # holding the mask keeps its place in memory from being reused
            self._masks[key] = [visible, self.parts.seen(visible) if whole else None, None]
        return self._masks[key]

    @property
    def n_heads(self) -> int:
        """Number of query heads."""
        return self.layers[0].carried.heads.count

    def undecomposed(self) -> str | None:
        """Say why heads' outputs cannot be split; ``None`` if they can."""
        if self.why is None:
            for layer, flaw in self.flaws:
                if flaw is not None and (found := flaw()) is not None:
                    self._give_up(layer, found)
                    break
        if self.why is None:
            self._flush()
            known = [one.rebuilt | ~self.batch.probed for one in self.layers if one.rebuilt is not None]
            rebuilt = torch.stack(known).flatten(1).all(1).tolist() if known else []
            if not all(rebuilt):
                self._give_up(self.layers[rebuilt.index(False)].layer, NOT_REBUILT)
        return self.why

    def cells(
        self, rows: Rows, toward: Float[Tensor, "rows k width"]
    ) -> tuple[Numbers, npt.NDArray[np.bool_]]:
        """Split what each head adds to logits along directions over the spans that it reads it from.

        Returns:
            Logits [rows, k, layers, heads, 2 spans], the second half of evenly spread weights, and which
            layers see the spans [rows, layers, spans].
        """
        back = torch.stack([one.carried.back(rows, one.branch.pulled(rows, toward)) for one in self.layers])
        cells = self._of_keys(rows, back) if self.single else self._of_sums(rows, back)
        seen = torch.stack([one.seen[rows] for one in self.layers], 1)
        found = arrays({"cells": cells.double(), "seen": seen})
        return found["cells"], found["seen"]

    def _of_sums(
        self, rows: Rows, back: Float[Tensor, "layers rows k heads size"]
    ) -> Float[Tensor, "rows k layers heads both"]:
        """Split logits by sums of weights times values over spans."""
        given = torch.stack([self._at(one, rows) for one in self.layers]).to(back.dtype)
        return (back.transpose(2, 3) @ given.transpose(3, 4)).permute(1, 3, 0, 2, 4)

    def _of_keys(
        self, rows: Rows, back: Float[Tensor, "layers rows k heads size"]
    ) -> Float[Tensor, "rows k layers heads both"]:
        """Split logits by keys, and sum these over spans."""
        n_layers, n_rows, k, n_heads, _ = back.shape
        spans, n_keys = self.parts.members.shape[1:]
        shape = (n_rows, k, n_layers, n_heads, 2, spans)
        cells = back.new_empty(shape, dtype=torch.float64)
        most, start = max(1, self.settings.held_numbers // (2 * k * n_heads * n_keys)), 0
        for prompts, probes in blocks(rows, most):
            count = len(self.parts.members[prompts]) * (probes.stop - probes.start)
            some = slice(start, start := start + count)
            step = max(1, most // count)
            for layers in self._runs(step):
                each = self._keys(self.layers[layers], back[layers, some], prompts, probes)
                cells[some, :, layers] = each.permute(1, 4, 5, 0, 2, 3, 6).flatten(0, 1).double()
        return cells.flatten(-2)

    def _runs(self, most: int) -> Iterator[slice]:
        """Divide the layers into some of one kind each."""
        start = 0
        for _, run in groupby(self.layers, lambda one: one.kind):
            end = start + len(list(run))
            yield from (slice(at, min(end, at + most)) for at in range(start, end, most))
            start = end

    def _keys(
        self,
        layers: Sequence[SourceLayer],
        back: Float[Tensor, "layers rows k heads size"],
        prompts: slice,
        probes: slice,
    ) -> Float[Tensor, "layers some heads both probes k spans"]:
        """Split logits at some probes of some prompts over layers of one kind."""
        weights = torch.cat([one.formed(prompts, probes) for one in layers])
        even = self._bins(layers[0].visible[prompts, probes], prompts, probes).spread(weights)
        values = wide(torch.stack([one.carried.values[prompts] for one in layers])).to(back.dtype)
        n_layers, some, groups, n_keys, size = values.shape
        heads, n_probes = weights.shape[1:3]
        grouped = back.view(n_layers, some, n_probes, -1, groups, heads // groups, size)
        toward = grouped.permute(0, 1, 4, 5, 2, 3, 6).reshape(n_layers, some, groups, -1, size)
        dots = (toward @ values.transpose(-1, -2)).view(n_layers, some, heads, 1, n_probes, -1, n_keys)
        both = torch.stack([weights, even], 2).view(n_layers, some, heads, 2, n_probes, 1, n_keys)
        each = dots * both
        if self.parts.alone:
            return each
        summed = each.flatten(2, 5) @ self.parts.members[prompts].to(each.dtype).transpose(1, 2)
        return summed.view(*each.shape[:-1], -1)

    def written(self, rows: Rows) -> Float[Tensor, "rows spans width"]:
        """Sum what the heads of all layers add to the residual stream from each span."""
        n_spans, total = self.parts.members.shape[1], None
        for one in self.layers:
            given = self._at(one, rows)[:, :, :n_spans]
            if one.carried.gate is not None:
                given = given * one.carried.gate[rows][:, :, None]
            added = one.branch.written(rows, given.transpose(1, 2).flatten(2))
            total = added if total is None else total + added
        assert total is not None
        return total

    def _at(self, one: SourceLayer, rows: Rows) -> Float[Tensor, "rows heads both size"]:
        """Return sums over spans at some rows."""
        prompt, probe = rows
        if one.held is not None:
            return one.held[prompt, :, probe]
        parts = []
        each = 2 * self.parts.members.shape[1] * one.carried.heads.inputs.shape[-1]
        for prompts, probes in blocks(rows, roomy(HELD_NUMBERS, one.visible.device) // each):
            weights, visible = one.formed(prompts, probes), one.visible[prompts, probes]
            found = self._summed(weights, one.carried.values[prompts], visible, prompts, probes)
            parts.append(found.transpose(1, 2).flatten(0, 1))
        return torch.cat(parts)


def blocks(rows: Rows, most: int) -> Iterator[tuple[slice, slice]]:
    """Divide rows into blocks, in their order: prompts one after the other, and probes that each of them has.

    Args:
        rows: Probes of a prompt ascending and without gaps, prompts ascending.
        most: Rows in a block at most, unless one prompt has more.
    """
    prompts, probes = rows.here
    starts = [0, *(np.flatnonzero(np.diff(prompts)) + 1).tolist(), len(prompts)]
    block, own = list[int](), slice(0, 0)
    for start, end in pairwise(starts):
        prompt, mine = int(prompts[start]), slice(int(probes[start]), int(probes[end - 1]) + 1)
        long = (len(block) + 1) * (end - start) > most
        if block and (mine != own or prompt != block[-1] + 1 or long):
            yield slice(block[0], block[-1] + 1), own
            block = []
        block.append(prompt)
        own = mine
    yield slice(block[0], block[-1] + 1), own


def _held(
    one: SourceLayer,
    held: Float[Tensor, "batch heads probes both size"],
    rebuilt: Bool[Tensor, "batch probes"] | None,
) -> SourceLayer:
    """Return a layer with its sums, without the values at all keys."""
    values = one.carried.values
    gone = values.new_empty((*values.shape[:2], 0, values.shape[3]))  # a slice would keep all in memory
    carried = replace(one.carried, values=gone)
    return replace(one, carried=carried, held=held, rows=None, rebuilt=rebuilt)
