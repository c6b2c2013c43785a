"""Grammar: require tokens that continue a text of a grammar, a JSON schema or a regular expression."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.files.yaml import read_text
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.grammar_engine import (
    GrammarPlace,
    Matcher,
    Syntax,
    compiled,
    engine_name,
    tokenizer_of,
)
from elimtool.samplers.json_place import place_in_json
from elimtool.samplers.stage import Context, Detail, Effect, Role, Stage

EXAMPLES = 3
"""Allowed tokens that a rule names, the most probable first."""
WORDS: dict[Syntax, str] = {"json_schema": "JSON schema", "grammar": "grammar", "regex": "regular expression"}


@dataclass(frozen=True)
class Grammar(Stage):
    """Removes every token that cannot continue what was written to a text of the language.

    Formula: keep the tokens t for which written + t begins a text of the grammar, by llguidance's mask; the
    end-of-text tokens stay where the text may end. What was written is the output alone, from its first
    token; nothing is removed after a text that has left the grammar. Off: no grammar.

    Attributes:
        file: File of a grammar: Lark with a rule ``start``, or GBNF (llama.cpp) with a rule ``root``.
        json_schema: File of a JSON schema, or the schema itself (a text that begins with a brace).
        regex: A regular expression that the whole output matches (syntax of Rust's regex crate).
        text: The content of the file, read when the chain is made.
        engine: Library and version that make the masks, filled in when the chain is made.
        eos: The tokens that end a text; ``null`` = the model's own, once the chain is given them.
    """

    kind: ClassVar[str] = "grammar"
    role: ClassVar[Role] = "require"
    main: ClassVar[str] = "file"
    off: ClassVar[Mapping[str, Any] | None] = {"file": "", "json_schema": "", "regex": ""}
    sources: ClassVar[tuple[str, ...]] = (
        "llguidance 1.9.1 python/llguidance/_lib.pyi LLMatcher.compute_bitmask",
        "arXiv 2405.21047 (what masking step by step does to the distribution)",
    )

    file: str = ""
    json_schema: str = ""
    regex: str = ""
    text: str = ""
    engine: str = ""
    eos: tuple[int, ...] | None = None
    matcher: Matcher | None = field(default=None, kw_only=True, compare=False, repr=False)

    def __post_init__(self) -> None:
        given = [name for name in ("file", "json_schema", "regex") if getattr(self, name)]
        if len(given) > 1:
            raise ElimError("give one of `grammar`, `json_schema` and `regex`, not several")
        if not given:
            return
        object.__setattr__(self, "engine", engine_name())
        if not self.text:
            object.__setattr__(self, "text", self._read())
        _ = self.compiled

    def _read(self) -> str:
        if self.regex or self.json_schema.lstrip().startswith("{"):
            return self.regex or self.json_schema
        return read_text(Path(self.source))

    @property
    def syntax(self) -> Syntax:
        """What the stage follows."""
        return "json_schema" if self.json_schema else "regex" if self.regex else "grammar"

    @property
    def source(self) -> str:
        """The file that it is read from; empty for none."""
        return "" if self.json_schema.lstrip().startswith("{") else self.file or self.json_schema

    @property
    def compiled(self) -> str:
        """The grammar as the library takes it.

        Raises:
            ElimError: It is not valid.
        """
        return compiled(self.syntax, self.text, self.source)

    def with_tokenizer(self, definition: str, vocab: int) -> Grammar:
        """Return the stage for a model, whose texts it can follow.

        Args:
            definition: Content of the model's ``tokenizer.json``.
            vocab: Logits in a row.

        Raises:
            ElimError: The tokenizer cannot be read.
        """
        ends = tuple(self.eos or ())
        return replace(self, matcher=Matcher(self.compiled, tokenizer_of(definition, ends, vocab), vocab))

    def at(self, written: tuple[int, ...]) -> GrammarPlace:
        """Look up what may follow an output.

        Raises:
            ElimError: The stage has no tokenizer, or the grammar is too complex.
        """
        if self.matcher is None:
            raise ElimError(f"{self.name} needs the model's tokenizer", "use the chain with a model")
        return self.matcher.at(written)

    def state(self, written: str) -> str:
        """Say in words where an output stands; empty where that is not known."""
        return place_in_json(written) if self.syntax == "json_schema" else ""

    def apply(self, c: Candidates, context: Context, /) -> Effect:
        """Remove what the grammar does not allow."""
        written = [history.generated for history in context.histories]
        places = [self.at(one) for one in written]
        keep = self._mask(c, places)
        rules = tuple(
            Refusals(
                place, partial(Refusal, self, one, place, () if place.refused else _likeliest(c, keep, row))
            )
            for row, (one, place) in enumerate(zip(written, places, strict=True))
        )
        details = tuple(self._told(one, place) for one, place in zip(written, places, strict=True))
        acts = torch.tensor([not place.refused for place in places])
        return Effect(c, keep=keep, active=acts, rules=rules, details=details)

    def _mask(self, c: Candidates, places: list[GrammarPlace]) -> Bool[Tensor, "rows width"]:
        table = torch.ones((len(places), c.vocab), dtype=torch.bool)
        for row, place in enumerate(places):
            if not place.refused:
                table[row, : len(place.allowed)] = torch.from_numpy(place.allowed)[: c.vocab]
        return table if c.tokens is None else table.gather(1, c.ids)

    def _told(self, written: tuple[int, ...], place: GrammarPlace) -> Mapping[int, Detail]:
        """Remark on a token that is forced, or on the token with which the text has left the grammar."""
        if place.refused:
            return {-1: Departed(WORDS[self.syntax], place.valid, written[place.valid])}
        only = np.flatnonzero(place.allowed)
        return (
            {int(only[0]): Forced(WORDS[self.syntax], int(only[0]), place.complete)} if len(only) == 1 else {}
        )


def _likeliest(c: Candidates, keep: Bool[Tensor, "rows width"], row: int) -> tuple[int, ...]:
    """Return the survivors of a row with the largest scores, the best first."""
    scores = c.scores[row].masked_fill(~keep[row], -torch.inf)
    best = scores.topk(min(EXAMPLES, len(scores)))
    return tuple(c.ids[row, best.indices[best.values > -torch.inf]].tolist())


@dataclass(frozen=True)
class Forced:
    """The remark that a token is the only one that is allowed."""

    what: str
    token: int
    complete: bool

    def __str__(self) -> str:
        return self.told(str)

    def told(self, spell: Callable[[int], str]) -> str:
        """Say that it is forced."""
        why = "the text is complete and must end" if self.complete else f"the {self.what} allows no other"
        return f"{spell(self.token)!r} is forced: {why}"


@dataclass(frozen=True)
class Departed:
    """The remark that an earlier token left the grammar."""

    what: str
    valid: int
    token: int

    def __str__(self) -> str:
        return self.told(str)

    def told(self, spell: Callable[[int], str]) -> str:
        """Name the token."""
        return (
            f"what was written has left the {self.what} at its token {self.valid} (from 0),"
            f" {spell(self.token)!r}: nothing is removed from there on"
        )


@dataclass(frozen=True)
class Refusal:
    """Why a grammar refuses a token, and what it allows there.

    Attributes:
        stage: The stage.
        written: The output so far.
        place: Where that stands in the grammar.
        likeliest: Allowed tokens, the most probable first.
        token: The token.
    """

    stage: Grammar
    written: tuple[int, ...]
    place: GrammarPlace
    likeliest: tuple[int, ...]
    token: int

    def __str__(self) -> str:
        return self._told(str, "")

    def told(self, spell: Callable[[int], str]) -> str:
        """Return the sentence with tokens as text, and with the place in words where it is known."""
        state = self.stage.state("".join(map(spell, self.written)))
        return self._told(spell, f" {state}" if state else "")

    def _told(self, spell: Callable[[int], str], where: str) -> str:
        some = ", ".join(repr(spell(token)) for token in self.likeliest)
        count = int(self.place.allowed.sum())
        rest = f" and {count - len(self.likeliest)} more" if count > len(self.likeliest) else ""
        allowed = f"it allows {some}{rest}" if some else "nothing that was left is allowed"
        return f"the {WORDS[self.stage.syntax]} refuses {spell(self.token)!r}{where or ' here'}; {allowed}"


class Refusals(Mapping[int, Detail]):
    """The refusals of a row, each made when it is asked for: a grammar can refuse the whole vocabulary."""

    def __init__(self, place: GrammarPlace, rule: Callable[[int], Refusal]) -> None:
        self._place, self._rule = place, rule

    def __getitem__(self, token: int) -> Refusal:
        allowed = self._place.allowed
        if self._place.refused or not 0 <= token < len(allowed) or allowed[token]:
            raise KeyError(token)
        return self._rule(token)

    def __iter__(self) -> Iterator[int]:
        return iter([] if self._place.refused else np.flatnonzero(~self._place.allowed).tolist())

    def __len__(self) -> int:
        return 0 if self._place.refused else int((~self._place.allowed).sum())
