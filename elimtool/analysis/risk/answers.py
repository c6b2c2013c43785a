"""Find out which written answers say the same, and whether they say what is known to be right."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

_ARTICLES = frozenset(["a", "an", "the"])
_SENTENCE = re.compile(r"[.!?\n](?:\s|$)|\n")


def normal(text: str) -> str:
    """Reduce an answer to its first sentence without case, punctuation and articles."""
    first = _SENTENCE.split(text.strip(), maxsplit=1)[0]
    plain = "".join(" " if unicodedata.category(one)[0] in "PS" else one for one in first)
    return " ".join(word for word in plain.casefold().split() if word not in _ARTICLES)


def says(text: str, answer: str) -> bool:
    """Return whether a written text begins with an answer, as whole words."""
    said, known = normal(text).split(), normal(answer).split()
    return bool(known) and said[: len(known)] == known


def clusters(
    texts: Sequence[str], answers: Sequence[Sequence[str]], same: Callable[[str, str], bool] | None = None
) -> list[int]:
    """Put texts that say the same into one cluster: aliases of one answer, else equal first sentences.

    Source: Kuhn et al. 2023 (2302.09664) for ``same``: a text is compared with a cluster's first member.

    Args:
        texts: What was written.
        answers: Right answers, each with its aliases.
        same: Says whether two texts that no answer begins mean the same; ``None`` for equal ones alone.

    Returns:
        Number of the cluster of each text, from 0 in order of first use.
    """
    names: dict[object, int] = {}
    firsts: dict[str, str] = {}
    found = []
    for text in texts:
        known = (index for index, one in enumerate(answers) if any(says(text, alias) for alias in one))
        key: object = next(known, None)
        if key is None:
            key = plain = normal(text)
            if same is not None and plain not in firsts:
                key = next((one for one, first in firsts.items() if same(first, text)), plain)
                if key == plain:
                    firsts[plain] = text
        found.append(names.setdefault(key, len(names)))
    return found
