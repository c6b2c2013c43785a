"""Run a chain of stages over logits, and keep a ledger of what each of them did."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.dry import DRY
from elimtool.samplers.history import History
from elimtool.samplers.ledger import Ledger, StageRecord, Standing, record
from elimtool.samplers.stage import Context, Effect, Stage

State = Mapping[int, Tensor]
"""State of the stages that have one: stage index to one float64 number per row."""


@dataclass(frozen=True)
class Chain:
    """Stages in order, as an engine applies them.

    Attributes:
        name: Name of the preset, the file's stem or the inline text.
        engine: Engine whose rules it follows.
        version: Version of the engine that the rules were read from.
        stages: First to last.
        precision: ``exact`` (float64) or ``float32`` as the engine computes.
        accumulation: How the engine sums in float32: one after the other (``sequential``) or as ``torch``
            does.
        sources: Where the rules were read.
    """

    name: str
    engine: str
    version: str
    stages: tuple[Stage, ...]
    precision: Literal["exact", "float32"] = "exact"
    accumulation: Literal["sequential", "torch"] = "torch"
    sources: tuple[str, ...] = ()

    def describe(self) -> dict[str, Any]:
        """Everything about the chain, JSON-able."""
        stages = [
            {"stage": s.kind, "name": s.name, "params": s.params(), "off": s.is_off()} for s in self.stages
        ]
        return {
            "name": self.name,
            "engine": self.engine,
            "version": self.version,
            "precision": self.precision,
            "accumulation": self.accumulation,
            "sources": list(self.sources),
            "stages": stages,
        }

    def run(
        self,
        logits: Float[Tensor, "rows vocab"],
        targets: Int[Tensor, "rows k"],
        histories: Sequence[History] | None = None,
        state: State | None = None,
        draws: Float[Tensor, " rows"] | None = None,
        begun: Candidates | None = None,
    ) -> Ledger:
        """Apply the stages and write the ledger.

        Args:
            logits: Any float dtype, ``-inf`` allowed; never edited. Samplers run on the CPU, where a row of a
                vocabulary is small work, so that a ledger does not depend on the device of the model.
            targets: Token ids to follow, -1 = none.
            histories: One per row; ``None`` = empty histories.
            state: From ``start`` or ``accept``; ``None`` = the state before the first token.
            draws: Uniform random numbers in [0, 1), one per row, for stages that act by chance.
            begun: ``Candidates.of(logits, targets)``, where several chains run on the same rows: what one
                chain finds out about them, exact ones that follow need not.

        Raises:
            ElimError: A row without a finite logit, with NaN or +inf; a target outside the vocabulary; or a
                number of histories or draws that is not the number of rows.
        """
        logits, targets = logits.cpu(), targets.cpu()
        rows = logits.shape[0]
        if histories is not None and len(histories) != rows:
            raise ElimError(
                f"{len(histories)} histories for {rows} rows of logits: one history a row is needed"
            )
        if draws is not None and draws.shape[0] != rows:
            raise ElimError(f"{draws.shape[0]} draws for {rows} rows of logits: one draw a row is needed")
        histories = histories if histories is not None else [History()] * rows
        dtype = torch.float64 if self.precision == "exact" else torch.float32
        sequential = self.precision == "float32" and self.accumulation == "sequential"
        shared = begun is not None and begun.scores.dtype == dtype and begun.sequential == sequential
        c = begun if begun is not None and shared else Candidates.of(logits, targets, dtype, sequential)
        state = self.start(rows) if state is None else state
        records: list[StageRecord] = []
        standing = Standing.of(c, targets)
        for index, stage in enumerate(self.stages):
            if stage.role == "truncate" and self._measures_full(index):
                c = c.with_total()
            after, effect = step(stage, c, Context(histories, draws, state.get(index)))
            left = standing if after is c else Standing.of(after, targets)
            records.append(record(stage, c, after, effect, targets, (standing, left)))
            c, standing = after, left
        return Ledger(self.name, targets, tuple(records), c)

    def _measures_full(self, index: int) -> bool:
        """Whether this or a later stage measures mass on the distribution before any removal."""
        rest = self.stages[index:]
        return any(getattr(s, "mass_of", "survivors") == "full" and not s.is_off() for s in rest)

    def start(self, rows: int) -> State:
        """State of the stages before the first token."""
        begun = {index: stage.start(rows) for index, stage in enumerate(self.stages) if not stage.is_off()}
        return {index: value for index, value in begun.items() if value is not None}

    def accept(self, state: State, ledger: Ledger, tokens: Int[Tensor, " rows"]) -> State:
        """State after one token a row was chosen.

        Args:
            state: The state that the ledger was made with.
            ledger: The ledger of this step.
            tokens: The chosen tokens, survivors of the chain.
        """
        moved: dict[int, Float64[Tensor, " rows"]] = {}
        for index, value in state.items():
            moved[index] = self.stages[index].accept(value, ledger.records[index].prob_of(tokens))
        return moved

    def with_vocabulary(
        self, pieces: Sequence[str], encode: Callable[[str], Sequence[int]] | None = None
    ) -> Chain:
        """The chain with DRY's breaker strings turned into tokens.

        Args:
            pieces: Text of every token, by id.
            encode: Tokenizes the rest of a breaker whose first part ends a token; ``None`` = only tokens that
                hold the whole breaker break.
        """
        stages = tuple(_resolve_breakers(s, pieces, encode) if isinstance(s, DRY) else s for s in self.stages)
        return replace(self, stages=stages)


def step(stage: Stage, c: Candidates, context: Context) -> tuple[Candidates, Effect]:
    """Apply one stage: what it leaves, and what it reports."""
    if stage.is_off():
        return c, Effect(c)
    effect = stage.apply(c, context)
    base = effect.base
    after = base
    if effect.scores is not None:
        after = base.rescored(effect.scores, effect.keeps_order)
    if effect.keep is not None:
        after = after.keep(effect.keep, effect.size)
    return after, effect


def _resolve_breakers(
    stage: DRY, pieces: Sequence[str], encode: Callable[[str], Sequence[int]] | None
) -> DRY:
    """Turn breaker strings into tokens: whole inside one, or begun at the end of one and tokenized on."""
    found: dict[tuple[int, ...], None] = dict.fromkeys(stage.breaker_tokens)
    for text in stage.breakers:
        for token, piece in enumerate(pieces):
            if text in piece:
                found[(token,)] = None
                continue
            if encode is None:
                continue
            for length in range(min(len(text) - 1, len(piece)), 0, -1):
                if piece.endswith(text[:length]):
                    found[(token, *encode(text[length:]))] = None
                    break
    return replace(stage, breakers=(), breaker_tokens=tuple(found))
