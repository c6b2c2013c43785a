"""Public-domain prose that comes with the package, to fit lenses on and, separately, to test them on.

``SOURCES.md`` beside this file says where each text comes from and why it is in the public domain.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

from elimtool.files.yaml import read_text


@dataclass(frozen=True, slots=True)
class Document:
    """A passage of some 2,000 characters, or a user's file as a whole.

    Attributes:
        source: Short name of the collection (``austen``), or ``file``.
        title: Work, page or entry, or the path.
        part: Number of the passage within it, from 1.
        text: The text.
    """

    source: str
    title: str
    part: int
    text: str


@cache
def shipped(name: Literal["fit", "held_out"]) -> tuple[Document, ...]:
    """Read the package's own text: ``fit`` or ``held_out``, which share no work, page or entry."""
    raw = gzip.decompress((files("elimtool.lenses.corpus") / f"{name}.jsonl.gz").read_bytes())
    return tuple(Document(**json.loads(line)) for line in raw.decode().splitlines())


def read_documents(paths: Sequence[Path]) -> tuple[Document, ...]:
    """Read the user's UTF-8 text files, one document a file.

    Raises:
        ElimError: A file cannot be read.
    """
    return tuple(Document("file", str(path), 1, read_text(path)) for path in paths)
