"""Attention weights of chosen heads: every key that the probed queries see (table ``attention_weights``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.metrics.columns import Categorical, Cells, Columns
from elimtool.metrics.metric import Here, Metric, Settings
from elimtool.model.view import Batch, Encoded, LayerView
from elimtool.numerics.transfer import sent

MOST_WEIGHTS = 2**22
"""Most weights of one prompt: two heads at every position of 2,048 tokens."""
MOST_TOGETHER = 2**25
"""Most weights of a run in memory, about a gigabyte of rows; a batch writes shards and has no such limit."""


class AttentionWeights(Metric):
    """Keeps the weights of the heads that were asked for, by query and key."""

    needs: frozenset[str] = frozenset({"attention"})
    tables: ClassVar[tuple[str, ...]] = ("attention_weights",)

    def __init__(self, batch: Batch, settings: Settings) -> None:
        super().__init__(batch, settings)
        self.chosen: dict[int, list[int]] = {}
        for layer, head in settings.attention_of:
            self.chosen.setdefault(layer, []).append(head)
        self.found: list[Tensor] = []
        self.places: list[tuple[int, int]] = []

    @torch.inference_mode()
    def observe(self, view: LayerView) -> None:
        """Keep the weights of the layer's chosen heads; those of keys outside its window are NaN."""
        heads = self.chosen.get(view.layer)
        if heads is None or view.visible is None:
            return
        chosen, keys = sent(torch.tensor(heads), view.visible.device), view.visible.shape[-1]
        parts = [_to_width(weights[:, chosen], keys) for _, weights in view.attention_parts()]
        if not parts:
            return
        weights = torch.cat(parts, 2).masked_fill(~view.visible[:, None], float("nan"))
        self.found.append(weights.float())
        self.places += [(view.layer, head) for head in heads]

    def end(self) -> None:
        """Bring the weights."""
        if self.found:
            self.bring({"weights": torch.cat(self.found, 1)}, self._columns)
            self.found.clear()

    def _columns(self, here: Here) -> dict[str, Columns]:
        grid = here["weights"].transpose(0, 2, 1, 3)  # prompt, probe, head, key
        positions = self.batch.here["positions"]
        key = np.arange(grid.shape[-1], dtype=np.int32)
        real = self.batch.here["probed"][..., None, None] & (key <= positions[..., None, None])
        cells = Cells(real, grid.shape)
        prompt = np.arange(len(grid), dtype=np.int32)[:, None, None, None]
        layer, head = (np.array(part, np.int32)[:, None] for part in zip(*self.places, strict=True))
        columns = {
            "prompt_id": Categorical([one.prompt_id for one in self.batch.encoded], cells.of(prompt)),
            "position": cells.of(positions.astype(np.int32)[..., None, None]),
            "layer": cells.of(layer),
            "head": cells.of(head),
            "key": cells.of(key),
            "weight": cells.of(grid),
        }
        return {"attention_weights": columns}


def _to_width(
    weights: Float[Tensor, "batch heads some few"], keys: int
) -> Float[Tensor, "batch heads some keys"]:
    """Append the later keys that a part of the rows leaves out."""
    return torch.nn.functional.pad(weights, (0, keys - weights.shape[-1]))


def refuse_many(one: Encoded, heads: int) -> None:
    """Refuse a prompt with too many weights to keep.

    Raises:
        ElimError: There are more than ``MOST_WEIGHTS``.
    """
    count = heads * _pairs(one)
    if count > MOST_WEIGHTS:
        raise ElimError(
            f"`attention_of`: {heads} heads at {len(one.positions):,} positions have {count:,} weights,"
            f" more than {MOST_WEIGHTS:,}",
            "ask for fewer heads, or probe fewer positions with `position`",
        )


def refuse_together(found: Sequence[Encoded], heads: int) -> None:
    """Refuse prompts that have too many weights together to keep in memory.

    Raises:
        ElimError: There are more than ``MOST_TOGETHER``.
    """
    count = heads * sum(map(_pairs, found))
    if count > MOST_TOGETHER:
        raise ElimError(
            f"the attention weights of {heads} heads and {len(found):,} prompts are {count:,}, more than"
            f" {MOST_TOGETHER:,} at a time",
            "name fewer heads in `attention_of`, or trace fewer prompts at a time",
        )


def _pairs(one: Encoded) -> int:
    """Count the pairs of a probed query and a key that it sees."""
    return sum(position + 1 for position in one.positions)
