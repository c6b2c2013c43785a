"""Explain a chain to people: what each stage does, with which values from where, and what turns it off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from elimtool.samplers.catalogue import stage_info
from elimtool.samplers.chain import Chain
from elimtool.samplers.stage import Stage, plain

ROLES = {
    "truncate": "removes tokens",
    "rescale": "rescales logits",
    "shift": "moves single logits",
    "select": "prefers tokens",
    "ban": "bans tokens",
    "require": "requires tokens",
    "force": "forces tokens",
    "combine": "combines rows of logits",
}
"""What a stage of each role does, in words."""


@dataclass(frozen=True)
class ExplainedStage:
    """One stage of a chain.

    Attributes:
        place: Its place in the chain, from 1.
        name: Its name in the ledger.
        kind: Kind of stage.
        role: What it does to tokens.
        on: Whether it acts with these values.
        does: What it does, in one sentence.
        values: Parameters that are not the stage's own defaults, and its main one.
        origins: Where values come from that are not the engine's own, by parameter.
        off: The values that turn it off; empty where only leaving it out does.
        sources: Papers and files of the chain's engine that define it; of all engines where its own has none.
        before: Stages that stand before it where they are set, and are left out here.
    """

    place: int
    name: str
    kind: str
    role: str
    on: bool
    does: str
    values: dict[str, Any]
    origins: dict[str, str]
    off: dict[str, Any]
    sources: tuple[str, ...]
    before: tuple[str, ...] = ()


def explain(chain: Chain) -> list[ExplainedStage]:
    """Explain the stages of a chain, first to last."""
    return [_explained(chain, place, stage) for place, stage in enumerate(chain.stages, 1)]


def _explained(chain: Chain, place: int, stage: Stage) -> ExplainedStage:
    info = stage_info(stage.kind)
    defaults = {one.name: one.default for one in info.parameters}
    values = {
        name: value
        for name, value in stage.params().items()
        if name == stage.main or value != defaults.get(name, value)
    }
    return ExplainedStage(
        place=place,
        name=stage.name,
        kind=stage.kind,
        role=ROLES.get(stage.role, stage.role),
        on=not stage.is_off(),
        does=info.summary,
        values=values,
        origins=chain.origins_of(stage.name),
        off={name: plain(value) for name, value in (stage.off or {}).items()},
        sources=_sources(chain, stage),
        before=tuple(name for name, following in chain.idle if following == stage.name),
    )


ENGINES = {"hf": "transformers ", "vllm": "vLLM ", "sglang": "SGLang "}
"""How sources call an engine whose name they spell otherwise."""


def _sources(chain: Chain, stage: Stage) -> tuple[str, ...]:
    """Leave out the files of other engines, where the chain's own has some."""
    files = tuple(
        one for one in stage.sources if one.partition(" ")[2].split(" ")[0].endswith((".py", ".cpp"))
    )
    mark = ENGINES.get(chain.engine, f"{chain.engine} ")
    if not any(one.startswith(mark) for one in files):
        return stage.sources
    return tuple(one for one in stage.sources if one not in files or one.startswith(mark))
