"""Context-aware decoding: amplify what a context adds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.combine import Combine
from elimtool.samplers.stage import Context, Effect


@dataclass(frozen=True)
class ContextAware(Combine):
    """Amplifies what the prompt adds to the second prompt: the context, where the second one lacks it (CAD).

    Formula: ``(1 + a) c - a u`` of the log-probabilities after the prompt (c) and after the second one (u),
    which is guidance at s = 1 + a. Removes nothing. Off: a = 0.

    Attributes:
        alpha: a.
    """

    kind: ClassVar[str] = "context_aware"
    main: ClassVar[str] = "alpha"
    off: ClassVar[Mapping[str, Any] | None] = {"alpha": 0.0}
    sources: ClassVar[tuple[str, ...]] = ("Shi et al. 2023, arXiv 2305.14739",)
    on_device: ClassVar[bool] = True

    alpha: float = 0.0

    def __post_init__(self) -> None:
        self.number("alpha", -1, float("inf"))

    def apply(self, c: Candidates, context: Context, /) -> Effect:
        """Extrapolate."""
        return self.extrapolated(c, context, 1 + self.alpha)
