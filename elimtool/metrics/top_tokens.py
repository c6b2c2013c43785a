"""Top tokens: keep the most probable tokens of the model's output (table ``top_tokens``)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from elimtool.metrics.columns import Columns, join, place, spelled
from elimtool.metrics.metric import Metric, ReadoutView, Settings
from elimtool.model.view import Batch

PLACES = 20
"""Tokens kept of every probed row."""


class TopTokens(Metric):
    """Keeps the first tokens of the output at the probed rows."""

    tables: ClassVar[tuple[str, ...]] = ("top_tokens",)

    def __init__(self, batch: Batch, settings: Settings) -> None:
        super().__init__(batch, settings)
        self.rows: list[Columns] = []

    def read(self, view: ReadoutView) -> None:
        """Take the first tokens of the last layer's rows, equal logits in order of their ids."""
        logprobs = view.output
        n_rows, vocab = logprobs.shape
        places = min(PLACES, vocab)
        chosen = torch.stack([_first(row, places) for row in logprobs])
        tokens = chosen.cpu().numpy().reshape(-1)
        found = logprobs.gather(-1, chosen).double().cpu()
        row, order = np.indices((n_rows, places)).reshape(2, -1)
        self.rows.append(
            {
                **place(self.batch, view.rows, row),
                "place": order + 1,
                "token": spelled(tokens, view.spell),
                "token_id": tokens,
                "logprob": found.numpy().reshape(-1),
                "prob": found.exp().numpy().reshape(-1),
            }
        )

    def finish(self) -> dict[str, Columns]:
        """Columns of the table."""
        return {"top_tokens": join(self.rows)}


def _first(row: Float[Tensor, "vocab"], places: int) -> Int[Tensor, "places"]:
    """Ids of the first tokens of one distribution, without sorting all of it."""
    least = row.topk(places).values[-1]
    among = (row >= least).nonzero()[:, 0]
    return among[row[among].sort(descending=True, stable=True).indices[:places]]
