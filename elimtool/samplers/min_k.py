"""Min-k: cut where the sorted logits fall off a cliff."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.stage import Context, Effect, Fate, Stage


@dataclass(frozen=True)
class MinK(Stage):
    """Cuts at the steepest relative fall of the sorted logits, where temperature cannot move it.

    Formula: with falling logits l_1 .. l_n and ``range = l_1 - l_n``, the cliff is the i with the largest
    ``(l_i - l_(i+1)) / (range i)``, the first of equals; keep ranks up to ``max(cliff, floor(tau / range),
    1)``, and all tokens tied with the last. Threshold: that rank. Margin (tokens): threshold - rank.
    Off: leave it out. At tau = 0 the cliff alone decides; equal logits all stay.

    Temperature scales the range, so it changes the fallback ``tau / range`` alone: nearly flat rows keep
    many tokens.

    Attributes:
        tau: Fallback in nats, 0 or more (3 in vLLM's pull request).
    """

    kind: ClassVar[str] = "min_k"
    main: ClassVar[str] = "tau"
    unit: ClassVar[str] = "rank"
    margin_unit: ClassVar[str] = "tokens"
    sources: ClassVar[tuple[str, ...]] = (
        "Ding et al. 2026, arXiv 2604.11012",
        "vLLM pull request 48142 (open)",
    )
    on_device: ClassVar[bool] = True

    tau: float = 3.0

    def __post_init__(self) -> None:
        self.number("tau", 0, float("inf"))

    def apply(self, c: Candidates, _: Context, /) -> Effect:
        """Cut behind the cliff."""
        c = c.sorted()
        place = torch.arange(1, c.width + 1, device=c.scores.device)
        last = c.scores.gather(1, c.n[:, None] - 1)
        span = c.top - last
        falls = (c.scores[:, :-1] - c.scores[:, 1:]) / place[:-1]  # the range is the same for all
        falls = falls.masked_fill(place[1:] > c.n[:, None], -1.0)
        cliff = falls.argmax(-1, keepdim=True) + 1 if c.width > 1 else torch.ones_like(c.n[:, None])
        fallback = torch.where(span > 0, self.tau / span, torch.inf).floor()
        count = torch.maximum(cliff.to(c.scores), fallback).clamp(max=c.n[:, None].to(c.scores))
        edge = c.scores.gather(1, count.long() - 1)
        margin = count - c.ranks
        return Effect(c, keep=c.scores >= edge, threshold=count[:, 0], margin=margin)

    def why(self, fate: Fate, /) -> str:
        """Explain: the rank is behind the cliff."""
        return (
            f"rank {fate.rank:,} is behind the cliff of the sorted logits, after rank {fate.threshold:,.0f}"
        )
