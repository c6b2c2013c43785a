"""Least length: ban the end of the text while it is too short."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from elimtool.samplers.ban import Ban, Rule, Rules
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.history import History, Scope
from elimtool.samplers.stage import Context, Effect


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
        unless_alone: Whether the ends stay in a row that would be left without a token, in a chain with a
            grammar (vLLM), which can allow nothing else.
    """

    kind: ClassVar[str] = "min_tokens"
    main: ClassVar[str] = "n"
    off: ClassVar[Mapping[str, Any] | None] = {"n": 0}
    sources: ClassVar[tuple[str, ...]] = (
        "transformers generation/logits_process.py MinLengthLogitsProcessor,"
        " MinNewTokensLengthLogitsProcessor",
        "vLLM vllm/v1/sample/logits_processor/builtin.py MinTokensLogitsProcessor",
    )
    on_device: ClassVar[bool] = True

    bound_of: ClassVar[str] = "tokens"

    n: int = 0
    counts: Scope = "generated"
    eos: tuple[int, ...] | None = None
    unless_alone: bool = False

    def __post_init__(self) -> None:
        self.integer("n", 0)
        self.one_of("counts", ("all", "generated"))
        self.boolean("unless_alone")

    def apply(self, c: Candidates, context: Context, /) -> Effect:
        """Ban the end, unless nothing else is left where that counts."""
        effect = super().apply(c, context)
        if not (self.unless_alone and context.grammar) or effect.keep is None or effect.active is None:
            return effect
        alone = ~(effect.keep & c.alive).any(-1)
        note = ("the end stays: nothing else is left",) if bool((alone & effect.active).any()) else ()
        keep, active = effect.keep | alone[:, None], effect.active & ~alone
        return replace(effect, keep=keep, active=active, notes=(*effect.notes, *note))

    def banned(self, history: History, vocab: int, /) -> tuple[tuple[int, ...], Rules]:
        """Ban the end while tokens are missing."""
        missing = self.n - len(history.window(self.counts, None))
        tokens = tuple(token for token in self.eos or () if token < vocab) if missing > 0 else ()
        bound = f"allowed after {missing:,} more token" + ("s" if missing != 1 else "")
        return tokens, lambda token: Rule(
            f"the end {{}} is banned under {self.n:,} tokens", (token,), bound, missing
        )
