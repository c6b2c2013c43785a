"""Least length: ban the end of the text while it is too short."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from elimtool.samplers.ban import Ban, Rule, Rules
from elimtool.samplers.history import History, Scope


@dataclass(frozen=True)
class MinTokens(Ban):
    """Bans end-of-text tokens while the text has fewer than n tokens.

    Formula: ban all of ``eos`` while the length is under n. The rule says for how many more tokens. Off: n =
    0.

    Attributes:
        n: Least length in tokens.
        counts: What is counted: ``all`` tokens, the prompt's too (Hugging Face's min_length), or those
            ``generated`` (its min_new_tokens, vLLM's min_tokens).
        eos: The tokens that end a text; ``null`` = the model's own, once the chain is given them.
    """

    kind: ClassVar[str] = "min_tokens"
    main: ClassVar[str] = "n"
    off: ClassVar[Mapping[str, Any] | None] = {"n": 0}
    sources: ClassVar[tuple[str, ...]] = (
        "transformers generation/logits_process.py MinLengthLogitsProcessor,"
        " MinNewTokensLengthLogitsProcessor",
        "vLLM vllm/v1/sample/logits_processor/builtin.py MinTokensLogitsProcessor",
    )

    bound_of: ClassVar[str] = "tokens"

    n: int = 0
    counts: Scope = "generated"
    eos: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        self.integer("n", 0)
        self.one_of("counts", ("all", "generated"))

    def banned(self, history: History, vocab: int, /) -> tuple[tuple[int, ...], Rules]:
        """Ban the end while tokens are missing."""
        missing = self.n - len(history.window(self.counts, None))
        tokens = tuple(token for token in self.eos or () if token < vocab) if missing > 0 else ()
        bound = f"allowed after {missing} more token" + ("s" if missing != 1 else "")
        return tokens, lambda token: Rule(
            f"the end {{}} is banned under {self.n} tokens", (token,), bound, missing
        )
