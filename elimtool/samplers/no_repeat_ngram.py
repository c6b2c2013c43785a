"""No-repeat n-gram: ban the tokens that would complete an n-gram of the text a second time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from elimtool.samplers.ban import Ban, Rule, Rules
from elimtool.samplers.dry import suffix_matches
from elimtool.samplers.history import History


@dataclass(frozen=True)
class NoRepeatNgram(Ban):
    """Bans every token that would complete an n-gram that prompt and output hold already.

    Formula: ban v where the last n - 1 tokens followed by v occur in the text; n = 1 bans all tokens seen.
    With m the longest end of the text that was followed by v before, v is banned exactly for n <= m + 1, so
    the least n that lets it through is m + 2; the rule of a token says it. Off: n = 0.

    Attributes:
        n: Length of the n-grams in tokens.
    """

    kind: ClassVar[str] = "no_repeat_ngram"
    main: ClassVar[str] = "n"
    off: ClassVar[Mapping[str, Any] | None] = {"n": 0}
    sources: ClassVar[tuple[str, ...]] = (
        "Paulus, Xiong & Socher 2017, arXiv 1705.04304",
        "transformers generation/logits_process.py NoRepeatNGramLogitsProcessor",
    )

    n: int = 0

    def __post_init__(self) -> None:
        self.integer("n", 0)

    def banned(self, history: History, vocab: int, /) -> tuple[tuple[int, ...], Rules]:
        """Find what followed the last n - 1 tokens before."""
        text = history.prompt + history.generated
        begin = text[len(text) - self.n + 1 :]
        places = range(len(text) - self.n + 1)
        ends = {text[i + self.n - 1] for i in places if text[i : i + self.n - 1] == begin}

        def rule(token: int) -> Rule:
            least = least_ngram(text, token)
            bound = f"no_repeat_ngram of {least} or more, or 0, lets it through"
            return Rule(f"would repeat the {self.n}-gram {{}}", (*begin, token), bound)

        return tuple(sorted(end for end in ends if 0 <= end < vocab)), rule


def least_ngram(text: tuple[int, ...], token: int) -> int:
    """Return the least n for which no n-gram that ends with a token is repeated: 1 for one never seen."""
    if token not in text:
        return 1
    lengths = zip(text[1:], suffix_matches(text), strict=False)
    return max((length for after, length in lengths if after == token), default=0) + 2
