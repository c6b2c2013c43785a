"""Parts of a user's own, as a module of his would hold them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from elimtool import Column, Metric, Table
from elimtool.metrics.columns import place
from elimtool.run.columns import AFTER_LAYER, FLOAT, POSITION, PROMPT_ID
from elimtool.samplers.top_k import TopK

LEAD = Table(
    "lead",
    "How far ahead is the first token?",
    "one row per position and layer",
    (
        PROMPT_ID,
        POSITION,
        AFTER_LAYER,
        Column("lead", FLOAT, "Logit of the first token minus that of the second.", "nats", ">= 0"),
    ),
)
SIZE = Table(
    "lead_size", "How many tokens?", "one row per prompt", (PROMPT_ID, Column("tokens", FLOAT, "Tokens."))
)


class Lead(Metric):
    """Logit of the first token minus that of the second, at every layer."""

    defines = (LEAD, SIZE)

    def read(self, view: Any) -> None:
        best = view.logits.topk(2).values.double()
        lead = (best[..., 0] - best[..., 1]).T.cpu().numpy()
        row, layer = np.indices(lead.shape).reshape(2, -1)
        at = place(self.batch, view.rows, row)
        self.filled["lead"].append({**at, "layer": layer - 1, "lead": lead.ravel()})

    def finish(self) -> dict[str, Any]:
        ids = [one.prompt_id for one in self.batch.encoded]
        lengths = [float(len(one.token_ids)) for one in self.batch.encoded]
        return {**super().finish(), "lead_size": {"prompt_id": ids, "tokens": lengths}}


class Clipped:
    """A lens that holds massive activations down."""

    name = "clipped"

    def __init__(self, model: Any) -> None:
        self.edge = 0.5

    def to_final(self, residual: Any, layer: int) -> Any:
        edge = self.edge * residual.pow(2).mean(-1, keepdim=True).sqrt()
        return residual.clamp(-edge, edge)


@dataclass(frozen=True)
class Few(TopK):
    """Keeps few tokens."""

    kind: ClassVar[str] = "few"
    off: ClassVar[Mapping[str, Any] | None] = None


number = 5
