"""Compile grammars, JSON schemas and regular expressions, and say which tokens each allows after a text."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from elimtool.errors import ElimError
from elimtool.files.places import Places, read_with_places

Syntax = Literal["json_schema", "grammar", "regex"]

PACKAGE = "llguidance"
INSTALL = "pip install 'elimtool[grammar]'"
KEPT = 64
"""Places in texts that a matcher remembers, for the chains and rows that share them."""
_PLACE = re.compile(r"^(?:at )?(\d+)\((\d+)\): (.*)")


def engine() -> ModuleType:
    """Import the library that compiles grammars.

    Raises:
        ElimError: It is not installed.
    """
    try:
        import llguidance
    except ImportError as error:
        raise ElimError(f"grammars and JSON schemas need the package {PACKAGE}", INSTALL) from error
    return llguidance


def engine_name() -> str:
    """Return the library with its version, such as ``llguidance 1.9.1``."""
    engine()
    return f"{PACKAGE} {version(PACKAGE)}"


@lru_cache(maxsize=32)
def compiled(syntax: Syntax, text: str, source: str) -> str:
    """Translate a text to what the library compiles, and check it.

    Args:
        syntax: ``json_schema``, ``grammar`` (Lark, or GBNF of llama.cpp) or ``regex``.
        text: The text.
        source: The file that it is from; empty for none.

    Raises:
        ElimError: It is not valid, or nothing satisfies it; the message names file and place.
    """
    library = engine()
    if syntax == "json_schema":
        return _schema(library, text, source)
    if syntax == "regex":
        made = library.LLMatcher.grammar_from_regex(text)
        if said := library.LLMatcher.validate_grammar(made):
            raise _bad_regex(text, said)
        return str(made)
    from llguidance.gbnf_to_lark import any_to_lark, is_lark_syntax

    try:
        made = library.LLMatcher.grammar_from_lark(any_to_lark(text))
    except Exception as error:  # the converter raises bare exceptions
        raise _bad_gbnf(text, str(error), source) from error
    if said := library.LLMatcher.validate_grammar(made):
        found = _PLACE.match(said.splitlines()[0])
        own = is_lark_syntax(text)  # else the places are those of the translation
        place = f"{source}:{found[1]}:{found[2]}" if found and own else source or "grammar"
        raise ElimError(f"{place}: {found[3] if found else said.splitlines()[0]}", _SYNTAX)
    return str(made)


_SYNTAX = "a grammar is Lark with a rule 'start', or GBNF (llama.cpp) with a rule 'root'"


def _bad_gbnf(text: str, said: str, source: str) -> ElimError:
    """Find the line that a GBNF error is about."""
    line = 1
    if found := re.search(r"at line (\d+)", said):
        line = int(found[1])
    elif found := re.search(r"Rule '([\w-]+)' not found", said):
        uses = re.compile(rf"(?<![\w-]){re.escape(found[1])}(?![\w-])")
        lines = text.splitlines()
        line = next((number for number, one in enumerate(lines, 1) if uses.search(one)), 1)
    said = re.sub(r" at line \d+.*", "", " ".join(said.split()))
    return ElimError(f"{source or 'grammar'}:{line}: {said}", _SYNTAX)


def _bad_regex(text: str, said: str) -> ElimError:
    lines = said.splitlines()
    caret = next((one for one in lines if set(one.strip()) == {"^"}), "")
    reason = next((one.removeprefix("error: ") for one in lines if one.startswith("error: ")), lines[0])
    where = f" at character {len(caret) - len(caret.lstrip()) - 4 + 1}" if caret else ""
    hint = "the syntax is that of Rust's regex crate, without look-around and back-references"
    return ElimError(f"regex {text!r} is not valid{where}: {reason}", hint)


def _schema(library: ModuleType, text: str, source: str) -> str:
    name = source or "JSON schema"
    try:
        schema = json.loads(text)
    except ValueError as error:
        place = f":{error.lineno}:{error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        told = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise ElimError(f"{name}{place}: not valid JSON: {told}", "a JSON schema is a JSON object") from error
    # validated as a text: Python's own numbers are wider than JSON's
    made = str(library.LLMatcher.grammar_from_json_schema(text))
    if said := library.LLMatcher.validate_grammar(made):
        path = next(_culprits(library, schema, said, schema), ())
        pointer = "/".join(("#", *map(str, path)))
        at = _places(source).at(tuple(path)) if source else name
        told = " ".join(said.split())
        raise ElimError(f"{at}: {pointer}: {told}", "change the schema: nothing could be written by it")
    return made


def _culprits(
    library: ModuleType, schema: Any, said: str, root: Any, path: tuple[Any, ...] = ()
) -> Iterator[tuple[Any, ...]]:
    """Yield the deepest part of a schema that alone is refused with the same words."""
    parts: list[tuple[Any, Any]] = []
    if isinstance(schema, dict):
        parts = list(schema.items())
    elif isinstance(schema, list):
        parts = list(enumerate(schema))
    for key, part in parts:
        if isinstance(part, dict | list):
            yield from _culprits(library, part, said, root, (*path, key))
    if isinstance(schema, dict) and path:
        shared = {
            key: root[key] for key in ("$defs", "definitions") if isinstance(root, dict) and key in root
        }
        made = library.LLMatcher.grammar_from_json_schema(json.dumps({**shared, **schema}))
        if library.LLMatcher.validate_grammar(made) == said:
            yield path


def _places(source: str) -> Places:
    try:
        return read_with_places(Path(source))[1]
    except ElimError:  # JSON that is no YAML, such as one indented by tabs
        return Places(Path(source))


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


class Matcher:
    """A grammar for one vocabulary.

    Args:
        grammar: From ``compiled``.
        tokenizer: From ``tokenizer_of``.
        vocab: Logits in a row; tokens that the tokenizer lacks are never allowed.
    """

    def __init__(self, grammar: str, tokenizer: Any, vocab: int) -> None:
        self.vocab = vocab
        self._matcher = engine().LLMatcher(tokenizer, grammar, log_level=0)
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
        valid = self._go_to(text)
        if valid < len(text):
            return GrammarPlace(valid, len(text), np.zeros(self.vocab, dtype=np.bool_), False, "")
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        if self._matcher.is_error():
            said = " ".join(self._matcher.get_error().split())[:200]
            raise ElimError(f"the grammar cannot be followed after {len(text)} tokens: {said}")
        allowed = np.zeros(self.vocab, dtype=np.bool_)
        known = np.unpackbits(bits, bitorder="little")[: self.vocab].astype(np.bool_)
        allowed[: len(known)] = known
        forced = self._matcher.compute_ff_bytes().decode("utf-8", "backslashreplace")
        return GrammarPlace(valid, len(text), allowed, bool(self._matcher.is_accepting()), forced)

    def _go_to(self, text: tuple[int, ...]) -> int:
        """Bring the matcher to a text, or to its longest valid beginning; return the length of that."""
        shared = 0
        for one, other in zip(self._text, text, strict=False):
            if one != other:
                break
            shared += 1
        if len(self._text) > shared:
            self._matcher.rollback(len(self._text) - shared)
        taken = shared + int(self._matcher.try_consume_tokens(list(text[shared:])))
        self._text = text[:taken]
        return taken


@lru_cache(maxsize=4)
def tokenizer_of(definition: str, ends: tuple[int, ...], vocab: int) -> Any:
    """Build the library's tokenizer, which takes a second for 50,000 tokens.

    Args:
        definition: The content of the model's ``tokenizer.json``.
        ends: Its end-of-text tokens, the only ones that may follow a complete text.
        vocab: Logits in a row of the model.

    Raises:
        ElimError: The library cannot read the tokenizer, or there is no end-of-text token.
    """
    if not ends:
        raise ElimError(
            "a grammar needs an end-of-text token, and the model has none", "leave the grammar out"
        )
    try:
        return engine().LLTokenizer(definition, n_vocab=None, eos_token=[one for one in ends if one < vocab])
    except ValueError as error:
        raise ElimError(f"{PACKAGE} cannot read the model's tokenizer: {error}") from error
