"""Mirostat v2: keep the tokens of at most mu bits of surprise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.mirostat import Mirostat
from elimtool.samplers.stage import Context, Effect, Fate


@dataclass(frozen=True)
class MirostatV2(Mirostat):
    """Keeps tokens of at most mu bits of surprise, mu steered so that the text's surprise stays near tau.

    Formula: keep ``-log2 p <= mu``, the best token always. State: ``mu`` starts at ``2 tau``; after each
    token ``mu -= eta (-log2 p - tau)`` with p renormalised after the cut. Threshold: mu (bits). Margin
    (bits): ``mu + log2 p``. Off: tau = 0 (left out).

    Attributes:
        tau: Target surprise in bits.
        eta: Learning rate.
    """

    kind: ClassVar[str] = "mirostat_v2"
    unit: ClassVar[str] = "bits"
    margin_unit: ClassVar[str] = "bits"
    sources: ClassVar[tuple[str, ...]] = (
        "Basu et al. 2020, arXiv 2007.14966",
        "llama.cpp src/llama-sampler.cpp llama_sampler_mirostat_v2",
    )
    on_device: ClassVar[bool] = True

    def apply(self, c: Candidates, context: Context, /) -> Effect:
        """Cut at mu bits."""
        mu = self.mu(c, context)
        keep = (-c.probs.log2() <= mu[:, None]) | (c.ids == c.top_token[:, None])
        margin = mu[:, None] + c.target_probs.log2()
        return Effect(c, keep=keep, threshold=mu, margin=margin)

    def why(self, fate: Fate, /) -> str:
        """Explain: the token is too surprising."""
        return f"its surprise is above mu = {fate.threshold:.3g} bits (probability {fate.prob:.3g})"
