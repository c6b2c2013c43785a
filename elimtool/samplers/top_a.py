"""Top-a: keep the tokens above a threshold quadratic in the best probability."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import Any, ClassVar

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.stage import Context, Effect, Fate, Stage


@dataclass(frozen=True)
class TopA(Stage):
    """Keeps tokens of probability at least ``a * p_max^2``: strict where the model is sure, else lax.

    Threshold: ``a * p_max^2`` (probability). Margin (nats): ``ln p_i - ln threshold``. Off: a = 0.

    Attributes:
        a: 0 .. 1.
    """

    kind: ClassVar[str] = "top_a"
    main: ClassVar[str] = "a"
    unit: ClassVar[str] = "probability"
    margin_unit: ClassVar[str] = "nats"
    off: ClassVar[Mapping[str, Any] | None] = {"a": 0.0}
    sources: ClassVar[tuple[str, ...]] = (
        "koboldcpp gpttype_adapter.cpp sample_top_a",
        "text-generation-webui modules/sampler_hijack.py TopALogitsWarper",
    )
    on_device: ClassVar[bool] = True

    a: float = 0.0

    def __post_init__(self) -> None:
        self.number("a", 0, 1)

    def apply(self, c: Candidates, _: Context, /) -> Effect:
        """Cut at a probability that depends on the best."""
        best = c.probs.amax(-1, keepdim=True)
        edge = self.a * best * best
        margin = c.target_scores - c.top - log(self.a) - best.log()
        return Effect(c, keep=c.probs >= edge, threshold=edge[:, 0], margin=margin)

    def why(self, fate: Fate, /) -> str:
        """Explain: the probability is under the threshold."""
        return f"probability {fate.prob:.3g} is under a * p_max^2 = {fate.threshold:.3g}"
