"""Mirostat v2: keep the tokens of at most mu bits of surprise."""

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
class MirostatV2(Stage):
    """Keeps tokens of at most mu bits of surprise, mu steered so that the text's surprise stays near tau.

    Formula: keep ``-log2 p <= mu``, the best token always. State: ``mu`` starts at ``2 tau``; after each
    token ``mu -= eta (-log2 p - tau)`` with p renormalised after the cut. Threshold: mu (bits). Margin
    (bits): ``mu + log2 p``. Off: tau = 0 (left out).

    Attributes:
        tau: Target surprise in bits.
        eta: Learning rate.
    """

    kind: ClassVar[str] = "mirostat_v2"
    main: ClassVar[str] = "tau"
    unit: ClassVar[str] = "bits"
    margin_unit: ClassVar[str] = "bits"
    off: ClassVar[Mapping[str, Any] | None] = {"tau": 0.0}
    sources: ClassVar[tuple[str, ...]] = (
        "Basu et al. 2020, arXiv 2007.14966",
        "llama.cpp src/llama-sampler.cpp llama_sampler_mirostat_v2",
    )

    tau: float = 5.0
    eta: float = 0.1

    def __post_init__(self) -> None:
        """Check the parameters."""
        self.number("tau", 0, float("inf"))
        self.number("eta", 0, float("inf"))

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
        """Cut at mu bits."""
        mu = (context.state if context.state is not None else self.start(c.n.shape[0])).to(c.scores)
        keep = (-c.probs.log2() <= mu[:, None]) | (c.ids == c.top_token[:, None])
        margin = mu[:, None] + c.target_probs.log2()
        return Effect(c, keep=keep, threshold=mu, margin=margin)

    def why(self, fate: Fate, /) -> str:
        """Too surprising."""
        return f"its surprise is above mu = {fate.threshold:.3g} bits (probability {fate.prob:.3g})"
