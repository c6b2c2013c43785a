"""Read each layer's attention at the probed positions: rows, keys that are visible, values."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from elimtool.model.affine import wide
from elimtool.model.carried import HIDDEN_GATE, NO_VALUES, Carried, has_gate
from elimtool.model.decomposition import NO_HEADS, UNSEEN
from elimtool.model.probed import Values, at_probes, mask_rows
from elimtool.model.rows import AttentionRows, Formed
from elimtool.model.taps import Taps
from elimtool.model.view import Batch, Block

NO_WEIGHTS = "this block has no attention weights"
HIDDEN_WEIGHTS = "TransformerLens does not show this block's attention weights"


class AttentionReader:
    """Keeps what one layer's attention shows until the layer has run.

    Args:
        batch: The batch that runs.
        needs: ``attention`` for rows, ``values`` for values too.
    """

    def __init__(self, batch: Batch, needs: Collection[str]) -> None:
        self.batch = batch
        self.asked = "attention" in needs
        self.values = "values" in needs
        self.seen: dict[str, Tensor] = {}
        self.rows: AttentionRows | None = None
        self.shown: Values | None = None

    def keep(self, _module: nn.Module, rows: AttentionRows, visible: Tensor, values: Values) -> None:
        """Keep what ``ProbedAttention`` gives."""
        self.seen["visible"] = visible
        self.rows = rows
        if self.values:
            self.shown = values

    def watch(self, taps: Taps, attention: Any) -> None:
        """Keep what the bridge's own attention shows at its hook points."""
        if not self.asked or not hasattr(attention, "hook_pattern"):
            return
        batch, seen = self.batch, self.seen

        def rows_of(name: str, whole: Tensor) -> None:
            rows = at_probes(whole, batch.on(whole.device)).contiguous()
            seen[name] = wide(rows).to(batch.ids.device)

        def keep_visible(_module: nn.Module, _inputs: Any, named: dict[str, Any]) -> None:
            mask = named.get("attention_mask")
            there = batch if mask is None else batch.on(mask.device)
            seen["visible"] = mask_rows(there, mask, there.positions)[0].to(batch.ids.device)

        taps.handles.append(attention.register_forward_pre_hook(keep_visible, with_kwargs=True))
        taps.after(attention.hook_pattern, lambda out: rows_of("weights", out))
        if self.values and hasattr(attention, "hook_attn_scores"):
            taps.after(attention.hook_attn_scores, lambda out: rows_of("scores", out))
        projection: Any = getattr(attention, "v", None)
        if self.values and hasattr(projection, "hook_out"):
            taps.after(projection.hook_out, lambda out: seen.update(values=out.to(batch.ids.device)))

    def take(self, bridge: Any, block: Block | None, before: Tensor, after: Tensor) -> dict[str, Any]:
        """Return a layer's fields of ``LayerView``, and forget what was kept.

        Args:
            bridge: The layer's block.
            block: What was read of it.
            before: The residual stream before it.
            after: The residual stream after it.
        """
        visible, rows = self.seen.pop("visible", None), self.rows
        formed = self._formed(bridge)
        found: dict[str, Any] = {"visible": visible, "rows": rows}
        found["null"] = rows.null if rows is not None else sinks_of(bridge) is not None
        if formed is not None:
            found |= {"attention": formed.weights, "scores": formed.scores, "null_mass": formed.null}
        if self.asked and visible is None:
            found["no_weights"] = why_no_weights(bridge)
        elif self.values:
            carried = self._carried(bridge, block, before, after)
            found["unread" if isinstance(carried, str) else "carried"] = carried
        self.seen.clear()
        self.rows = self.shown = None
        return found

    def _formed(self, bridge: Any) -> Formed | None:
        if self.rows is not None:
            return self.rows.whole() if self.rows.fits() else None
        weights, scores = self.seen.get("weights"), self.seen.get("scores")
        if weights is None:
            return None
        sinks, null = sinks_of(bridge), None
        if sinks is not None and scores is not None:
            column = wide(sinks).to(scores.device).reshape(1, -1, 1)
            null = torch.sigmoid(column - scores.logsumexp(-1))
        return Formed(weights, scores, null)

    def _carried(self, bridge: Any, block: Block | None, before: Tensor, after: Tensor) -> Carried | str:
        """Put together what the heads carry, or say why it cannot be read."""
        added = None if block is None else block.added()
        if block is None or added is None or block.attention is None:
            return UNSEEN
        if block.heads is None or block.output is None:
            return NO_HEADS
        values, outputs = self.shown or (self.seen.get("values"), None)
        inner = block.heads.inputs.shape[-1]
        if values is not None and self.shown is None:  # as the bridge shows them, tokens first
            values = values.reshape(*values.shape[:2], -1, inner // block.heads.count).transpose(1, 2)
        if values is None or values.shape[-1] * block.heads.count != inner:
            return NO_VALUES
        gated = has_gate(getattr(bridge.attn, "original_component", None), inner)
        if gated and outputs is None:
            return HIDDEN_GATE
        return Carried(
            values,
            outputs,
            block.heads,
            block.output,
            block.attention.bias,
            block.behind[0],
            block.multiplier,
            before,
            after,
            added,
            type(bridge).__name__ == "ParallelBlockBridge",
            gated,
        )


def why_no_weights(block: Any) -> str:
    """Say why a block shows no attention weights: it has none, or the bridge does not show them."""
    inside = block.original_component.modules()
    # attention of transformers states how many query heads share a key; state spaces have no such number
    if any(hasattr(module, "num_key_value_groups") for module in inside):
        return HIDDEN_WEIGHTS
    return NO_WEIGHTS


def sinks_of(block: Any) -> Tensor | None:
    """Return a block's learned scores without a key, one for each head, if its attention has them."""
    attention: Any = getattr(getattr(block, "attn", None), "original_component", None)
    sinks = getattr(attention, "sinks", None)
    return sinks if isinstance(sinks, Tensor) else None
