"""The options that ask for tables of their own: a file for each, or for those that go together."""

from __future__ import annotations

from elimtool.engine.requests.along import AlongRequest
from elimtool.engine.requests.beams import BeamRequest
from elimtool.engine.requests.concepts import ConceptRequest
from elimtool.engine.requests.futures import FutureRequest
from elimtool.engine.requests.grammar_texts import GrammarTextsRequest
from elimtool.engine.requests.patchscope import PatchscopeRequest
from elimtool.engine.requests.paths import PathRequest
from elimtool.engine.requests.repeat import RepeatRequest
from elimtool.engine.requests.request import Request
from elimtool.engine.requests.risk import RiskRequest
from elimtool.engine.requests.through import ThroughRequest
from elimtool.engine.requests.watch import WatchRequest

REQUESTS: tuple[Request, ...] = (
    Request("attention_of"),
    Request("ablate_each"),
    Request("rollout"),
    ConceptRequest("concepts"),
    RiskRequest("risk"),
    WatchRequest("watch"),
    ThroughRequest("through"),
    BeamRequest("beams"),
    GrammarTextsRequest("grammar_texts"),
    PathRequest("paths"),
    FutureRequest("futures"),
    RepeatRequest("repeat"),
    AlongRequest("along"),
    PatchscopeRequest("patchscope"),
)
"""All of them, in the order in which their tables are filled."""
