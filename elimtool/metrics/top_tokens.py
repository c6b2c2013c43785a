"""Top tokens: keep the most probable tokens of the model's output (table ``top_tokens``)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from elimtool.metrics.columns import Categorical, Columns, join, spelled
from elimtool.metrics.metric import ReadoutView, Settings
from elimtool.model.view import Batch, LayerView

PLACES = 20
"""Tokens kept of every probed row."""


class TopTokens:
    """Keeps the first tokens of the output at the probed rows."""

    needs: ClassVar[frozenset[str]] = frozenset({"residual"})
    tables: ClassVar[tuple[str, ...]] = ("top_tokens",)

    def __init__(self, batch: Batch, settings: Settings) -> None:
        del settings
        self.batch = batch
        self.rows: list[dict[str, Any]] = []

    def observe(self, view: LayerView) -> None:
        """Nothing to reduce before the output is there."""

    def read(self, view: ReadoutView) -> None:
        """Take the first tokens of the last layer's rows, equal logits in order of their ids."""
        logprobs = view.output
        n_rows, vocab = logprobs.shape
        places = min(PLACES, vocab)
        chosen = torch.stack([_first(row, places) for row in logprobs])
        tokens = chosen.cpu().numpy().reshape(-1)
        found = logprobs.gather(-1, chosen).double().cpu()
        prompt, probe = (index.cpu().numpy().repeat(places) for index in view.rows)
        ids = [one.prompt_id for one in self.batch.encoded]
        self.rows.append(
            {
                "prompt_id": Categorical(ids, prompt),
                "position": self.batch.positions.cpu().numpy()[prompt, probe],
                "place": np.tile(np.arange(1, places + 1), n_rows),
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
