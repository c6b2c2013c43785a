"""Read the text that a map is measured on: the package's held-out text, or a file of the same fields."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elimtool.errors import ElimError, nearest
from elimtool.files.parse import parse_json
from elimtool.lenses.corpus import Document, shipped
from elimtool.prompts.prompt import check_unicode
from elimtool.prompts.source import compression_of, lines

FIELDS = ("text", "source", "title", "part")
HOW = 'a line is like {"text": "It was a bright cold day ...", "source": "novel", "title": "...", "part": 1}'
SHIPPED = "held_out"


@dataclass(frozen=True)
class Corpus:
    """Passages, in the order of the file.

    Attributes:
        name: The file, or the name of the package's own text.
        sha256: Of the texts, in order.
        documents: The passages.
    """

    name: str
    sha256: str
    documents: tuple[Document, ...]

    @classmethod
    def of(cls, path: str | Path | None = None) -> Corpus:
        """Read a corpus.

        Args:
            path: JSONL, plain or compressed, of objects with ``text`` and, if you like, ``source``, ``title``
                and ``part``; ``None`` for the package's own held-out text.

        Raises:
            ElimError: The file cannot be read, or a line of it is not such an object; says which.
        """
        documents = shipped("held_out") if path is None else tuple(_read(Path(path)))
        digest = hashlib.sha256()
        for one in documents:
            digest.update(hashlib.sha256(one.text.encode()).digest())
        return cls(SHIPPED if path is None else str(path), digest.hexdigest(), documents)


def _read(path: Path) -> Iterator[Document]:
    for number, line in lines(path, compression_of(path), str(path)):
        where = f"{path}:{number}"
        if line is None:
            raise ElimError(f"{where}: the line is too long", "cut the text into passages, one a line")
        if line.strip():
            yield _document(line, where, number)


def object_of(line: bytes, where: str, fields: tuple[str, ...], hint: str) -> dict[str, Any]:
    """Parse a line of JSON lines.

    Args:
        line: The line.
        where: Its file and number, for errors.
        fields: Keys that it may have.
        hint: What a line is like.

    Raises:
        ElimError: It is not JSON, not an object, or has another key.
    """
    try:
        found = parse_json(line)
    except ValueError as error:
        raise ElimError(f"{where}: not JSON: {error}", hint) from error
    if not isinstance(found, dict):
        raise ElimError(f"{where}: the line is {type(found).__name__}, not an object", hint)
    for key in found:
        if key not in fields:
            raise ElimError(f"{where}: unknown key '{key}'", nearest(str(key), fields))
    return found


def _document(line: bytes, where: str, number: int) -> Document:
    found = object_of(line, where, FIELDS, HOW)
    text = found.get("text")
    if not isinstance(text, str) or not text.strip():
        raise ElimError(f"{where}: 'text' is missing, empty or not a string", HOW)
    check_unicode(f"{where}: 'text'", text)
    return Document(_label(found, "source", where, "file"), _label(found, "title", where, ""), number, text)


def _label(found: dict[str, Any], key: str, where: str, otherwise: str) -> str:
    value = found.get(key, otherwise)
    if not isinstance(value, str):
        raise ElimError(f"{where}: '{key}' is {type(value).__name__}, not a string", HOW)
    return value
