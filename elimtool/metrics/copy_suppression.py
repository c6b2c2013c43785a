"""Copy suppression: which heads attend to tokens that the model is about to repeat, and lower their logits.

Table ``copy_suppression``, one row per head. Source: McDougall et al. 2023 (arXiv 2310.04625), who find that
one head of GPT-2 small attends to earlier tokens that are predicted before it and lowers their logits. The
score quantifies their description; it does not repeat their ablation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from elimtool.metrics.branches import Branch
from elimtool.metrics.columns import Columns, place
from elimtool.metrics.metric import Here, Metric, ReadoutView, Settings
from elimtool.model.view import Batch, FormedAttention, LayerView, Rows
from elimtool.numerics.ranking import largest

PREDICTED = 10
"""A token is about to be repeated if it is among this many most probable tokens before the block."""


class CopySuppression(Metric):
    """Scores every head at the probed rows.

    Head h of block l, at query i, scores the mean over keys j of -A[i, j] c[t_j]: A is its attention, t_j the
    token at j, c[t] what the head's whole output adds to the logit of t over the vocabulary's mean (direct,
    the final norm's scale frozen). Only keys count whose token is among the ``PREDICTED`` most probable in
    the lens's reading of the residual before the block. Positive: the head suppresses; negative: it copies.
    """

    needs: frozenset[str] = frozenset({"attention", "block"})
    tables: ClassVar[tuple[str, ...]] = ("copy_suppression",)

    def __init__(self, batch: Batch, settings: Settings) -> None:
        super().__init__(batch, settings)
        self.wanted = settings.heads
        self.blocks: list[tuple[Branch, Weights]] = []
        self.flaws: list[Callable[[], str | None] | None] = []

    def observe(self, view: LayerView) -> None:
        """Keep one block's heads and their attention, or give up where it lacks them."""
        if not self.wanted or view.layer < 0:
            return
        block, weights = view.block, Weights.of(view, self.settings.kept_weights)
        if block is None or block.heads is None or weights is None:
            self._give_up()
        else:
            self.blocks.append((Branch.attention(block), weights))
            self.flaws.append(block.flaw)

    def _give_up(self) -> None:
        self.wanted = False
        self.blocks.clear()
        self.flaws.clear()

    def read(self, view: ReadoutView) -> None:
        """Score the heads of all blocks at some rows."""
        if self.wanted and any(flaw is not None and flaw() is not None for flaw in self.flaws):
            self._give_up()
        if not self.wanted or view.directions is None:
            return
        n_layers, n_rows, _ = view.logits.shape
        # chunks of rows bound the size of [layers, rows, keys]
        step = max(1, self.settings.held_numbers // (n_layers * self.batch.ids.shape[1]))
        found = [self._scored(view, slice(start, start + step)) for start in range(0, n_rows, step)]
        scores, counts = (torch.cat(part) for part in zip(*found, strict=True))
        rows = view.rows
        self.bring(
            {"scores": scores, "n_keys": counts},
            lambda here: {"copy_suppression": self._columns(rows, here)},
        )

    def _scored(self, view: ReadoutView, some: slice) -> tuple[Tensor, Tensor]:
        """Return scores of all heads at some of the rows, [some, layers, heads], and how many keys count."""
        rows = view.rows.part(some)
        ids = self.batch.ids[rows[0]]
        visible = torch.arange(ids.shape[1], device=ids.device) <= self.batch.positions[rows][:, None]
        hits = (
            predicted_keys(view.logits[:-1, some], ids, view.shapes.leading_of(slice(0, -1), some)) & visible
        )
        keys = _packed(hits.any(0))
        among = (hits.gather(-1, keys.clamp(min=0).expand(len(hits), -1, -1)) & (keys >= 0)).transpose(0, 1)
        assert view.directions is not None
        size = max(1, self.settings.held_numbers // (len(ids) * self.blocks[0][0].width))
        total = torch.zeros((), dtype=torch.float64, device=ids.device)  # a sum over chunks of keys
        for start in range(0, keys.shape[1], size):
            part = keys[:, start : start + size].clamp(min=0)
            directions = view.directions(ids.gather(-1, part), some)
            toward = directions.toward - directions.mean_toward[:, None]
            total = total + self._opposed(rows, part, among[..., start : start + size], toward)
        return total / among.sum(-1, keepdim=True), among.sum(-1)

    def _opposed(
        self,
        rows: Rows,
        keys: Int[Tensor, "rows some"],
        among: Bool[Tensor, "rows layers some"],
        toward: Float[Tensor, "rows some width"],
    ) -> Float[Tensor, "rows layers heads"]:
        """Sum what the heads of all blocks write against some keys' tokens, weighted by attention."""
        found = []
        for layer, (branch, weights) in enumerate(self.blocks):
            written = branch.shares(rows, toward).transpose(1, 2).double()
            found.append(opposition(weights.at(rows, keys).double(), written, among[:, layer]))
        return torch.stack(found, 1)

    def end(self) -> None:
        """Let go of the blocks."""
        self.blocks.clear()

    def _columns(self, rows: Rows, here: Here) -> Columns:
        row, layer, head = np.indices(here["scores"].shape).reshape(3, -1)
        return {
            **place(self.batch, rows, row),
            "layer": layer,
            "head": head,
            "copy_suppression": here["scores"][row, layer, head],
            "n_predicted": here["n_keys"][row, layer],
        }


@dataclass(frozen=True, slots=True)
class Weights:
    """One layer's attention weights: held if they are few, else computed for the requested rows.

    Attributes:
        held: All of them.
        rows: Computes them.
    """

    held: Float[Tensor, "batch heads probes keys"] | None
    rows: FormedAttention | None

    @classmethod
    def of(cls, view: LayerView, most: int) -> Weights | None:
        """Take them from a layer, held if they are no more than ``most``; ``None`` if it has none."""
        held = view.attention
        if view.rows is not None and (held is None or held.numel() > most):
            return cls(None, view.rows)
        return None if held is None else cls(held, None)

    def at(self, rows: Rows, keys: Int[Tensor, "rows some"]) -> Float[Tensor, "rows heads some"]:
        """Return the weights of some rows on some keys of each."""
        prompt, probe = rows
        if self.held is not None:
            found = self.held[prompt, :, probe]
            return found.gather(-1, keys[:, None].expand(-1, found.shape[1], -1))
        assert self.rows is not None
        parts, start = list[Tensor](), 0
        prompt_here, probe_here = rows.here
        for one, count in Counter(prompt_here.tolist()).items():
            some = probe_here[start : start + count]  # ascending and without gaps: probes of one prompt
            found = self.rows.of(slice(one, one + 1), slice(int(some[0]), int(some[-1]) + 1))[0].transpose(
                0, 1
            )
            chosen = keys[start : start + count, None].expand(-1, found.shape[1], -1)
            parts.append(found.gather(-1, chosen))
            start += count
        return torch.cat(parts)


def predicted_keys(
    logits: Float[Tensor, "layers rows vocab"],
    ids: Int[Tensor, "rows keys"],
    leading: Sequence[npt.NDArray[Any]] | None = None,
) -> Bool[Tensor, "layers rows keys"]:
    """Mark the keys whose token is among the ``PREDICTED`` most probable in each layer's reading.

    Args:
        logits: Readings of the layers.
        ids: The token at each key.
        leading: The best scores of every layer and row, as in ``Shapes``, where they are known.
    """
    rows = logits.flatten(0, 1)
    least = largest(rows, min(PREDICTED, rows.shape[-1]), leading)[:, -1].view(*logits.shape[:2], 1)
    return logits.gather(-1, ids.expand(len(logits), -1, -1)) >= least


def opposition(
    attention: Float[Tensor, "rows heads keys"],
    written: Float[Tensor, "rows heads keys"],
    among: Bool[Tensor, "rows keys"],
) -> Float[Tensor, "rows heads"]:
    """Sum -attention x written over the keys in ``among``; divided by their number it is the score.

    Args:
        attention: Weights of the query on the keys, 0 .. 1.
        written: What each head's output adds to the logit of each key's token, centred (logits).
        among: The keys that count.
    """
    return -(attention * written * among[:, None]).sum(-1)


def _packed(chosen: Bool[Tensor, "rows keys"]) -> Int[Tensor, "rows most"]:
    """Return the ascending indices of each row's chosen keys, padded with -1; at least one column."""
    most = max(1, int(chosen.sum(-1).max()))
    # stable, so that the chosen stay in order
    order = torch.sort((~chosen).to(torch.uint8), dim=-1, stable=True).indices[:, :most]
    return torch.where(chosen.gather(-1, order), order, -1)
