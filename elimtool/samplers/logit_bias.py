"""Logit bias: add constants to the logits of chosen tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.stage import Context, Effect, Fate, Role, Stage


@dataclass(frozen=True)
class LogitBias(Stage):
    """Adds a constant to the logits of chosen tokens; a bias of -inf bans a token.

    Formula: ``l_i + bias_i``. Unit: logit. Off: no biases.

    Attributes:
        bias: Pairs of token id and bias.
    """

    kind: ClassVar[str] = "logit_bias"
    role: ClassVar[Role] = "shift"
    main: ClassVar[str] = "bias"
    unit: ClassVar[str] = "logit"
    off: ClassVar[Mapping[str, Any] | None] = {"bias": ()}
    sources: ClassVar[tuple[str, ...]] = ("llama.cpp src/llama-sampler.cpp llama_sampler_logit_bias",)

    bias: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        for pair in self.bias:
            good = isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], int) and pair[0] >= 0
            if not good or not isinstance(pair[1], int | float) or not pair[1] < float("inf"):
                raise self.bad("bias", "pairs of a token id and a number or -inf")

    def apply(self, c: Candidates, _: Context, /) -> Effect:
        """Add the biases."""
        table = torch.zeros(c.vocab, dtype=c.scores.dtype, device=c.scores.device)
        for token, value in self.bias:
            if token < c.vocab:
                table[token] += value
        return Effect(c, scores=c.scores + table[c.ids])

    def why(self, _: Fate, /) -> str:
        """Explain: the token is banned."""
        return "banned: its logit bias is -inf"
