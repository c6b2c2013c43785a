"""Sources: which part of the prompt wrote for and against each target, layer by layer and head by head.

Tables ``sources``, ``source_spans`` and ``contrast_sources``. With the last norm's scale frozen, a head adds
``A[i, j] (W_O^h' u) . v_j`` to a target's logit from key j, where u is the target's direction, carried back
to the head's output. These cells sum to the head's share in table ``components``. They are direct paths only,
and say what the span's stream at that layer wrote, which by then holds more than its own words.

Source: the terms of ALTI-Logit (Ferrando et al. 2023, arXiv 2305.12535), split by head as in Wang et al. 2022
(arXiv 2211.00593).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from elimtool.metrics.branches import Branch
from elimtool.metrics.metric import Settings
from elimtool.metrics.span_parts import DistanceBins, SpanParts
from elimtool.model.carried import NOT_REBUILT, Carried
from elimtool.model.heads import RowIndex
from elimtool.model.view import Batch, FormedAttention, LayerView

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
        rows: Forms the weights where the sums are not held.
        rebuilt: Whether weights and values give the output projection's inputs.
    """

    layer: int
    branch: Branch
    carried: Carried
    seen: Bool[Tensor, "batch probes spans"]
    visible: Bool[Tensor, "batch probes keys"]
    held: Float[Tensor, "batch heads probes both size"] | None
    rows: FormedAttention | None
    rebuilt: Bool[Tensor, "batch probes"]


class Sources:
    """Keeps what each span gives to the heads of each layer, and splits logits when directions are known."""

    def __init__(self, batch: Batch, settings: Settings) -> None:
        self.batch = batch
        self.settings = settings
        self.parts = SpanParts.of(batch)
        self.sink = torch.zeros(batch.ids.shape, dtype=torch.bool, device=batch.ids.device)
        for row, one in enumerate(batch.encoded):
            self.sink[row, list(one.sinks)] = True
        self.layers: list[SourceLayer] = []
        self.null = False
        self.why: str | None = None
        self.flaws: list[tuple[int, Callable[[], str | None] | None]] = []
        self._bins: dict[int, tuple[Tensor, DistanceBins]] = {}

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
        self.layers.append(self._kept(view, view.carried, view.visible))

    def _give_up(self, layer: int, why: str) -> None:
        self.why = f"layer {layer}: {why}"
        self.layers.clear()

    def _kept(
        self, view: LayerView, carried: Carried, visible: Bool[Tensor, "batch probes keys"]
    ) -> SourceLayer:
        found: list[Tensor] = []
        rebuilt = []
        size = 2 * self.parts.members.shape[1] * carried.heads.inputs.numel()
        keep = view.rows is None or size <= HELD_NUMBERS
        for some, weights in view.attention_parts():
            rebuilt.append(carried.rebuilds(some, weights))
            if keep:
                whole = torch.nn.functional.pad(weights, (0, visible.shape[-1] - weights.shape[-1]))
                found.append(self._summed(whole, carried, visible[:, some], slice(None), some))
        return SourceLayer(
            view.layer,
            Branch.attention(view.block),  # type: ignore[arg-type]
            replace(carried, values=carried.values[:, :, :0]) if keep else carried,
            self.parts.seen(visible),
            visible,
            torch.cat(found, 2) if keep else None,
            None if keep else view.rows,
            torch.cat(rebuilt, 1),
        )

    def _summed(
        self,
        weights: Float[Tensor, "some heads rows keys"],
        carried: Carried,
        visible: Bool[Tensor, "some rows keys"],
        prompts: slice,
        probes: slice,
    ) -> Float[Tensor, "some heads rows both size"]:
        """Sum weights times values over spans, and evenly spread weights times values."""
        rows = weights.shape[2]
        both = torch.cat([weights, self._spread(visible, prompts, probes).spread(weights)], 2)
        found = self.parts.summed(both, carried.values[prompts], prompts)
        return torch.cat([found[:, :, :rows], found[:, :, rows:]], 3)

    def _spread(self, visible: Tensor, prompts: slice, probes: slice) -> DistanceBins:
        """Return the bins of some rows; most layers see the same keys, and share them."""
        key = visible.data_ptr()
        if key not in self._bins or self._bins[key][0].shape != visible.shape:
            if len(self._bins) == MASKS:
                self._bins.clear()
            made = DistanceBins(visible, self.sink[prompts], self.batch.positions[prompts, probes])
            self._bins[key] = visible, made  # holding the mask keeps its place in memory from being reused
        return self._bins[key][1]

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
        if self.why is None and self.layers:
            rebuilt = torch.stack([(one.rebuilt | ~self.batch.probed).all() for one in self.layers])
            if not bool(rebuilt.all()):
                self._give_up(self.layers[int(rebuilt.long().argmin())].layer, NOT_REBUILT)
        return self.why

    def cells(
        self, rows: RowIndex, toward: Float[Tensor, "rows k width"]
    ) -> tuple[Numbers, npt.NDArray[np.bool_]]:
        """Split what each head adds to logits along directions over the spans that it reads it from.

        Returns:
            Logits [rows, k, layers, heads, 2 spans], the second half of evenly spread weights, and which
            layers see the spans [rows, layers, spans].
        """
        found = []
        for one in self.layers:
            back = one.carried.back(rows, one.branch.pulled(rows, toward)[0])
            given = self._at(one, rows).to(back.dtype)
            found.append((back.transpose(1, 2) @ given.transpose(2, 3)).transpose(1, 2))
        seen = torch.stack([one.seen[rows] for one in self.layers], 1)
        return torch.stack(found, 2).double().cpu().numpy(), seen.cpu().numpy()

    def written(self, rows: RowIndex) -> Float[Tensor, "rows spans width"]:
        """Sum what the heads of all layers add to the residual stream from each span."""
        n_spans, total = self.parts.members.shape[1], torch.zeros((), dtype=torch.float64)
        for one in self.layers:
            given = self._at(one, rows)[:, :, :n_spans]
            if one.carried.gate is not None:
                given = given * one.carried.gate[rows][:, :, None]
            added = one.branch.written(rows, given.transpose(1, 2).flatten(2))
            total = total.to(added.device) + added
        return total

    def _at(self, one: SourceLayer, rows: RowIndex) -> Float[Tensor, "rows heads both size"]:
        """Return sums over spans at some rows."""
        prompt, probe = rows
        if one.held is not None:
            return one.held[prompt, :, probe]
        assert one.rows is not None
        parts = []
        for index in sorted(set(prompt.tolist())):
            mine = probe[prompt == index]  # ascending and without gaps: probes of one prompt
            probes, prompts = slice(int(mine[0]), int(mine[-1]) + 1), slice(index, index + 1)
            weights = one.rows.of(index, probes)[None]
            visible = one.visible[prompts, probes]
            parts.append(self._summed(weights, one.carried, visible, prompts, probes)[0].transpose(0, 1))
        return torch.cat(parts)
