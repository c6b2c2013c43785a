"""P-less: keep the tokens at least as probable as two draws are likely to agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.stage import Context, Effect, Fate, Stage


@dataclass(frozen=True)
class PLess(Stage):
    """Keeps every token at least as probable as the collision probability: two draws being the same token.

    Formula: keep ``p_i >= L`` with ``L = sum p^2``; ``norm``: ``L = (V sum p^2 - 1) / (V - 1)``, V being the
    vocabulary with removed tokens. Threshold: L (probability). Margin (nats): ``ln p_i - ln L``. The best
    token always stays, as ``sum p^2 <= p_max``. Off: leave it out; it has no value that does nothing.

    Attributes:
        norm: The paper's relaxed threshold, which is lower.
        slack: Taken off the threshold (1e-5 in llama.cpp's pull request 26035, which keeps more of a nearly
            flat row).
    """

    kind: ClassVar[str] = "p_less"
    unit: ClassVar[str] = "probability"
    margin_unit: ClassVar[str] = "nats"
    sources: ClassVar[tuple[str, ...]] = (
        "Tan, Wu & Howard 2025, arXiv 2509.23234",
        "vLLM pull request 48136 (closed), llama.cpp pull request 26035 (open)",
    )
    on_device: ClassVar[bool] = True

    norm: bool = False
    slack: float = 0.0

    def __post_init__(self) -> None:
        self.boolean("norm")
        self.number("slack", 0, 1)

    def bound(self, c: Candidates) -> Float[Tensor, "rows 1"]:
        """Return L of each row."""
        # exactly p_max at most: of equally probable tokens the sum of squares may round above their own
        agree = torch.minimum(c.probs.square().sum(-1, keepdim=True), c.probs.amax(-1, keepdim=True))
        if self.norm and c.vocab > 1:
            agree = (c.vocab * agree - 1) / (c.vocab - 1)
        return agree - self.slack

    def apply(self, c: Candidates, _: Context, /) -> Effect:
        """Cut at the collision probability."""
        least = self.bound(c)
        # ln of the probability, from the scores: probabilities far below can underflow to 0
        logs = c.target_scores - c.scores.logsumexp(-1, keepdim=True)
        margin = logs - least.clamp(min=0).log()
        return Effect(c, keep=c.probs >= least, threshold=least[:, 0], margin=margin)

    def why(self, fate: Fate, /) -> str:
        """Explain: less probable than two draws agreeing."""
        return f"probability {fate.prob:.3g} is under {fate.threshold:.3g}, the chance that two draws agree"
