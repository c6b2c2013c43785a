"""Eta sampling: keep the tokens above a probability that follows the entropy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.stage import Context, Effect, Fate, Stage


@dataclass(frozen=True)
class Eta(Stage):
    """Keeps every token of probability at least eta, a threshold that falls as the entropy H (nats) grows.

    Formula: ``eta = min(epsilon, sqrt(epsilon) exp(-H))``; keep ``p_i >= eta``, and every token whose score
    reaches the min_keep-th highest. Threshold: eta (probability). Margin (nats): ``ln p_i - ln eta``. Off:
    epsilon = 0.

    Attributes:
        epsilon: 0 .. 1 (1 excluded).
        min_keep: Rank whose score is always enough.
    """

    kind: ClassVar[str] = "eta"
    main: ClassVar[str] = "epsilon"
    unit: ClassVar[str] = "probability"
    margin_unit: ClassVar[str] = "nats"
    off: ClassVar[Mapping[str, Any] | None] = {"epsilon": 0.0}
    sources: ClassVar[tuple[str, ...]] = (
        "Hewitt, Manning & Liang 2022, arXiv 2210.15191",
        "transformers generation/logits_process.py EtaLogitsWarper",
    )
    on_device: ClassVar[bool] = True

    epsilon: float = 0.0
    min_keep: int = 1

    def __post_init__(self) -> None:
        self.number("epsilon", 0, 1, "[)")
        self.integer("min_keep", 1)

    def apply(self, c: Candidates, _: Context, /) -> Effect:
        """Cut at a probability that depends on the entropy."""
        entropy = c.entropy.to(c.scores.dtype)
        epsilon = torch.full_like(entropy[:1], self.epsilon)
        eta = torch.minimum(epsilon, epsilon.sqrt() * torch.exp(-entropy))
        keep = (c.probs >= eta[:, None]) | (c.scores >= c.kth(self.min_keep))
        margin = c.target_probs.log() - eta.double().log()[:, None]
        return Effect(c, keep=keep, threshold=eta, margin=margin)

    def why(self, fate: Fate, /) -> str:
        """Explain: the probability is under eta."""
        return f"probability {fate.prob:.3g} is under eta = {fate.threshold:.3g} (epsilon = {self.epsilon:g})"
