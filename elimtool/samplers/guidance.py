"""Guidance: move the distribution away from that after a second prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.combine import Combine
from elimtool.samplers.stage import Context, Effect


@dataclass(frozen=True)
class Guidance(Combine):
    """Extrapolates from the output after a second prompt to the model's own (classifier-free guidance).

    Formula: ``u + s (c - u)``, c and u being the log-probabilities after the prompt and after the second one,
    ``against``. s = 0 is the second prompt's output, s > 1 overshoots. Removes nothing. Scores are
    log-probabilities: all are negative, so that a repetition penalty after it multiplies every token that was
    seen. With logits in their place the distribution is the same, and penalties divide positive ones as ever.
    Off: s = 1.

    Attributes:
        scale: s.
        of: What is extrapolated: ``log_probs`` (Hugging Face), or ``logits`` (KoboldCpp).
    """

    kind: ClassVar[str] = "guidance"
    main: ClassVar[str] = "scale"
    off: ClassVar[Mapping[str, Any] | None] = {"scale": 1.0}
    sources: ClassVar[tuple[str, ...]] = (
        "Sanchez et al. 2023, arXiv 2306.17806",
        "transformers generation/logits_process.py UnbatchedClassifierFreeGuidanceLogitsProcessor",
    )
    on_device: ClassVar[bool] = True

    scale: float = 1.0
    of: Literal["log_probs", "logits"] = "log_probs"

    def __post_init__(self) -> None:
        self.number("scale", float("-inf"), float("inf"))
        self.one_of("of", ("log_probs", "logits"))

    def apply(self, c: Candidates, context: Context, /) -> Effect:
        """Extrapolate."""
        return self.extrapolated(c, context, self.scale, self.of == "logits")
