"""Top tokens: keep the most probable tokens of the model's output (table ``top_tokens``)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from elimtool.metrics.columns import place, spelled
from elimtool.metrics.metric import Metric, ReadoutView
from elimtool.numerics.transfer import arrays

PLACES = 20
"""Number of tokens kept for every probed row."""


class TopTokens(Metric):
    """Keeps the most probable tokens of the output at the probed rows."""

    tables: ClassVar[tuple[str, ...]] = ("top_tokens",)

    def read(self, view: ReadoutView) -> None:
        """Keep the most probable tokens of some rows; ties are in order of token id."""
        logprobs = view.output
        n_rows, vocab = logprobs.shape
        places = min(PLACES, vocab)
        chosen = _chosen(logprobs, places)
        best = logprobs.gather(-1, chosen).double()
        found = {
            name: one.reshape(-1)
            for name, one in arrays({"tokens": chosen, "logprob": best, "prob": best.exp()}).items()
        }
        tokens = found["tokens"]
        row, order = np.indices((n_rows, places)).reshape(2, -1)
        self.filled["top_tokens"].append(
            {
                **place(self.batch, view.rows, row),
                "place": order + 1,
                "token": spelled(tokens, view.spell),
                "token_id": tokens,
                "logprob": found["logprob"],
                "prob": found["prob"],
            }
        )


def _chosen(logprobs: Float[Tensor, "rows vocab"], places: int) -> Int[Tensor, "rows places"]:
    """Return the ids of each row's most probable tokens."""
    if logprobs.is_cpu:
        return torch.stack([_first(row, places) for row in logprobs])
    return logprobs.sort(dim=-1, descending=True, stable=True).indices[:, :places]


def _first(row: Float[Tensor, "vocab"], places: int) -> Int[Tensor, "places"]:
    """Return the ids of the most probable tokens of one distribution, without sorting all of it."""
    least = row.topk(places).values[-1]  # the ids of topk would break ties in any order
    among = (row >= least).nonzero()[:, 0]
    return among[row[among].sort(descending=True, stable=True).indices[:places]]
