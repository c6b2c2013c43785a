"""Logit bias: add constants to the logits of chosen tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from elimtool.errors import ElimError
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.stage import Context, Effect, Fate, Role, Stage


@dataclass(frozen=True)
class LogitBias(Stage):
    """Adds a constant to the logits of chosen tokens; a bias of -inf bans a token.

    Formula: ``l_i + bias_i``. Unit: logit. Off: no biases.

    Attributes:
        bias: Pairs of token id and bias.
        clamp: A bias is cut to this size (vLLM's server: 100, so that -inf bans no token there); ``None`` =
            no limit.
        unknown: What an id outside the vocabulary is: an ``error`` (vLLM, SGLang), or ``ignored``
            (llama.cpp).
    """

    kind: ClassVar[str] = "logit_bias"
    role: ClassVar[Role] = "shift"
    main: ClassVar[str] = "bias"
    unit: ClassVar[str] = "logit"
    off: ClassVar[Mapping[str, Any] | None] = {"bias": ()}
    sources: ClassVar[tuple[str, ...]] = (
        "llama.cpp src/llama-sampler.cpp llama_sampler_logit_bias",
        "vLLM vllm/sampling_params.py SamplingParams.from_optional, _validate_logit_bias",
        "SGLang srt/sampling/sampling_params.py SamplingParams.verify",
    )

    bias: tuple[tuple[int, float], ...] = ()
    clamp: float | None = None
    unknown: Literal["error", "ignored"] = "error"

    def __post_init__(self) -> None:
        for pair in self.bias:
            good = isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], int) and pair[0] >= 0
            if not good or not isinstance(pair[1], int | float) or not pair[1] < float("inf"):
                raise self.bad("bias", "pairs of a token id and a number or -inf")
        if self.clamp is not None:
            self.number("clamp", 0, float("inf"))
        self.one_of("unknown", ("error", "ignored"))

    @property
    def effective(self) -> tuple[tuple[int, float], ...]:
        """The biases that are added: cut to ``clamp``."""
        if self.clamp is None:
            return self.bias
        return tuple((token, max(-self.clamp, min(self.clamp, value))) for token, value in self.bias)

    def check_vocabulary(self, vocab: int) -> None:
        """Refuse ids that the vocabulary lacks, where the engine does.

        Raises:
            ElimError: A bias is for a token that does not exist.
        """
        lost = [token for token, _ in self.bias if token >= vocab]
        if lost and self.unknown == "error":
            raise ElimError(
                f"{self.name}: token id {lost[0]} is not in the vocabulary", f"ids go from 0 to {vocab - 1}"
            )

    def apply(self, c: Candidates, _: Context, /) -> Effect:
        """Add the biases."""
        self.check_vocabulary(c.vocab)
        table = torch.zeros(c.vocab, dtype=c.scores.dtype, device=c.scores.device)
        for token, value in self.effective:
            if token < c.vocab:
                table[token] += value
        cut = [
            token
            for (token, given), (_, value) in zip(self.bias, self.effective, strict=True)
            if given != value
        ]
        notes = (
            (f"the bias of token {cut[0]} is cut to {self.clamp:g} in size, as the engine does",)
            if cut
            else ()
        )
        return Effect(c, scores=c.scores + table[c.ids], notes=notes)

    def why(self, _: Fate, /) -> str:
        """Explain: the token is banned."""
        return "banned: its logit bias is -inf"
