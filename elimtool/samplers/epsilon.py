"""Epsilon sampling: keep the tokens of at least a fixed probability."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import Any, ClassVar

import torch

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.stage import Context, Effect, Fate, Stage


@dataclass(frozen=True)
class Epsilon(Stage):
    """Keeps every token of probability at least epsilon.

    Formula: keep ``p_i >= epsilon``, and every token whose score reaches the min_keep-th highest: where
    nothing reaches epsilon, all tokens tied with the best survive. Threshold: epsilon. Margin (nats): ``ln
    p_i - ln epsilon``.
    Off: epsilon = 0.

    Attributes:
        epsilon: Least probability, 0 .. 1 (1 excluded).
        min_keep: Rank whose score is always enough.
    """

    kind: ClassVar[str] = "epsilon"
    main: ClassVar[str] = "epsilon"
    unit: ClassVar[str] = "probability"
    margin_unit: ClassVar[str] = "nats"
    off: ClassVar[Mapping[str, Any] | None] = {"epsilon": 0.0}
    sources: ClassVar[tuple[str, ...]] = (
        "Hewitt, Manning & Liang 2022, arXiv 2210.15191",
        "transformers generation/logits_process.py EpsilonLogitsWarper",
    )
    on_device: ClassVar[bool] = True

    epsilon: float = 0.0
    min_keep: int = 1

    def __post_init__(self) -> None:
        self.number("epsilon", 0, 1, "[)")
        self.integer("min_keep", 1)

    def apply(self, c: Candidates, _: Context, /) -> Effect:
        """Cut at a probability."""
        keep = (c.probs >= self.epsilon) | (c.scores >= c.kth(self.min_keep))
        margin = c.target_probs.log() - log(self.epsilon)
        return Effect(c, keep=keep, threshold=torch.full_like(c.top[:, 0], self.epsilon), margin=margin)

    def why(self, fate: Fate, /) -> str:
        """Explain: the probability is under epsilon."""
        return f"probability {fate.prob:.3g} is under epsilon = {self.epsilon:g}"
