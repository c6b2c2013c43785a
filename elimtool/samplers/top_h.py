"""Top-h: keep the most probable tokens that hold a share of the entropy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.stage import Context, Effect, Fate, Stage


@dataclass(frozen=True)
class TopH(Stage):
    """Keeps most probable tokens while their cumulative entropy is at most a share h of the whole.

    Formula: over the ``limit`` best tokens, keep while ``sum -p ln p <= h * H``, H being the sum over all
    of them; the best always stays.
    Threshold: ``h * H`` (nats). Margin (nats): threshold - cumulative entropy. Off: h = 0 (unset at Hugging
    Face); h = 1 still cuts to the best ``limit``.

    Attributes:
        h: Share of the entropy, 0 .. 1.
        limit: How many tokens are looked at (Hugging Face and the authors: 100).
        probs: Probabilities are those among the ``limit`` best, ``renormalised`` (Hugging Face), or those in
            the ``whole`` distribution (the authors' code). The sets can differ.
    """

    kind: ClassVar[str] = "top_h"
    main: ClassVar[str] = "h"
    unit: ClassVar[str] = "nats"
    margin_unit: ClassVar[str] = "nats"
    off: ClassVar[Mapping[str, Any] | None] = {"h": 0.0}
    sources: ClassVar[tuple[str, ...]] = (
        "Baghaei Potraghloo et al. 2025, arXiv 2509.02510",
        "transformers generation/logits_process.py TopHLogitsWarper",
        "ErfanBaghaei/Top-H-Decoding logit_processor.py TopH_LogitsProcessor",
    )
    on_device: ClassVar[bool] = True

    h: float = 0.0
    limit: int = 100
    probs: Literal["renormalised", "whole"] = "renormalised"

    def __post_init__(self) -> None:
        self.number("h", 0, 1)
        self.integer("limit", 1)
        self.one_of("probs", ("renormalised", "whole"))

    def apply(self, c: Candidates, _: Context, /) -> Effect:
        """Cut the best tokens by cumulative entropy."""
        best, place = c.scores.topk(min(self.limit, c.width), -1)
        if best.shape[1] < min(self.limit, c.vocab):
            # the same width whatever was removed before, so that sums round alike
            best = torch.nn.functional.pad(
                best, (0, min(self.limit, c.vocab) - best.shape[1]), value=-torch.inf
            )
        renormalised = self.probs == "renormalised"
        logs = best - (best if renormalised else c.scores).logsumexp(-1, keepdim=True)
        probs = torch.softmax(logs, -1) if renormalised else logs.exp()
        whole = -(logs.clamp(min=torch.finfo(logs.dtype).min) * probs).sum(-1, keepdim=True)
        held = c.running(torch.special.entr(probs))[:, : place.shape[1]]
        held = held.masked_fill(probs[:, : place.shape[1]] == 0, torch.inf)
        edge = self.h * whole
        inside = held <= edge
        inside[:, 0] = True
        keep = torch.zeros_like(c.alive).scatter_(1, place, inside)
        slack = torch.full_like(c.scores, -torch.inf).scatter_(1, place, edge - held)
        margin = c.at(slack, float("nan"))
        return Effect(c, keep=keep, threshold=edge[:, 0], margin=margin)

    def why(self, fate: Fate, /) -> str:
        """Explain: the share of entropy is used up, or the rank is beyond ``limit``."""
        if fate.rank > self.limit:
            return f"rank {fate.rank:,} is outside the {self.limit:,} best tokens that top-h looks at"
        return f"with it the entropy passes {fate.threshold:.3g} nats, {self.h:g} of all (rank {fate.rank:,})"
