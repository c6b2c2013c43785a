"""Masks by llguidance, the default: it needs no other package."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from elimtool.errors import ElimError
from elimtool.files.places import Places, read_with_places
from elimtool.samplers.grammar_engine import SYNTAX, GrammarLibrary, Matcher, Syntax, read_schema

_PLACE = re.compile(r"^(?:at )?(\d+)\((\d+)\): (.*)")


class LLGuidance(GrammarLibrary):
    """The library llguidance."""

    name = "llguidance"
    install = "pip install 'elimtool[grammar]'"

    def load(self) -> ModuleType:
        """Import the library."""
        try:
            import llguidance
        except ImportError as error:
            raise self.missing() from error
        return llguidance

    def compiled(self, syntax: Syntax, text: str, source: str) -> str:
        """Check a text, and translate it."""
        return _compiled(syntax, text, source)

    def matcher(
        self, _: Syntax, compiled: str, definition: str, ends: tuple[int, ...], vocab: int
    ) -> Matcher:
        """Make a matcher."""
        return _LLMatcher(compiled, _tokenizer_of(definition, ends, vocab), vocab, ends)


class _LLMatcher(Matcher):
    """A grammar that llguidance follows."""

    def __init__(self, grammar: str, tokenizer: Any, vocab: int, ends: tuple[int, ...]) -> None:
        super().__init__(vocab, ends)
        self._matcher = LLGuidance().load().LLMatcher(tokenizer, grammar, log_level=0)

    def back(self, count: int) -> None:
        """Take the last tokens back."""
        self._matcher.rollback(count)

    def take(self, tokens: Sequence[int]) -> int:
        """Follow tokens."""
        return int(self._matcher.try_consume_tokens(list(tokens)))

    def look(self, length: int) -> tuple[npt.NDArray[np.bool_], bool, str]:
        """Say where it stands."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        if self._matcher.is_error():
            said = " ".join(self._matcher.get_error().split())[:200]
            raise ElimError(f"the grammar cannot be followed after {length:,} tokens: {said}")
        known = np.unpackbits(bits, bitorder="little").astype(np.bool_)
        forced = self._matcher.compute_ff_bytes().decode("utf-8", "backslashreplace")
        return known, bool(self._matcher.is_accepting()), forced


@lru_cache(maxsize=32)
def _compiled(syntax: Syntax, text: str, source: str) -> str:
    library = LLGuidance().load()
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
        raise ElimError(f"{place}: {found[3] if found else said.splitlines()[0]}", SYNTAX)
    return str(made)


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
    return ElimError(f"{source or 'grammar'}:{line}: {said}", SYNTAX)


def _bad_regex(text: str, said: str) -> ElimError:
    lines = said.splitlines()
    caret = next((one for one in lines if set(one.strip()) == {"^"}), "")
    reason = next((one.removeprefix("error: ") for one in lines if one.startswith("error: ")), lines[0])
    where = f" at character {len(caret) - len(caret.lstrip()) - 4 + 1:,}" if caret else ""
    hint = "the syntax is that of Rust's regex crate, without look-around and back-references"
    return ElimError(f"regex {text!r} is not valid{where}: {reason}", hint)


def _schema(library: ModuleType, text: str, source: str) -> str:
    name = source or "JSON schema"
    schema = read_schema(text, name)
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


@lru_cache(maxsize=4)
def _tokenizer_of(definition: str, ends: tuple[int, ...], vocab: int) -> Any:
    """Build the library's tokenizer, which takes a second for 50,000 tokens."""
    library = LLGuidance().load()
    try:
        return library.LLTokenizer(definition, n_vocab=None, eos_token=[one for one in ends if one < vocab])
    except ValueError as error:
        raise ElimError(f"llguidance cannot read the model's tokenizer: {error}") from error
