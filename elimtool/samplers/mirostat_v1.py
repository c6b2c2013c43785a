"""Mirostat v1: top-k with a k that follows the surprise of the tokens chosen so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.mirostat import Mirostat
from elimtool.samplers.stage import Context, Effect, Fate


@dataclass(frozen=True)
class MirostatV1(Mirostat):
    """Keeps the k best tokens, k chosen so that the surprise of the text stays near tau bits.

    Formula: s from the m best probabilities (Zipf exponent), ``e = s - 1``,
    ``k = ((e 2^mu) / (1 - V^-e))^(1/s)`` cut to an integer of at least 1. State: ``mu`` starts at ``2 tau``;
    after each token ``mu -= eta (-log2 p - tau)`` with p renormalised after the cut. Flat logits or removed
    tokens among the m best give no number: one token is left. Threshold: k. Margin: k + 1 - position
    (tokens). Off: tau = 0 (left out).

    Attributes:
        tau: Target surprise in bits.
        eta: Learning rate.
        m: How many tokens the exponent is fitted to (llama.cpp: 100).
    """

    kind: ClassVar[str] = "mirostat_v1"
    unit: ClassVar[str] = "tokens"
    margin_unit: ClassVar[str] = "tokens"
    sources: ClassVar[tuple[str, ...]] = (
        "Basu et al. 2020, arXiv 2007.14966",
        "llama.cpp src/llama-sampler.cpp llama_sampler_mirostat",
    )
    on_device: ClassVar[bool] = True

    m: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        self.integer("m", 2)

    def apply(self, c: Candidates, context: Context, /) -> Effect:
        """Cut at the k that belongs to mu."""
        c = c.sorted()
        mu = self.mu(c, context)
        head = c.probs[:, : self.m]
        steps = torch.arange(1, head.shape[1], dtype=c.scores.dtype, device=c.scores.device)
        # Zipf's exponent s by least squares: ln(p_i / p_(i+1)) against ln((i + 1) / i)
        t = ((steps + 1) / steps).log()
        b = (head[:, :-1] / head[:, 1:]).log()
        wanted = c.size.clamp(max=self.m)
        inside = steps < torch.minimum(wanted, c.n)[:, None]
        s = torch.where(inside, t * b, 0.0).sum(-1) / torch.where(inside, t * t, 0.0).sum(-1)
        e = s - 1
        k = ((e * 2**mu) / (1 - float(c.vocab) ** -e)) ** (1 / s)
        usable = torch.isfinite(k) & (wanted <= c.n)
        k = torch.where(usable, k, torch.ones_like(k)).clamp(min=1, max=c.vocab).trunc()
        keep = torch.arange(c.width, device=k.device) < k[:, None]
        return Effect(c, keep=keep, threshold=k, margin=k[:, None] - c.slots)

    def why(self, fate: Fate, /) -> str:
        """Explain: the rank is past this step's k."""
        return f"rank {fate.rank:,} is past the k = {fate.threshold:,.0f} that mu asks for"
