"""Grammar: require tokens that continue a text of a grammar, a JSON schema or a regular expression."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.files.yaml import read_text
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.distribution import NEG_INF
from elimtool.samplers.grammar_engine import GrammarPlace, Matcher, Syntax
from elimtool.samplers.grammar_libraries import LIBRARIES
from elimtool.samplers.grammar_rules import Departed, Forced, Refusal, Refusals, Rejected
from elimtool.samplers.json_place import place_in_json
from elimtool.samplers.ledger import Ledger
from elimtool.samplers.stage import Context, Detail, Effect, Role, Stage

EXAMPLES = 3
"""Allowed tokens that a rule names, the most probable first."""
Mode = Literal["mask", "check"]
WORDS: dict[Syntax, str] = {"json_schema": "JSON schema", "grammar": "grammar", "regex": "regular expression"}


@dataclass(frozen=True)
class Grammar(Stage):
    """Removes every token that cannot continue what was written to a text of the language.

    Formula: keep the tokens t for which written + t begins a text of the grammar, by a library's mask; the
    end-of-text tokens stay where the text may end. What was written is the output alone, from its first
    token; nothing is removed after a text that has left the grammar. With ``mode`` check (llama.cpp), the
    stages before it (C) draw a token; one that is refused is drawn again, by the same stages on the same
    logits, the grammar first (C|G). What is left is the mixture of both passes,
    ``p(t) = C(t) + (1 - C(G)) C|G(t)`` for the allowed tokens t; ``mass_pruned`` is the probability that the
    first draw is rejected, ``1 - C(G)``. Tokens that only the second pass keeps come back. Off: no grammar.

    Attributes:
        file: File of a grammar: Lark with a rule ``start``, or GBNF (llama.cpp) with a rule ``root``.
        json_schema: File of a JSON schema, or the schema itself (a text that begins with a brace).
        regex: A regular expression that the whole output matches (syntax of Rust's regex crate).
        text: The content of the file, read when the chain is made.
        library: ``llguidance``, or ``xgrammar``, which vLLM and SGLang take by default. They mask otherwise:
            the same texts are whole, but other tokens may spell them.
        engine: Library and version that make the masks, filled in when the chain is made.
        eos: The tokens that end a text; ``null`` = the model's own, once the chain is given them.
        mode: Whether it masks the distribution that it is given (``mask``), or the drawn token is checked and
            drawn again (``check``).
    """

    kind: ClassVar[str] = "grammar"
    role: ClassVar[Role] = "require"
    main: ClassVar[str] = "file"
    off: ClassVar[Mapping[str, Any] | None] = {"file": "", "json_schema": "", "regex": ""}
    sources: ClassVar[tuple[str, ...]] = (
        "llguidance 1.9.1 python/llguidance/_lib.pyi LLMatcher.compute_bitmask",
        "xgrammar 0.2.9 python/xgrammar/matcher.py GrammarMatcher.fill_next_token_bitmask",
        "arXiv 2405.21047 (what masking step by step does to the distribution)",
        "llama.cpp common/sampling.cpp common_sampler_sample (check)",
    )

    file: str = ""
    json_schema: str = ""
    regex: str = ""
    text: str = ""
    library: str = "llguidance"
    engine: str = ""
    eos: tuple[int, ...] | None = None
    mode: Mode = "mask"
    matcher: Matcher | None = field(default=None, kw_only=True, compare=False, repr=False)

    def __post_init__(self) -> None:
        self.one_of("mode", ("mask", "check"))
        self.one_of("library", tuple(LIBRARIES))
        given = [name for name in ("file", "json_schema", "regex") if getattr(self, name)]
        if len(given) > 1:
            raise ElimError("give one of `grammar`, `json_schema` and `regex`, not several")
        if not given:
            return
        object.__setattr__(self, "engine", LIBRARIES[self.library].engine_name())
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
    def what(self) -> str:
        """What the stage follows, in words."""
        return WORDS[self.syntax]

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
        return LIBRARIES[self.library].compiled(self.syntax, self.text, self.source)

    def with_tokenizer(self, definition: str, vocab: int) -> Grammar:
        """Return the stage for a model, whose texts it can follow.

        Args:
            definition: Content of the model's ``tokenizer.json``.
            vocab: Logits in a row.

        Raises:
            ElimError: The tokenizer cannot be read.
        """
        if not (ends := tuple(self.eos or ())):
            raise ElimError(
                "a grammar needs an end-of-text token, and the model has none", "leave the grammar out"
            )
        library = LIBRARIES[self.library]
        return replace(self, matcher=library.matcher(self.syntax, self.compiled, definition, ends, vocab))

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
        """Remove what the grammar does not allow, or mix the two passes of a chain whose draw it checks."""
        written = [history.generated for history in context.histories]
        places = [self.at(one) for one in written]
        keep = self._mask(c, places)
        details = [self._told(one, place) for one, place in zip(written, places, strict=True)]
        acts = torch.tensor([not place.refused for place in places])
        if self.mode == "mask":
            best = likeliest(c.scores.masked_fill(~keep, NEG_INF), c.ids)
            effect = Effect(c, keep=keep)
        else:
            if context.again is None:
                raise ElimError(f"{self.name} checks what a chain draws", "use it as a stage of one")
            second = context.again(replace(self, mode="mask"))
            mixed, rejected = mixture(c, keep, second)
            for row, share in enumerate(rejected.tolist()):
                details[row] |= {-1: Rejected(self.what, share)} if share > 0 else {}
            best = likeliest(mixed)
            scores = torch.where(acts[:, None], mixed, c.wide().double())
            effect = Effect(c, revived=scores.to(c.scores), second=second)
        rules = tuple(
            Refusals(place, partial(Refusal, self.what, self.state, one, place, some))
            for one, place, some in zip(written, places, best, strict=True)
        )
        return replace(effect, active=acts, rules=rules, details=tuple(details))

    def _mask(self, c: Candidates, places: list[GrammarPlace]) -> Bool[Tensor, "rows width"]:
        table = torch.ones((len(places), c.vocab), dtype=torch.bool)
        for row, place in enumerate(places):
            if not place.refused:
                table[row, : len(place.allowed)] = torch.from_numpy(place.allowed)[: c.vocab]
        return table if c.tokens is None else table.gather(1, c.ids)

    def _told(self, written: tuple[int, ...], place: GrammarPlace) -> dict[int, Detail]:
        """Remark on a token that is forced, or on the token with which the text has left the grammar."""
        if place.refused:
            return {-1: Departed(self.what, place.valid, written[place.valid])}
        only = np.flatnonzero(place.allowed)
        return {int(only[0]): Forced(self.what, int(only[0]), place.complete)} if len(only) == 1 else {}


def checks(stage: Stage) -> bool:
    """Return whether a stage checks what the chain draws, so that the chain may run twice."""
    return isinstance(stage, Grammar) and stage.mode == "check" and not stage.is_off()


def mixture(
    c: Candidates, keep: Bool[Tensor, "rows width"], second: Ledger
) -> tuple[Float64[Tensor, "rows vocab"], Float64[Tensor, " rows"]]:
    """Mix what the first pass of a chain leaves of the allowed tokens with what the second pass does.

    Args:
        c: What the first pass leaves.
        keep: Which of it is allowed.
        second: The second pass.

    Returns:
        Log-probabilities, ``-inf`` for removed tokens, and the probability that the first draw is rejected.
    """
    rejected = c.mass(~keep)
    first = c.wide().double().log_softmax(-1)
    refused = torch.ones_like(first, dtype=torch.bool)
    row, column = (keep & c.alive).nonzero(as_tuple=True)
    refused[row, c.ids[row, column]] = False
    redrawn = second.final.log_softmax(-1).masked_fill((second.end.n == 0)[:, None], NEG_INF)
    return torch.logaddexp(first.masked_fill(refused, NEG_INF), redrawn + rejected.log()[:, None]), rejected


def likeliest(scores: Float[Tensor, "rows width"], ids: Tensor | None = None) -> list[tuple[int, ...]]:
    """Return the tokens of each row with the largest scores, the best first.

    Args:
        scores: ``-inf`` for removed tokens.
        ids: Token of every column; ``None`` = they are in order.
    """
    values, columns = scores.topk(min(EXAMPLES, scores.shape[1]))
    tokens = columns if ids is None else ids.gather(1, columns)
    return [tuple(some[alive].tolist()) for some, alive in zip(tokens, values > NEG_INF, strict=True)]
