"""Suppress: ban chosen tokens, everywhere or as the first one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from elimtool.samplers.ban import Ban, Rule, Rules
from elimtool.samplers.history import History


@dataclass(frozen=True)
class Suppress(Ban):
    """Bans chosen tokens, always or where the output begins.

    Formula: ban the ids of ``tokens``. Off: no tokens.

    Attributes:
        tokens: Token ids; those outside the vocabulary are ignored.
        where: ``always`` (Hugging Face's suppress_tokens), or at the ``begin`` of the output alone
            (begin_suppress_tokens).
    """

    kind: ClassVar[str] = "suppress"
    main: ClassVar[str] = "tokens"
    off: ClassVar[Mapping[str, Any] | None] = {"tokens": ()}
    sources: ClassVar[tuple[str, ...]] = (
        "transformers generation/logits_process.py SuppressTokensLogitsProcessor,"
        " SuppressTokensAtBeginLogitsProcessor",
    )

    tokens: tuple[int, ...] = ()
    where: Literal["always", "begin"] = "always"

    def __post_init__(self) -> None:
        if not all(isinstance(token, int) and token >= 0 for token in self.tokens):
            raise self.bad("tokens", "a list of token ids")
        self.one_of("where", ("always", "begin"))

    def banned(self, history: History, vocab: int, /) -> tuple[tuple[int, ...], Rules]:
        """Ban the chosen tokens."""
        here = self.where == "always" or not history.generated
        tokens = tuple(token for token in self.tokens if token < vocab) if here else ()
        told = "{} is suppressed" + (" as the first token" if self.where == "begin" else "")
        return tokens, lambda token: Rule(told, (token,))
