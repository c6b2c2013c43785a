"""Define what a library does that makes the masks of grammars: check a text, and follow outputs by it."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from elimtool.errors import ElimError

Syntax = Literal["json_schema", "grammar", "regex"]
KEPT = 64
"""Places in texts that a matcher remembers, for the chains and rows that share them."""


@dataclass(frozen=True, eq=False)
class GrammarPlace:
    """Where a text stands in a grammar.

    Attributes:
        valid: Tokens of the text that are a valid beginning; all of them unless the grammar refuses one.
        length: Tokens of the text.
        allowed: Whether each token of the vocabulary may come next; none may after a text that was refused.
        complete: Whether the text may end here.
        forced: Text that must come next, whatever its tokens.
    """

    valid: int
    length: int
    allowed: npt.NDArray[np.bool_]
    complete: bool
    forced: str

    @property
    def refused(self) -> bool:
        """Whether the grammar refuses a token of the text."""
        return self.valid < self.length


class Matcher(ABC):
    """A grammar for one vocabulary.

    Args:
        vocab: Logits in a row; tokens that the tokenizer lacks are never allowed.
        ends: End-of-text tokens: after a whole text that has one, no other may come.
    """

    def __init__(self, vocab: int, ends: Sequence[int]) -> None:
        self.vocab, self.ends = vocab, tuple(end for end in ends if end < vocab)
        self._text: tuple[int, ...] = ()
        self._known: OrderedDict[tuple[int, ...], GrammarPlace] = OrderedDict()

    def at(self, text: Sequence[int]) -> GrammarPlace:
        """Look up what may follow a text.

        Raises:
            ElimError: The grammar is too complex for the library's limits.
        """
        key = tuple(text)
        if key not in self._known:
            self._known[key] = self._found(key)
            if len(self._known) > KEPT:
                self._known.popitem(last=False)
        return self._known[key]

    def _found(self, text: tuple[int, ...]) -> GrammarPlace:
        if text and text[-1] in self.ends and self.at(text[:-1]).complete:
            allowed = np.isin(np.arange(self.vocab), self.ends)
            return GrammarPlace(len(text), len(text), allowed, True, "")
        valid = self._go_to(text)
        if valid < len(text):
            return GrammarPlace(valid, len(text), np.zeros(self.vocab, dtype=np.bool_), False, "")
        allowed = np.zeros(self.vocab, dtype=np.bool_)
        known, complete, forced = self.look(len(text))
        allowed[: len(known)] = known[: self.vocab]
        return GrammarPlace(valid, len(text), allowed, complete, forced)

    def _go_to(self, text: tuple[int, ...]) -> int:
        """Bring the library to a text, or to its longest valid beginning; return the length of that."""
        shared = 0
        for one, other in zip(self._text, text, strict=False):
            if one != other:
                break
            shared += 1
        if len(self._text) > shared:
            self.back(len(self._text) - shared)
        taken = shared + self.take(text[shared:])
        self._text = text[:taken]
        return taken

    @abstractmethod
    def back(self, count: int) -> None:
        """Take the last tokens back."""

    @abstractmethod
    def take(self, tokens: Sequence[int]) -> int:
        """Follow tokens as far as they are allowed, ends not among them; return how many are."""

    @abstractmethod
    def look(self, length: int) -> tuple[npt.NDArray[np.bool_], bool, str]:
        """Say where the library stands after ``length`` tokens.

        Returns:
            Whether each token may come next, as far as the library knows tokens; whether the text may end
            here; and text that must come next.

        Raises:
            ElimError: The grammar is too complex for the library's limits.
        """


class GrammarLibrary(ABC):
    """A library that makes masks.

    Attributes:
        name: Name of its package.
        install: How to install it.
    """

    name: str
    install: str

    def engine_name(self) -> str:
        """Return the library with its version, such as ``llguidance 1.9.1``.

        Raises:
            ElimError: It is not installed.
        """
        self.load()
        return f"{self.name} {version(self.name)}"

    def missing(self) -> ElimError:
        """Return the error for a library that is not installed."""
        return ElimError(f"grammars and JSON schemas need the package {self.name}", self.install)

    @abstractmethod
    def load(self) -> Any:
        """Import the library.

        Raises:
            ElimError: It is not installed.
        """

    @abstractmethod
    def compiled(self, syntax: Syntax, text: str, source: str) -> str:
        """Check a text, and translate it to what the library takes.

        Args:
            syntax: ``json_schema``, ``grammar`` (Lark, or GBNF of llama.cpp) or ``regex``.
            text: The text.
            source: The file that it is from; empty for none.

        Raises:
            ElimError: It is not valid, or nothing satisfies it; the message names file and place.
        """

    @abstractmethod
    def matcher(
        self, syntax: Syntax, compiled: str, definition: str, ends: tuple[int, ...], vocab: int
    ) -> Matcher:
        """Make a matcher.

        Args:
            syntax: As for ``compiled``.
            compiled: What ``compiled`` returned.
            definition: The content of the model's ``tokenizer.json``.
            ends: Its end-of-text tokens, the only ones that may follow a complete text; at least one.
            vocab: Logits in a row of the model.

        Raises:
            ElimError: The library cannot read the tokenizer.
        """


def read_schema(text: str, name: str) -> Any:
    """Read a JSON schema.

    Args:
        text: The schema.
        name: What errors call it.

    Raises:
        ElimError: It is not JSON; the message names the place.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        place = f":{error.lineno}:{error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        told = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise ElimError(f"{name}{place}: not valid JSON: {told}", "a JSON schema is a JSON object") from error


SYNTAX = "a grammar is Lark with a rule 'start', or GBNF (llama.cpp) with a rule 'root'"
"""What a grammar may be written in."""
