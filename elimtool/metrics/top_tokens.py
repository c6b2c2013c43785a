"""Top tokens: keep the most probable tokens of the model's output (table ``top_tokens``)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from elimtool.metrics.columns import Columns, place, spelled
from elimtool.metrics.metric import Here, Metric, ReadoutView, RowFacts

PLACES = 20
"""Number of tokens kept for every probed row."""


class TopTokens(Metric):
    """Keeps the most probable tokens of the output at the probed rows."""

    tables: ClassVar[tuple[str, ...]] = ("top_tokens",)

    def read(self, view: ReadoutView) -> None:
        """Keep the most probable tokens of some rows; ties are in order of token id."""
        logprobs = view.output
        chosen = _chosen(logprobs, min(PLACES, logprobs.shape[-1]))
        best = logprobs.gather(-1, chosen).double()
        facts = view.facts
        self.bring(
            {"token_id": chosen, "logprob": best, "prob": best.exp()},
            lambda here: {"top_tokens": self._columns(facts, here)},
        )

    def _columns(self, facts: RowFacts, here: Here) -> Columns:
        row, order = np.indices(here["token_id"].shape).reshape(2, -1)
        found = {name: values.reshape(-1) for name, values in here.items()}
        return {
            **place(self.batch, facts.rows, row),
            "place": order + 1,
            "token": spelled(found["token_id"], facts.spell),
            **found,
        }


def _chosen(logprobs: Float[Tensor, "rows vocab"], places: int) -> Int[Tensor, "rows places"]:
    """Return the ids of each row's most probable tokens."""
    if logprobs.is_cpu:
        return torch.stack([_first(row, places) for row in logprobs])
    # a copy: a slice would keep the whole order
    return logprobs.sort(dim=-1, descending=True, stable=True).indices[:, :places].clone()


def _first(row: Float[Tensor, "vocab"], places: int) -> Int[Tensor, "places"]:
    """Return the ids of the most probable tokens of one distribution, without sorting all of it."""
    least = row.topk(places).values[-1]  # the ids of topk would break ties in any order
    among = (row >= least).nonzero()[:, 0]
    return among[row[among].sort(descending=True, stable=True).indices[:places]]
