"""Allowed tokens: require one of a set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from elimtool.samplers.ban import Ban, Rule, Rules
from elimtool.samplers.history import History
from elimtool.samplers.stage import Role


@dataclass(frozen=True)
class AllowedTokens(Ban):
    """Removes every token but those of a set.

    Formula: keep the ids of ``tokens``. Off: no tokens.

    Attributes:
        tokens: Token ids that stay.
    """

    kind: ClassVar[str] = "allowed_tokens"
    role: ClassVar[Role] = "require"
    main: ClassVar[str] = "tokens"
    off: ClassVar[Mapping[str, Any] | None] = {"tokens": ()}
    sources: ClassVar[tuple[str, ...]] = (
        "vLLM vllm/sampling_params.py SamplingParams allowed_token_ids",
        "transformers generation/logits_process.py PrefixConstrainedLogitsProcessor",
    )
    on_device: ClassVar[bool] = True

    tokens: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not all(isinstance(token, int) and token >= 0 for token in self.tokens):
            raise self.bad("tokens", "a list of token ids")

    def banned(self, _: History, vocab: int, /) -> tuple[tuple[int, ...], Rules]:
        """Ban the others."""
        others = tuple(sorted(set(range(vocab)) - set(self.tokens)))
        return others, lambda token: Rule("{} is not among the allowed tokens", (token,))
