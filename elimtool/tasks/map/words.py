"""Put each token of a text into a category by how it is written, such as numbers, function words or names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from itertools import accumulate

from elimtool.analysis.map.named import OVERLAYS, WRITTEN
from elimtool.files.package import shipped_configs
from elimtool.files.yaml import read_text

Offsets = Sequence[tuple[int, int]]

WORD = re.compile(r"\w+(?:['’]\w+)*")
ENDS = ".!?…"
QUOTES = "\"'“”‘’«»„"
BETWEEN = f"{QUOTES}()[]{{}}*_-–— \t\n\r"
"""What may stand between the end of a sentence and the first word of the next one."""
TITLES = frozenset(
    {"mr", "mrs", "ms", "dr", "st", "prof", "rev", "hon", "capt", "col", "gen", "lt", "messrs"}
)
"""Words whose full stop ends no sentence; that of a single letter, an initial, does not either."""
NEGATIONS = frozenset(
    {"not", "no", "never", "none", "nobody", "nothing", "neither", "nor", "nowhere", "without", "cannot"}
)

FEW_WORDS, ENGLISH = 20, 0.2
"""A text of so many words, of which fewer than this share are in the list, is of another language."""


@cache
def function_words() -> frozenset[str]:
    """Read the list of closed-class English words that ships with the package."""
    lines = read_text(shipped_configs("words") / "function.txt").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())


class Words:
    """Words of a text, and the category of each.

    Args:
        text: The text.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        found = list(WORD.finditer(text))
        self.starts = [one.start() for one in found]
        self.words = [one.group() for one in found]
        # for each character, the number of words that begin up to it
        begins = [0] * len(text)
        for start in self.starts:
            begins[start] = 1
        self.before = list(accumulate(begins))
        plain = [one.lower().replace("’", "'") for one in self.words]
        listed = [one in function_words() for one in plain]
        self.negations = [one in NEGATIONS or one.endswith("n't") for one in plain]
        foreign = len(plain) >= FEW_WORDS and sum(listed) < ENGLISH * len(plain)
        self.kinds = [
            "word" if foreign else "function" if known else "name" if self._is_name(index) else "content"
            for index, known in enumerate(listed)
        ]

    def _is_name(self, index: int) -> bool:
        return self.words[index][0].isupper() and not self._begins_sentence(index)

    def _begins_sentence(self, index: int) -> bool:
        start = self.starts[index]
        from_word = self.starts[index - 1] if index else 0
        between = self.text[from_word:start]
        ahead = between.rstrip(BETWEEN)
        gap = between[len(ahead) :]
        if not ahead or gap.count("\n") > 1 or gap.endswith(tuple(QUOTES)):
            return True
        if ahead[-1] != ".":
            return ahead[-1] in ENDS
        word = ahead[:-1]
        return not (word.lower() in TITLES or (len(word) == 1 and word.isalpha()))

    def category(self, start: int, end: int) -> str:
        """Return the category of the token that stands at some characters."""
        shown = self.text[start:end].strip()
        if not shown:
            return "space"
        if all(unicodedata.category(one)[0] in "PS" for one in shown):
            return "punct"
        if any(map(str.isdigit, shown)) and not any(map(str.isalpha, shown)):
            return "number"
        word, inside = self._word_at(start, end)
        return "piece" if inside or word is None else self.kinds[word]

    def is_negation(self, start: int, end: int) -> bool:
        """Tell whether the token is of a word that negates."""
        word, _ = self._word_at(start, end)
        return word is not None and self.negations[word]

    def _word_at(self, start: int, end: int) -> tuple[int | None, bool]:
        """Return the first word that the token has a part of, and whether it starts inside that word."""
        for at in range(start, end):
            word = self.before[at] - 1
            if word >= 0 and at < self.starts[word] + len(self.words[word]):
                return word, at > self.starts[word]
        return None, False


def written(text: str, offsets: Offsets) -> list[str]:
    """Return the category of each token, one of ``WRITTEN``.

    Tokens that are bytes of one character share its offset, and so its category.

    Args:
        text: The text.
        offsets: Characters that each token came from.
    """
    words = Words(text)
    found = [words.category(*one) for one in offsets]
    assert set(found) <= set(WRITTEN)
    return found


def overlays(text: str, offsets: Offsets, ids: Sequence[int]) -> dict[str, list[bool]]:
    """Tell by name of ``OVERLAYS`` which tokens are such, whatever their category.

    ``repeated``: the same token was there before. ``negation``: it is of a word that negates.
    """
    words = Words(text)
    seen: set[int] = set()
    repeated = []
    for one in ids:
        repeated.append(one in seen)
        seen.add(one)
    found = {"repeated": repeated, "negation": [words.is_negation(*one) for one in offsets]}
    assert tuple(found) == OVERLAYS
    return found


def labelled(offsets: Offsets, spans: Sequence[tuple[int, int, str]], text: str, other: str) -> list[str]:
    """Return the label of the span that each token's first visible character is in; ``other`` without one.

    Args:
        offsets: Characters that each token came from.
        spans: Start, end and label; the first that holds a character counts.
        text: The text.
        other: Label of what is in no span.
    """
    found = [other] * len(text)
    for start, end, label in reversed(spans):
        found[start:end] = [label] * len(found[start:end])
    firsts = (next((at for at in range(*one) if not text[at].isspace()), one[0]) for one in offsets)
    return [found[at] if at < len(text) else other for at in firsts]
