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
        ends: Whether the tokens that end a text are among them (text-generation-webui's ban_eos_token).
        eos: These tokens; ``null`` = the model's own, once the chain is given them.
    """

    kind: ClassVar[str] = "suppress"
    main: ClassVar[str] = "tokens"
    off: ClassVar[Mapping[str, Any] | None] = {"tokens": (), "ends": False}
    sources: ClassVar[tuple[str, ...]] = (
        "transformers generation/logits_process.py SuppressTokensLogitsProcessor,"
        " SuppressTokensAtBeginLogitsProcessor",
    )
    on_device: ClassVar[bool] = True

    tokens: tuple[int, ...] = ()
    where: Literal["always", "begin"] = "always"
    ends: bool = False
    eos: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not all(isinstance(token, int) and token >= 0 for token in self.tokens):
            raise self.bad("tokens", "a list of token ids")
        self.one_of("where", ("always", "begin"))
        self.boolean("ends")

    def banned(self, history: History, vocab: int, /) -> tuple[tuple[int, ...], Rules]:
        """Ban the chosen tokens."""
        here = self.where == "always" or not history.generated
        chosen = {*self.tokens, *((self.eos or ()) if self.ends else ())}
        tokens = tuple(sorted(token for token in chosen if token < vocab)) if here else ()
        told = "{} is suppressed" + (" as the first token" if self.where == "begin" else "")
        return tokens, lambda token: Rule(told, (token,))
