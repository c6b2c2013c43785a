"""Offer the main parameter of each stage as a slider, and find where on it a target lives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

from elimtool.errors import ElimError
from elimtool.metrics.metric import ReadoutView
from elimtool.metrics.sampling import histories
from elimtool.samplers import STAGES, Chain, Stage
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.catalogue import stage_info
from elimtool.tasks.explore.chains import RANGES, is_number
from elimtool.tasks.explore.states import TracedState

COARSE = 16
"""Places between which it is searched where a target's life ends."""
HALVINGS = 24
"""Halvings of the part between two of them: the place is then known to a 16-millionth of it."""


def controls(chain: Chain) -> list[dict[str, Any]]:
    """List the stages of a chain, each ``name, kind, main, value, range, on, told``.

    ``value`` and ``range`` are ``None`` where the main parameter is no number; ``told`` says what the stage
    and its main parameter do.
    """
    found = []
    for stage in chain.stages:
        number = is_number(stage)
        found.append(
            {
                "name": stage.name,
                "kind": stage.kind,
                "main": stage.main,
                "value": getattr(stage, stage.main) if number else None,
                "range": RANGES.get(stage.kind) if number else None,
                "on": not stage.is_off(),
                "told": _told(stage.kind),
            }
        )
    return found


@cache
def _told(kind: str) -> str:
    """Say what a stage does, and its main parameter."""
    if kind not in STAGES.everything():
        return ""
    info = stage_info(kind)
    main = next((one for one in info.parameters if one.name == info.main), None)
    parts = [info.summary, *([f"{main.name}: {main.meaning}"] if main else [])]
    return "\n".join([*parts, *([f"Unit of its threshold: {info.unit}."] if info.unit else [])])


def lives(
    state: TracedState, chain: int, position: int, target: int, stop: Callable[[], None]
) -> dict[str, list[tuple[float, float]]]:
    """Find the values of each slider of a chain at which a target survives the whole chain.

    Args:
        state: What was traced.
        chain: Which of its chains.
        position: Which probed position.
        target: Which of the followed tokens, foils left out.
        stop: Called before every try; raises where nobody waits any more.

    Returns:
        By name of the stage: ranges (from, to), ascending, the other stages as they are; none where no value
        keeps the target. Parts narrower than a sixteenth of the slider may be missed.

    Raises:
        ElimError: There is no such chain, position or target.
    """
    if not 0 <= chain < len(state.chains):
        raise ElimError(f"there is no chain {chain}")
    view, row = _row(state, position)
    ids = view.followed.ids[row : row + 1].masked_fill(view.followed.is_foil[row : row + 1], -1)
    columns = (ids[0] >= 0).nonzero()[:, 0].tolist()
    if not 0 <= target < len(columns):
        raise ElimError(f"there is no target {target}")
    logits = view.logits[-1][row : row + 1]
    past = histories(view, state.settings)[row : row + 1]
    begun = Candidates.of(logits, ids)
    whole = state.chains[chain]

    def alive(stages: tuple[Stage, ...]) -> bool:
        stop()
        ledger = replace(whole, stages=stages).run(logits, ids, histories=past, begun=begun)
        return bool(ledger.records[-1].alive_after[0, columns[target]])

    found = {}
    for place, own in enumerate(whole.stages):
        if own.kind in RANGES:
            before, after = whole.stages[:place], whole.stages[place + 1 :]

            def kept(value: float, before: Any = before, own: Stage = own, after: Any = after) -> bool:
                try:
                    return alive((*before, _changed(own, value), *after))
                except ElimError:  # a value that the engine refuses keeps nothing
                    return False

            found[own.name] = _ranges(kept, *RANGES[own.kind])
    return found


def _row(state: TracedState, position: int) -> tuple[ReadoutView, int]:
    """Find the kept row of a position."""
    for view in state.views:
        prompt, probe = view.rows
        positions = view.batch.positions[prompt, probe].tolist()
        if position in positions:
            return view, positions.index(position)
    raise ElimError(f"position {position} was not read", "choose one of those that were")


def _changed(stage: Stage, value: float) -> Stage:
    given: Any = {stage.main: round(value) if isinstance(RANGES[stage.kind][2], int) else value}
    return replace(stage, **given)


def _ranges(
    alive: Callable[[float], bool], low: float, high: float, step: float
) -> list[tuple[float, float]]:
    """Find where something holds between two ends."""
    found: list[tuple[float, float]] = []
    before = alive(low)
    since = low if before else None
    places = [low + (high - low) * index / COARSE for index in range(COARSE + 1)]
    if isinstance(step, int):
        places = list(map(round, places))
    for left, right in pairwise(places):
        now = alive(right)
        if now != before:
            edge = _edge(alive, left, right, before, isinstance(step, int))
            if now:
                since = edge
            elif since is not None:
                found.append((since, edge))
                since = None
        before = now
    return found if since is None else [*found, (since, high)]


def _edge(
    alive: Callable[[float], bool], left: float, right: float, before: bool, whole_numbers: bool
) -> float:
    """Halve a part at whose ends a target fares differently; return the last value at which it lives."""
    for _ in range(HALVINGS):
        if whole_numbers and right - left <= 1:
            break
        middle = (left + right) // 2 if whole_numbers else (left + right) / 2
        if alive(middle) == before:
            left = middle
        else:
            right = middle
    return left if before else right  # the side on which it lives
