"""Greedy choice: keep the single best token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.stage import BIAS, Context, Effect, Fate, Stage


def select_best(c: Candidates, size: Int[Tensor, " rows"] | None = None) -> Effect:
    """Keep the best token of each row, the lowest id among ties; threshold = the best logit."""
    keep = c.ids == c.top_token[:, None]
    keep = keep & c.alive
    second = c.kth(2)  # the best of the others, equal to the best in a tie
    chosen = c.at(keep, False)
    margin = torch.where(chosen, c.target_scores - second, c.target_scores - c.top)
    return Effect(c, keep=keep, threshold=c.top[:, 0], margin=margin, size=size, most=1)


@dataclass(frozen=True)
class Greedy(Stage):
    """Keeps the most probable token and nothing else; the lowest id among ties, as all engines do.

    Formula: ``argmax l``. Threshold: the best logit. Margin (nats): ``l - best other l``, negative for the
    tokens not chosen. Off: leave it out of the chain.
    """

    kind: ClassVar[str] = "greedy"
    main: ClassVar[str] = ""
    unit: ClassVar[str] = "logit"
    margin_unit: ClassVar[str] = "nats"
    off: ClassVar[Mapping[str, Any] | None] = None
    sources: ClassVar[tuple[str, ...]] = ("llama.cpp src/llama-sampler.cpp llama_sampler_greedy",)
    on_device: ClassVar[bool] = True
    bound_of: ClassVar[str] = BIAS

    def apply(self, c: Candidates, _: Context, /) -> Effect:
        """Keep the best."""
        return select_best(c)

    def why(self, fate: Fate, /) -> str:
        """Explain: another token is better."""
        return f"not the best token: rank {fate.rank:,}"
