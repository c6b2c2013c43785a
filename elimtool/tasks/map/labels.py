"""Read what the tokens of a corpus are labelled with: by a file, a tagger, or how they are written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from elimtool.analysis.map.named import OTHER, OVERLAYS, WRITTEN
from elimtool.errors import ElimError
from elimtool.prompts.source import compression_of, lines
from elimtool.tasks.map.corpus import Corpus, object_of

LabelledSpans = list[tuple[int, int, str]]

FIELDS = ("text", "id", "labels")
HOW = 'a line is like {"id": 1, "labels": [[0, 4, "NAME"], [5, 9, "VERB"]]}, with "text" or "id" of a passage'
TAGGERS = ("spacy",)
BY_WRITING = "writing"


@dataclass(frozen=True)
class Labels:
    """What tokens are labelled with.

    Attributes:
        name: The file or tagger, or that it is by how tokens are written.
        categories: All labels, each token having one.
        passages: Labels of each passage of the corpus, by its text; ``None`` by how tokens are written.
    """

    name: str = BY_WRITING
    categories: tuple[str, ...] = WRITTEN
    passages: dict[str, LabelledSpans] | None = None

    @classmethod
    def of(cls, corpus: Corpus, labels: str | Path | None = None, tagger: str | None = None) -> Labels:
        """Read labels of a corpus.

        Args:
            corpus: The passages.
            labels: JSONL of objects with ``text`` or ``id`` (the number of a passage in the corpus, from 1)
                and ``labels``, lists of start, end (characters) and label; ``None`` for none.
            tagger: Such as ``spacy:en_core_web_sm``, whose parts of speech are taken; ``None`` for none.

        Raises:
            ElimError: Both are given, the file cannot be read, or the tagger is unknown or not installed.
        """
        if labels is not None and tagger is not None:
            raise ElimError("`labels` and `tagger` cannot be given together", "give one of them")
        if labels is not None:
            return cls._made(str(labels), _from_file(Path(labels), corpus))
        if tagger is not None:
            tag = _tagger(tagger)
            return cls._made(tagger, {one.text: tag(one.text) for one in corpus.documents})
        return cls()

    @classmethod
    def _made(cls, name: str, passages: dict[str, LabelledSpans]) -> Labels:
        known = sorted({label for spans in passages.values() for *_, label in spans} - {OTHER})
        return cls(name, (*known, OTHER), passages)

    @property
    def sha256(self) -> str | None:
        """SHA-256 (hexadecimal) of all labels; ``None`` by how tokens are written."""
        if self.passages is None:
            return None
        return hashlib.sha256(json.dumps(self.passages, sort_keys=True).encode()).hexdigest()

    def spans(self, text: str) -> LabelledSpans | None:
        """Return the labels of a passage; ``None`` where they are made of how its tokens are written.

        Raises:
            ElimError: The passage has none.
        """
        if self.passages is not None and text not in self.passages:
            raise ElimError(f"{self.name} has no labels of the passage that begins {text[:40]!r}", HOW)
        return None if self.passages is None else self.passages[text]


def _from_file(path: Path, corpus: Corpus) -> dict[str, LabelledSpans]:
    by_number = {number: one.text for number, one in enumerate(corpus.documents, 1)}
    texts = set(by_number.values())
    found: dict[str, LabelledSpans] = {}
    for number, line in lines(path, compression_of(path), str(path)):
        where = f"{path}:{number}"
        if line is None:
            raise ElimError(f"{where}: the line is too long", HOW)
        if not line.strip():
            continue
        given = object_of(line, where, FIELDS, HOW)
        own = given.get("id")
        text = given.get("text", by_number.get(own) if type(own) is int else None)
        if not isinstance(text, str) or text not in texts:
            raise ElimError(f"{where}: neither 'text' nor 'id' is of a passage of {corpus.name}", HOW)
        found[text] = _spans(given.get("labels"), len(text), where)
    return found


def _spans(given: Any, length: int, where: str) -> LabelledSpans:
    if not isinstance(given, list):
        raise ElimError(f"{where}: 'labels' is missing or not a list", HOW)
    found = []
    for one in given:
        right = isinstance(one, list) and len(one) == 3
        right = right and type(one[0]) is type(one[1]) is int and isinstance(one[2], str)
        if not right or not 0 <= one[0] < one[1] <= length or not one[2]:
            raise ElimError(
                f"{where}: 'labels' has {json.dumps(one)}, not [start, end, label] in {length:,} characters",
                HOW,
            )
        if one[2] in OVERLAYS:
            raise ElimError(f"{where}: the label '{one[2]}' is made by elimtool itself", "name it otherwise")
        found.append((one[0], one[1], one[2]))
    return found


def _tagger(name: str) -> Callable[[str], LabelledSpans]:
    kind, _, model = name.partition(":")
    if kind not in TAGGERS or not model:
        raise ElimError(f"`tagger`: '{name}' is not known", "such as spacy:en_core_web_sm")
    try:
        nlp: Any = import_module("spacy").load(model)
    except ImportError as error:
        raise ElimError(
            f"`tagger`: spaCy is not installed: {error}", "install it, or use `labels`: pip install spacy"
        ) from error
    except OSError as error:
        raise ElimError(
            f"`tagger`: spaCy has no model '{model}'", f"fetch it: python -m spacy download {model}"
        ) from error

    def tag(text: str) -> LabelledSpans:
        tokens: Sequence[Any] = nlp(text)
        return [(one.idx, one.idx + len(one.text), one.pos_ or OTHER) for one in tokens if one.text.strip()]

    return tag
