"""No-repeat n-gram: ban the tokens that would complete an n-gram of the text a second time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

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
        of: Text whose n-grams may not be repeated: ``all`` of it, or the ``prompt`` alone (Hugging Face's
            encoder_no_repeat_ngram_size).
    """

    kind: ClassVar[str] = "no_repeat_ngram"
    main: ClassVar[str] = "n"
    off: ClassVar[Mapping[str, Any] | None] = {"n": 0}
    sources: ClassVar[tuple[str, ...]] = (
        "Paulus, Xiong & Socher 2017, arXiv 1705.04304",
        "transformers generation/logits_process.py NoRepeatNGramLogitsProcessor",
    )
    on_device: ClassVar[bool] = True

    bound_of: ClassVar[str] = "n"

    n: int = 0
    of: Literal["all", "prompt"] = "all"

    def __post_init__(self) -> None:
        self.integer("n", 0)
        self.one_of("of", ("all", "prompt"))

    def banned(self, history: History, vocab: int, /) -> tuple[tuple[int, ...], Rules]:
        """Find what followed the last n - 1 tokens before."""
        text = history.prompt + history.generated
        within = history.window(self.of, None)
        begin = text[len(text) - self.n + 1 :]
        places = range(len(within) - self.n + 1)
        ends = {within[i + self.n - 1] for i in places if within[i : i + self.n - 1] == begin}

        def rule(token: int) -> Rule:
            least = least_ngram(text, token, within if self.of == "prompt" else None)
            told = f"{self.name} of {least} or more, or 0, lets it through"
            return Rule(f"would repeat the {self.n}-gram {{}}", (*begin, token), told, least)

        return tuple(sorted(end for end in ends if 0 <= end < vocab)), rule


def least_ngram(text: tuple[int, ...], token: int, within: tuple[int, ...] | None = None) -> int:
    """Return the least n for which no n-gram that ends with a token is repeated: 1 for one never seen.

    Args:
        text: Prompt and output.
        token: The token.
        within: Where the n-grams are looked for; ``None`` for the text itself.
    """
    if token not in (text if within is None else within):
        return 1
    if within is not None:  # the longest end of the text that stands before the token there
        places = [place for place, other in enumerate(within) if other == token]
        return max(_shared(text, within[:place]) for place in places) + 2
    lengths = zip(text[1:], suffix_matches(text), strict=False)
    return max((length for after, length in lengths if after == token), default=0) + 2


def _shared(text: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Return how many last tokens two texts share."""
    pairs = zip(reversed(text), reversed(other), strict=False)
    return next((length for length, (a, b) in enumerate(pairs) if a != b), min(len(text), len(other)))
