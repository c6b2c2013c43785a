"""``grammar_texts``: the whole texts of grammars, tables ``grammar_whole`` and ``grammar_texts``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elimtool.engine.grammar_whole import grammar_text_tables, masking
from elimtool.engine.requests.request import Fill, Request
from elimtool.errors import ElimError
from elimtool.samplers.presets import has_grammar

if TYPE_CHECKING:
    from elimtool.engine.options import TraceOptions
    from elimtool.engine.session import Session

MOST_TEXTS = 128
"""Most beginnings that are followed: their outputs are held side by side."""


class GrammarTextsRequest(Request):
    """Adds up the texts of grammars."""

    def check(self, options: TraceOptions) -> None:
        """Refuse numbers of texts that cannot be held, and what has no grammar or no length."""
        if not 0 <= options.grammar_texts <= MOST_TEXTS:
            raise ElimError(f"`grammar_texts` must be from 1 to {MOST_TEXTS}, got {options.grammar_texts}")
        if not options.grammar_texts:
            return
        if not options.generate:
            raise ElimError(
                "`grammar_texts` needs the length of a text", "say how many tokens with `generate`"
            )
        if options.grammar is None and not any(map(has_grammar, options.samplers)):
            raise ElimError(
                "`grammar_texts` adds up the texts of a grammar, and no chain has one",
                "give `grammar`, `json_schema` or `regex`",
            )

    def filler(self, session: Session) -> Fill:
        """Return what fills the tables.

        Raises:
            ElimError: No grammar masks, or what stands before one acts by chance or by what it remembers.
        """
        how, settings = session.options, session.settings
        if not list(masking(settings.chains)):
            raise ElimError(
                "`grammar_texts` is of grammars that mask, and those of the chains check what is drawn",
                "use a chain whose engine masks, such as vllm",
            )
        many = how.grammar_texts, how.generate
        return lambda one, _: grammar_text_tables(
            session.model, one, settings.chains, *many, settings.against
        )
