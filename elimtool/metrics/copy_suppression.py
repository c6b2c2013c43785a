"""Copy suppression: which heads attend to tokens that the model is about to repeat, and write against them.

Table ``copy_suppression``, one row a head. Source: McDougall et al. 2023 (arXiv 2310.04625), who find that
one head of GPT-2 small attends to earlier tokens that are predicted before it and lowers their logits. The
score here is their description as a number, not their ablation.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from elimtool.metrics.columns import Columns, join
from elimtool.metrics.components import Branch
from elimtool.metrics.metric import ReadoutView, Settings
from elimtool.model.view import Batch, LayerView

PREDICTED = 10
"""A token is about to be repeated if it is among so many first before the block."""


class CopySuppression:
    """Scores every head at the probed rows.

    Head h of block l, at query i, scores the mean over keys j of -A[i, j] c[t_j]: A is its attention, t_j the
    token at j, c[t] what the head's whole output gives the logit of t over the vocabulary's mean (direct,
    the final norm's scale frozen). Only keys count whose token is among the ``PREDICTED`` first of the
    lens's reading of the residual before the block. Positive: it suppresses them; negative: it copies.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"residual", "attention", "block"})
    tables: ClassVar[tuple[str, ...]] = ("copy_suppression",)

    def __init__(self, batch: Batch, settings: Settings) -> None:
        self.batch = batch
        self.wanted = settings.heads
        self.blocks: list[tuple[Branch, Tensor]] = []
        self.filled: list[dict[str, Any]] = []

    def observe(self, view: LayerView) -> None:
        """Keep one block's heads and their attention, or give up where they cannot be told."""
        if not self.wanted or view.layer < 0:
            return
        attention = view.all_attention()
        if view.block is None or view.block.undecomposed is not None or attention is None:
            self.wanted = False
            self.blocks.clear()
        else:
            self.blocks.append((Branch.attention(view.block), attention))

    def read(self, view: ReadoutView) -> None:
        """Score the heads of all blocks at some rows."""
        if not self.wanted or view.directions is None:
            return
        prompt, probe = view.rows
        ids = self.batch.ids[prompt]
        visible = torch.arange(ids.shape[1], device=ids.device) <= self.batch.positions[prompt, probe, None]
        hits = predicted_keys(view.logits[:-1], ids) & visible
        keys = _packed(hits.any(0))
        counted = hits.gather(-1, keys.clamp(min=0).expand(len(hits), -1, -1)) & (keys >= 0)
        directions = view.directions(ids.gather(-1, keys.clamp(min=0)))
        toward = directions.toward - directions.mean_toward[:, None]
        scores = []
        for (branch, attention), among in zip(self.blocks, counted, strict=True):
            written = branch.shares(view.rows, toward)[0].transpose(1, 2).double()
            rows = attention[prompt, :, probe]
            chosen = keys.clamp(min=0)[:, None].expand(-1, rows.shape[1], -1)
            scores.append(suppression(rows.gather(-1, chosen).double(), written, among))
        self._fill(view, torch.stack(scores, 1), counted.sum(-1).T)

    def _fill(
        self,
        view: ReadoutView,
        scores: Float[Tensor, "rows layers heads"],
        n_keys: Int[Tensor, "rows layers"],
    ) -> None:
        row, layer, head = np.indices(scores.shape).reshape(3, -1)
        prompt, probe = (index.cpu().numpy() for index in view.rows)
        ids = np.array([one.prompt_id for one in self.batch.encoded], dtype=object)
        self.filled.append(
            {
                "prompt_id": ids[prompt[row]],
                "position": self.batch.positions.cpu().numpy()[prompt[row], probe[row]],
                "layer": layer,
                "head": head,
                "copy_suppression": scores.cpu().numpy()[row, layer, head],
                "n_predicted": n_keys.cpu().numpy()[row, layer],
            }
        )

    def finish(self) -> dict[str, Columns]:
        """Columns of the table."""
        return {"copy_suppression": join(self.filled)} if self.filled else {}


def predicted_keys(
    logits: Float[Tensor, "layers rows vocab"], ids: Int[Tensor, "rows keys"]
) -> Bool[Tensor, "layers rows keys"]:
    """Which keys hold a token that is among the ``PREDICTED`` first of each layer's reading."""
    least = logits.topk(min(PREDICTED, logits.shape[-1]), -1).values[..., -1:]
    return logits.gather(-1, ids.expand(len(logits), -1, -1)) >= least


def suppression(
    attention: Float[Tensor, "rows heads keys"],
    written: Float[Tensor, "rows heads keys"],
    among: Bool[Tensor, "rows keys"],
) -> Float[Tensor, "rows heads"]:
    """Mean over the keys ``among`` of -attention x written; NaN where there are none.

    Args:
        attention: Weights of the query on the keys, 0 .. 1.
        written: What each head's output gives the logit of each key's token, centred (logits).
        among: The keys that count.
    """
    counted = among[:, None].to(attention.dtype)
    total: Tensor = -(attention * written * counted).sum(-1) / counted.sum(-1)
    return total


def _packed(chosen: Bool[Tensor, "rows keys"]) -> Int[Tensor, "rows most"]:
    """Indices of the chosen keys of each row, ascending, -1 behind the last; at least one column."""
    most = max(1, int(chosen.sum(-1).max()))
    order = torch.sort((~chosen).to(torch.uint8), dim=-1, stable=True).indices[:, :most]
    return torch.where(chosen.gather(-1, order), order, -1)
