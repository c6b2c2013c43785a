"""Renormalise: make log-probabilities of the scores that are left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.stage import Context, Effect, Role, Stage


@dataclass(frozen=True)
class Renormalize(Stage):
    """Turns scores into log-probabilities, which changes no probability; scores of beams it does change.

    Formula: ``l - ln sum e^l``. Unit: logit. Removes nothing. Off: on = false.

    Attributes:
        on: Whether it acts (Hugging Face's renormalize_logits).
    """

    kind: ClassVar[str] = "renormalize"
    role: ClassVar[Role] = "rescale"
    main: ClassVar[str] = "on"
    unit: ClassVar[str] = "logit"
    off: ClassVar[Mapping[str, Any] | None] = {"on": False}
    sources: ClassVar[tuple[str, ...]] = ("transformers generation/logits_process.py LogitNormalization",)
    on_device: ClassVar[bool] = True

    on: bool = False

    def __post_init__(self) -> None:
        self.boolean("on")

    def apply(self, c: Candidates, _: Context, /) -> Effect:
        """Subtract the logarithm of the sum."""
        return Effect(c, scores=c.scores - c.scores.logsumexp(-1, keepdim=True), keeps_order=True)
