"""The libraries that make the masks of grammars by name; adding one is a file and a line here."""

from __future__ import annotations

from elimtool.samplers.grammar_engine import GrammarLibrary
from elimtool.samplers.grammar_llguidance import LLGuidance
from elimtool.samplers.grammar_xgrammar import XGrammar

LIBRARIES: dict[str, GrammarLibrary] = {"llguidance": LLGuidance(), "xgrammar": XGrammar()}
