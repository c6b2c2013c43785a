"""Attention retention: how much attention every span gets from each probed query, and what that carries.

Tables ``attention``, ``attention_heads``, ``head_context``, ``attention_layers``, ``contributions`` and
``recovery``. Masses are sums of the attention weights of one query, with the sinks as a span of their own,
and again without the sinks, renormalised. Mass and lift over uniform are standard; the elimination rule
applies the threshold of BLASST (arXiv 2512.12087), which scales with context length, to rows without sinks.
What rows carry from each key beside the weight: ``elimtool.metrics.carried_vectors``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from elimtool.metrics.attention_columns import AttentionColumns
from elimtool.metrics.attention_reduced import LayerFacts, Reduced
from elimtool.metrics.attention_sums import AttentionSums
from elimtool.metrics.carried_sums import CarriedSums
from elimtool.metrics.carried_vectors import CarriedRows
from elimtool.metrics.columns import Columns
from elimtool.metrics.metric import Here, Metric, Settings
from elimtool.metrics.recovery import Recovery
from elimtool.model.carried import Carried
from elimtool.model.rows import Formed
from elimtool.model.view import Batch, LayerView
from elimtool.numerics.transfer import sent

RECOVERY = "recovery"


class _Layer(NamedTuple):
    """Attention rows of one layer, which wait to be summed together with others."""

    layer: int
    null: bool
    visible: Bool[Tensor, "batch probes keys"]
    carried: Carried | None
    formed: Formed

    @property
    def kind(self) -> tuple[Any, ...]:
        """Only layers of one kind are stacked."""
        one = self.carried
        read = None if one is None else (one.values.shape, one.parallel, one.gated, one.before.shape)
        formed = self.formed
        return (self.null, formed.weights.shape, formed.scores is None, formed.null is None, read)

    @property
    def numbers(self) -> int:
        """About how many numbers the largest tensors of the layer have."""
        weights = 2 * self.formed.weights.numel()
        if self.carried is None:
            return weights
        batch, _, keys, size = self.carried.values.shape
        return max(weights, batch * keys * size * self.carried.heads.count)


class AttentionRetention(Metric):
    """Reduces attention rows [heads, probes, keys] to numbers of spans.

    Several layers at a time if they have few rows, some probes at a time if they have many.
    """

    needs: frozenset[str] = frozenset({"attention", "block", "values"})
    tables: ClassVar[tuple[str, ...]] = (
        "attention",
        "attention_heads",
        "attention_layers",
        "head_context",
        "contributions",
        RECOVERY,
    )

    def __init__(self, batch: Batch, settings: Settings) -> None:
        super().__init__(batch, settings)
        self.single = settings.heads and any(map(settings.wants, ("attention_heads", "head_context")))
        keys = batch.ids.shape[1]
        # float, as sums over spans are matrix products
        most = max(len(one.spans) for one in batch.encoded)
        members = np.zeros((len(batch.encoded), most, keys), dtype=np.float32)
        for row, one in enumerate(batch.encoded):
            for index, span in enumerate(one.spans):
                members[row, index, list(span.tokens)] = 1.0
        self.members, self.sink = sent(torch.from_numpy(members), batch.ids.device), batch.sink
        self.layers: list[LayerFacts] = []
        self.waiting: list[_Layer] = []
        self.found: list[Reduced] = []
        self.parallel = False
        looked = ("attention", "attention_layers", "contributions")
        most_tokens = settings.longest if any(map(settings.wants, looked)) else 0
        self.vectors = tuple(
            most_tokens is None or len(one.token_ids) <= most_tokens for one in batch.encoded
        )
        recovers = settings.longest != 0 and settings.wants(RECOVERY) and settings.depth
        self.recovery = Recovery(batch, self.sink, settings.depth) if recovers else None

    def observe(self, view: LayerView) -> None:
        """Keep one layer's rows; they are summed over spans when enough of them wait."""
        if view.layer < 0:
            return
        flaw = None if view.block is None else view.block.flaw
        facts = LayerFacts(view.layer, view.null, view.no_weights, view.unread, flaw)
        self.layers.append(facts)
        if view.visible is None:
            return
        if view.carried is not None:
            self.parallel = view.carried.parallel
        if view.attention is None:
            self._in_parts(view, view.visible)
            return
        formed = Formed(view.attention, view.scores, view.null_mass)
        one = _Layer(view.layer, view.null, view.visible, view.carried, formed)
        if self.waiting and self.waiting[0].kind != one.kind:  # cannot be stacked
            self._flush()
        self.waiting.append(one)
        if (len(self.waiting) + 1) * one.numbers > self.settings.held_numbers:
            self._flush()

    @torch.inference_mode()
    def _flush(self) -> None:
        """Sum the waiting layers' rows over spans."""
        if not self.waiting:
            return
        some, self.waiting = self.waiting, []
        weights = torch.stack([one.formed.weights for one in some])
        visible = torch.stack([one.visible for one in some])
        scores = [one.formed.scores for one in some if one.formed.scores is not None]
        nulls = [one.formed.null for one in some if one.formed.null is not None]
        rows = self._rows(weights, visible, scores, nulls)
        carried = [one.carried for one in some if one.carried is not None]
        every = slice(0, weights.shape[3])
        sums = self._carried(carried, rows, every, [one.layer for one in some])
        self._keep([self._summed(rows, sums, every, some[0].null)])

    @torch.inference_mode()
    def _in_parts(self, view: LayerView, visible: Bool[Tensor, "batch probes keys"]) -> None:
        """Sum one layer's rows over spans, some probes at a time."""
        self._flush()
        carried, parts = [] if view.carried is None else [view.carried], list[Reduced]()
        for some, formed in view.formed_parts():
            seen = visible[None, :, some, : formed.weights.shape[-1]]
            given = [[] if one is None else [one] for one in (formed.scores, formed.null)]
            rows = self._rows(formed.weights[None], seen, *given)
            sums = self._carried(carried, rows, some, [view.layer])
            parts.append(self._summed(rows, sums, some, view.null))
        self._keep(parts)

    def _rows(
        self, weights: Tensor, visible: Tensor, scores: Sequence[Tensor], nulls: Sequence[Tensor]
    ) -> AttentionSums:
        keys = weights.shape[-1]
        return AttentionSums.of(
            weights,
            visible,
            self.members[..., :keys],
            self.sink[:, :keys],
            torch.stack(list(scores)) if scores else None,
            torch.stack(list(nulls)) if nulls else None,
        )

    def _carried(
        self, layers: Sequence[Carried], rows: AttentionSums, some: slice, numbers: Sequence[int]
    ) -> CarriedSums:
        """Sum what some layers carry to some probes."""
        keys = rows.weights.shape[-1]
        sums = CarriedSums.unknown(rows)
        if layers:
            carried = CarriedRows(layers, rows.weights, self.batch.positions[:, some], some, self.vectors)
            sums = CarriedSums.of(carried, rows, self.members[..., :keys], self.sink[:, :keys])
        if self.recovery is not None:
            self.recovery.add(numbers, rows, sums, some)
        return sums

    def _summed(self, rows: AttentionSums, carried: CarriedSums, some: slice, null: bool) -> Reduced:
        """Gather columns of spans [layers, batch, probes, ...], of whole rows, and of heads on an axis."""
        keys = rows.weights.shape[-1]
        low = rows.negatives()
        wholes = rows.wholes(self.sink[:, :keys], self.batch.positions[:, some], null)
        wholes |= {name: values.mean(2) for name, values in low.items()} | carried.wholes
        heads: dict[str, Tensor] = {}
        each: dict[str, Tensor] = {"null": rows.null()}
        if self.single:
            lift = rows.mass * (rows.n_keys[..., None] / rows.sizes)[:, :, None]
            heads = {"mass": rows.mass, "lift": lift, "mass_no_sink": rows.mass_no_sink}
            heads["norm_share"] = carried.heads
            has_sink = self.sink.any(-1)[:, None, None]
            each |= {
                "context_90": rows.contexts(),
                "sink_mass": rows.given.where(has_sink, torch.nan),
                "sink_norm_share": carried.sinks,
                "negative_mass": low["negative_mass"],
            }
        wholes["known"] = carried.known.double()
        return Reduced(rows.spans() | carried.spans, wholes, heads, each, {"others": carried.others})

    def _keep(self, parts: Sequence[Reduced]) -> None:
        if parts:
            self.found.append(Reduced.joined(parts))

    def end(self) -> None:
        """Sum what waits, and bring the sums."""
        self._flush()
        sums: dict[Any, Tensor] = {} if not self.found else Reduced.whole(self.found).named()
        self.found.clear()
        means = {} if self.recovery is None or not sums else {RECOVERY: self.recovery.means()}
        self.bring(sums | means, self._columns)

    def _columns(self, here: Here) -> dict[str, Columns]:
        sums = {key: one for key, one in here.items() if key != RECOVERY}
        found = Reduced.of(sums) if sums else None
        made = AttentionColumns(self.batch, self.layers, found, self.members.shape[1])
        filled = {"attention_layers": made.layers()}
        if sums:
            filled["attention"] = made.spans()
            if self.single:
                filled |= {"attention_heads": made.heads(), "head_context": made.contexts()}
            if any(self.vectors):
                filled["contributions"] = made.contributions(self.parallel, self.vectors)
            if self.recovery is not None:
                filled[RECOVERY] = self.recovery.columns(here[RECOVERY], made.flawed)
        return filled
