"""Mirostat v1: top-k with a k that follows the surprise of what was chosen so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float64
from torch import Tensor

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.stage import Context, Effect, Fate, Stage


@dataclass(frozen=True)
class MirostatV1(Stage):
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
    main: ClassVar[str] = "tau"
    unit: ClassVar[str] = "tokens"
    margin_unit: ClassVar[str] = "tokens"
    off: ClassVar[Mapping[str, Any] | None] = {"tau": 0.0}
    sources: ClassVar[tuple[str, ...]] = (
        "Basu et al. 2020, arXiv 2007.14966",
        "llama.cpp src/llama-sampler.cpp llama_sampler_mirostat",
    )

    tau: float = 5.0
    eta: float = 0.1
    m: int = 100

    def __post_init__(self) -> None:
        """Check the parameters."""
        self.number("tau", 0, float("inf"))
        self.number("eta", 0, float("inf"))
        self.integer("m", 2)

    def is_off(self) -> bool:
        """Where tau = 0."""
        return self.tau == 0

    def start(self, rows: int, /) -> Float64[Tensor, " rows"]:
        """Where mu = 2 tau."""
        return torch.full((rows,), 2 * self.tau, dtype=torch.float64)

    def accept(
        self, state: Float64[Tensor, " rows"], probs: Float64[Tensor, " rows"], /
    ) -> Float64[Tensor, " rows"]:
        """Move mu against the error of the surprise."""
        return state - self.eta * (-probs.log2() - self.tau)

    def apply(self, c: Candidates, context: Context, /) -> Effect:
        """Cut at the k that mu asks for."""
        c = c.sorted()
        mu = (context.state if context.state is not None else self.start(c.n.shape[0])).to(c.scores)
        head = c.probs[:, : self.m]
        steps = torch.arange(1, head.shape[1], dtype=c.scores.dtype, device=c.scores.device)
        t = ((steps + 1) / steps).log()
        b = (head[:, :-1] / head[:, 1:]).log()
        wanted = c.size.clamp(max=self.m)
        inside = steps < torch.minimum(wanted, c.n)[:, None]
        s = torch.where(inside, t * b, 0.0).sum(-1) / torch.where(inside, t * t, 0.0).sum(-1)
        e = s - 1
        k = ((e * 2**mu) / (1 - float(c.vocab) ** -e)) ** (1 / s)
        k = (
            torch.where(torch.isfinite(k) & (wanted <= c.n), k, torch.ones_like(k))
            .clamp(min=1, max=c.vocab)
            .trunc()
        )
        place = torch.arange(c.width, device=k.device)
        keep = place < k[:, None]
        return Effect(c, keep=keep, threshold=k, margin=k[:, None] - c.slots)

    def why(self, fate: Fate, /) -> str:
        """Past the k of this step."""
        return f"rank {fate.rank} is past the k = {fate.threshold:.0f} that mu asks for"
