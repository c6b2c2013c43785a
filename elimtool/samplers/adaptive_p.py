"""Adaptive-p: select tokens whose probability is near a target that follows the text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.stage import Context, Effect, Role, Stage

WIDTH, PEAK, SHARPNESS = 0.3, 5.0, 10.0
"""Constants of the engines' formula: width of the preferred region, its height, and how steeply it falls."""


@dataclass(frozen=True)
class AdaptiveP(Stage):
    """Prefers tokens whose probability is near a target; improbable ones, where the target is low.

    Formula: ``t' = clamp(2 t - average, 0, 1)``, the average being that of the probabilities of the tokens
    chosen so far, each weighted ``decay`` times the next; with ``d = |p - t'| / 0.3`` the new logit is ``5 -
    10 d^2 / (1 + d)``. Threshold: t' (probability). It removes nothing, and needs a truncation before it:
    the engines' page says so and none checks. State: the weighted sum, ``t / (1 - decay)`` before the first
    token. Off: t < 0; in some engines t = 0 too.

    Attributes:
        target: t, 0 .. 1; negative = off.
        at_zero: Whether a target of 0 ``acts`` (llama.cpp) or is ``off`` (KoboldCpp, text-generation-webui).
        decay: Weight of an older token beside the next one; cut to 0.99, as the engines do.
    """

    kind: ClassVar[str] = "adaptive_p"
    role: ClassVar[Role] = "select"
    main: ClassVar[str] = "target"
    unit: ClassVar[str] = "probability"
    off: ClassVar[Mapping[str, Any] | None] = {"target": -1.0}
    learns_from: ClassVar[str] = "before"
    sources: ClassVar[tuple[str, ...]] = (
        "llama.cpp pull request 17927, src/llama-sampler.cpp llama_sampler_adaptive_p",
        "koboldcpp kcpp_src/gpttype_adapter.cpp sample_adaptive_p",
        "text-generation-webui modules/sampler_hijack.py AdaptivePLogitsWarper",
    )
    on_device: ClassVar[bool] = True

    target: float = -1.0
    decay: float = 0.9
    at_zero: Literal["acts", "off"] = "acts"

    def __post_init__(self) -> None:
        self.number("target", -1, 1)
        self.number("decay", 0, 1)
        self.one_of("at_zero", ("acts", "off"))

    def is_off(self) -> bool:
        """Return whether the target is negative, or 0 where that is off."""
        return self.target < 0 or (self.target == 0 and self.at_zero == "off")

    @property
    def _kept(self) -> float:
        return min(self.decay, 0.99)

    def start(self, rows: int, /) -> Float64[Tensor, " rows"]:
        """Return the sum at which the average is the target."""
        return torch.full((rows,), self.target / (1 - self._kept), dtype=torch.float64)

    def accept(
        self, state: Float64[Tensor, " rows"], probs: Float64[Tensor, " rows"], /
    ) -> Float64[Tensor, " rows"]:
        """Add the chosen token's probability before this stage."""
        return probs + self._kept * state

    def aim(self, c: Candidates, context: Context) -> Float[Tensor, " rows"]:
        """Return t' of each row."""
        state = context.state if context.state is not None else self.start(len(c.n))
        # the weights' sum, 1 / (1 - decay) from the start, stays what it is with every token
        return (2 * self.target - state * (1 - self._kept)).clamp(0, 1).to(c.scores)

    def apply(self, c: Candidates, context: Context, /) -> Effect:
        """Score the survivors by how near their probability is to the target."""
        aim = self.aim(c, context)
        away = (c.probs - aim[:, None]).abs() / WIDTH
        scores = PEAK - SHARPNESS * away.square() / (1 + away)
        return Effect(c, scores=scores.masked_fill(~c.alive, -torch.inf), threshold=aim)
