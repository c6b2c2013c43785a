"""Min-p: keep the tokens within a factor of the most probable one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import Any, ClassVar, Literal

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.stage import BIAS, Context, Effect, Fate, Stage, leading


@dataclass(frozen=True)
class MinP(Stage):
    """Keeps every token at least p times as probable as the best.

    Formula: keep ``p_i >= p * p_max``. Threshold: ``p * p_max`` (probability). Margin (nats):
    ``ln(p_i / p_max) - ln p``. Off: p = 0. All tokens tied with the best survive p = 1.

    Attributes:
        p: Factor, 0 .. 1.
        compare: ``prob`` compares probabilities (Hugging Face, vLLM, SGLang), ``logit`` compares ``l`` with
            ``l_max + ln p`` (llama.cpp): the same but for rounding.
        min_keep: Least number of tokens that survive, the most probable ones.
    """

    kind: ClassVar[str] = "min_p"
    main: ClassVar[str] = "p"
    unit: ClassVar[str] = "probability"
    margin_unit: ClassVar[str] = "nats"
    off: ClassVar[Mapping[str, Any] | None] = {"p": 0.0}
    sources: ClassVar[tuple[str, ...]] = (
        "Nguyen et al. 2024, arXiv 2407.01082",
        "transformers generation/logits_process.py MinPLogitsWarper",
        "llama.cpp src/llama-sampler.cpp llama_sampler_min_p",
    )
    on_device: ClassVar[bool] = True
    bound_of: ClassVar[str] = BIAS

    p: float = 0.0
    compare: Literal["prob", "logit"] = "prob"
    min_keep: int = 0

    def __post_init__(self) -> None:
        self.number("p", 0, 1)
        self.integer("min_keep", 0)
        self.one_of("compare", ("prob", "logit"))

    def apply(self, c: Candidates, _: Context, /) -> Effect:
        """Cut at a factor of the best."""
        if self.min_keep > 1:
            c = c.sorted()
        least = self.p * c.probs.amax(-1, keepdim=True)
        by_prob = self.compare == "prob"
        keep = c.probs >= least if by_prob else c.scores >= c.top + log(self.p)
        if self.min_keep > 1:
            keep = keep | leading(c, self.min_keep)
        return Effect(c, keep=keep, threshold=least[:, 0], margin=c.target_scores - c.top - log(self.p))

    def why(self, fate: Fate, /) -> str:
        """Explain: the share of the best is too small."""
        share = fate.prob / fate.top_prob
        return f"{share:.3g} times as probable as the best token, less than {self.p:g}"
