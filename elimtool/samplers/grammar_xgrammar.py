"""Masks by xgrammar, as vLLM and SGLang make them unless they are asked for another library."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from elimtool.errors import ElimError
from elimtool.samplers.grammar_engine import SYNTAX, GrammarLibrary, Matcher, Syntax, read_schema

_PLACE = re.compile(r"^\[[\d:]+\] \S+: ")
"""Clock and line of the library's own code, before its messages."""


class XGrammar(GrammarLibrary):
    """The library xgrammar."""

    name = "xgrammar"
    install = (
        "pip install 'elimtool[xgrammar]'; beside a torch without CUDA, which its requirements would replace,"
        " xgrammar and apache-tvm-ffi with pip's option no-deps"
    )

    def load(self) -> ModuleType:
        """Import the library."""
        try:
            return import_module(self.name)
        except ImportError as error:
            raise self.missing() from error

    def compiled(self, syntax: Syntax, text: str, source: str) -> str:
        """Check a text, which the library takes as it is."""
        return _checked(syntax, text, source)

    def matcher(
        self, syntax: Syntax, compiled: str, definition: str, ends: tuple[int, ...], vocab: int
    ) -> Matcher:
        """Make a matcher."""
        library = self.load()
        compiler = library.GrammarCompiler(_tokenizer_of(definition, ends, vocab), max_threads=1)
        made = library.GrammarMatcher(compiler.compile_grammar(_grammar(library, syntax, compiled)))
        return _XMatcher(made, library.allocate_token_bitmask(1, vocab), vocab, ends)


class _XMatcher(Matcher):
    """A grammar that xgrammar follows."""

    def __init__(self, matcher: Any, mask: Any, vocab: int, ends: tuple[int, ...]) -> None:
        super().__init__(vocab, ends)
        self._matcher, self._mask = matcher, mask

    def back(self, count: int) -> None:
        """Take the last tokens back."""
        self._matcher.rollback(count)

    def take(self, tokens: Sequence[int]) -> int:
        """Follow tokens."""
        for count, token in enumerate(tokens):
            if token in self.ends or not self._matcher.accept_token(token):
                return count
        return len(tokens)

    def look(self, _: int) -> tuple[npt.NDArray[np.bool_], bool, str]:
        """Say where it stands."""
        self._matcher.fill_next_token_bitmask(self._mask)
        bits = self._mask.numpy().view(np.uint8)[0]
        known = np.unpackbits(bits, bitorder="little")[: self.vocab].astype(np.bool_)
        return known, bool(self._matcher.is_completed()), str(self._matcher.find_jump_forward_string())


@lru_cache(maxsize=32)
def _checked(syntax: Syntax, text: str, source: str) -> str:
    library = XGrammar().load()
    name = source or {"json_schema": "JSON schema", "regex": f"regex {text!r}"}.get(syntax, "grammar")
    if syntax == "json_schema":
        read_schema(text, name)
    try:
        _grammar(library, syntax, text)
    except (RuntimeError, ValueError) as error:
        said = _PLACE.sub("", " ".join(str(error).split()))[:300]
        hints = {
            "json_schema": "change the schema: xgrammar cannot write by it",
            "regex": "the syntax is that of JavaScript, without look-around",
        }
        raise ElimError(f"{name}: {said}", hints.get(syntax, SYNTAX)) from error
    return text


def _grammar(library: ModuleType, syntax: Syntax, text: str) -> Any:
    """Build the library's grammar; a schema allows any white space, as in vLLM and SGLang by default."""
    if syntax == "json_schema":
        return library.Grammar.from_json_schema(text)
    if syntax == "regex":
        return library.Grammar.from_regex(text)
    return library.Grammar.from_ebnf(text) if "::=" in text else library.Grammar.from_lark(text)


@lru_cache(maxsize=4)
def _tokenizer_of(definition: str, ends: tuple[int, ...], vocab: int) -> Any:
    """Build the library's tokenizer as it builds it from one of transformers, with the model's own ends."""
    from tokenizers import Tokenizer

    known = Tokenizer.from_str(definition).get_vocab(with_added_tokens=True)
    encoded = [""] * vocab
    for token, place in known.items():
        if place < vocab:
            encoded[place] = token
    info = XGrammar().load().TokenizerInfo
    found = info._detect_metadata_from_hf(definition)  # what its from_huggingface calls
    stops = [end for end in ends if end < vocab]
    return info(
        encoded,
        found["vocab_type"],
        vocab_size=vocab,
        stop_token_ids=stops,
        add_prefix_space=found["add_prefix_space"],
    )
