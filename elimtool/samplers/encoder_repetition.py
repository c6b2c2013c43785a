"""Encoder repetition: raise the tokens of the prompt, against inventing what it does not say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.penalties import Penalties
from elimtool.samplers.stage import Context, Effect, Role, Stage


@dataclass(frozen=True)
class EncoderRepetition(Stage):
    """Raises the logits of tokens that the prompt holds: the inverse of the repetition penalty.

    Formula: once per distinct token of the prompt, ``l * r`` for l > 0, else ``l / r``. Unit: logit. Removes
    nothing. Off: r = 1.

    Attributes:
        penalty: r, > 0; under 1 it lowers them.
    """

    kind: ClassVar[str] = "encoder_repetition"
    role: ClassVar[Role] = "shift"
    main: ClassVar[str] = "penalty"
    unit: ClassVar[str] = "logit"
    off: ClassVar[Mapping[str, Any] | None] = {"penalty": 1.0}
    sources: ClassVar[tuple[str, ...]] = (
        "transformers generation/logits_process.py EncoderRepetitionPenaltyLogitsProcessor",
    )
    on_device: ClassVar[bool] = True

    penalty: float = 1.0

    def __post_init__(self) -> None:
        self.number("penalty", 0, float("inf"), "(]")

    def apply(self, c: Candidates, context: Context, /) -> Effect:
        """Raise what the prompt holds."""
        return Penalties(repetition=1 / self.penalty, repetition_scope="prompt").apply(c, context)
