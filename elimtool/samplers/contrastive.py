"""Contrastive decoding: prefer what the model finds likelier than a weaker model does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.combine import AMATEUR, Combine
from elimtool.samplers.distribution import NEG_INF
from elimtool.samplers.stage import Context, Effect, Fate


@dataclass(frozen=True)
class Contrastive(Combine):
    """Keeps tokens near the most probable one, and takes from each what a weaker model (amateur) gives it.

    Formula: keep ``p >= share * p_max``; of these ``l' = (1 + beta) ln p - beta ln p_amateur`` or, with
    ``difference``, ``beta (ln p - ln p_amateur)``, which is the first paper's at beta = 1. Without the mask
    an improbable token wins if the amateur finds it more improbable still. Threshold: ``share * p_max``
    (probability). Off: beta = 0.

    Attributes:
        beta: How much of the amateur is taken, 0 or more.
        share: Least share of the best probability that is kept, 0 .. 1; 1 leaves the most probable tokens.
        difference: Whether the amateur's log-probability is subtracted from the model's own once, not from
            1 + beta times that.
    """

    kind: ClassVar[str] = "contrastive"
    main: ClassVar[str] = "beta"
    unit: ClassVar[str] = "probability"
    needs: ClassVar[str] = AMATEUR
    off: ClassVar[Mapping[str, Any] | None] = {"beta": 0.0}
    sources: ClassVar[tuple[str, ...]] = (
        "Li et al. 2022, arXiv 2210.15097",
        "O'Brien and Lewis 2023, arXiv 2309.09117",
    )
    on_device: ClassVar[bool] = True

    beta: float = 0.0
    share: float = 0.1
    difference: bool = False

    def __post_init__(self) -> None:
        self.number("beta", 0, float("inf"))
        self.number("share", 0, 1)
        self.boolean("difference")

    def apply(self, c: Candidates, context: Context, /) -> Effect:
        """Mask the improbable, then contrast."""
        own = torch.log(c.exact)
        wide = self.beside(c, context).log_softmax(-1)
        other = wide if c.tokens is None else wide.gather(1, c.ids)
        edge = self.share * c.top_prob
        keep = c.exact >= edge[:, None]
        weight = self.beta if self.difference else 1 + self.beta
        # masked first: of two zeros there is no difference
        scores = (weight * own - self.beta * other).masked_fill(~(keep & c.alive), NEG_INF).to(c.scores)
        return Effect(c, scores=scores, keep=keep, threshold=edge, other=wide)

    def why(self, fate: Fate, /) -> str:
        """Explain: too improbable."""
        return f"probability {fate.prob:.3g} is under {fate.threshold:.3g}, {self.share:g} of the best"
