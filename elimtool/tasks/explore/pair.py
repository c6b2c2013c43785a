"""Compare two states of the page by their tables, and their prompts in passes of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from elimtool.analysis.compare.align import align
from elimtool.analysis.compare.runs import compare_runs
from elimtool.errors import ElimError
from elimtool.files.rows import Row
from elimtool.report.html import compare as report
from elimtool.run.comparison import Comparison
from elimtool.run.reader import Run
from elimtool.run.tables.comparison import COMPARISON_TABLES
from elimtool.tasks.compare.asked import Controls
from elimtool.tasks.compare.prompts import compare_prompts
from elimtool.tasks.explore.asked import PageState
from elimtool.tasks.explore.states import TracedState, TracedStates

OF_PROMPT = ("prompt", "chat", "system", "prefill", "spans")
"""Fields of a state that say what the prompt is."""


ONE = "asked"
"""The id that both states' prompts have in their comparison, so that it joins them."""


def differences(one: TracedState, other: TracedState, position: int | None = None) -> dict[str, Any]:
    """Compare what two states measured at a position: B minus A, changed models as changed.

    Chains are compared in the order in which they stand, as a slider that moved gives one another name.

    Args:
        one: A.
        other: B.
        position: A probed position of B; A is compared where the corresponding token stands. ``None``
            compares the last one of each.

    Returns:
        ``line``, ``prompt`` and ``notes``, as for ``compared``, and the ``positions`` of A and B, ``None``
        where the last ones are compared.

    Raises:
        ElimError: There is nothing to compare.
    """
    a, b = (_joined(state.run) for state in (one, other))
    places = None if position is None else (_corresponding(a, b, position), position)
    if places is not None:
        a, b = (_at(run, place, side) for run, place, side in zip((a, b), places, "AB", strict=True))
    chains = [(left.name, right.name) for left, right in zip(one.chains, other.chains, strict=False)]
    changed = bool(a.interventions or b.interventions)
    found = _with_alignment(compare_runs(a, b, intervened=changed, chains=chains), a, b)
    return {**_told(found), "positions": places}


def _corresponding(a: Run, b: Run, position: int) -> int:
    """Return the index of A's token that corresponds to one of B's.

    Raises:
        ElimError: There is none.
    """
    left, right = (run.arrow("prompts").to_pylist()[0] for run in (a, b))
    if left["tokens"] and right["tokens"]:
        for row in align(left["tokens"], right["tokens"], (left["token_ids"], right["token_ids"])).rows:
            if row.index_b == position and row.index_a is not None:
                return row.index_a
    raise ElimError(f"no token of A corresponds to the one at {position}", "look at another position")


def _at(run: Run, position: int, side: str) -> Run:
    """Keep of a run what was measured at one position.

    Raises:
        ElimError: It was not probed.
    """
    tables = {name: run.arrow(name) for name in run.tables}
    tables = {
        name: table.filter(pc.equal(table.column("position"), position))
        if "position" in table.column_names
        else table
        for name, table in tables.items()
    }
    found = Run.from_tables(run.manifest, tables)
    if not len(found.arrow("verdicts")):
        raise ElimError(
            f"{side} was not read at position {position}",
            "look where both were read, or ask for it in A too, and pin that",
        )
    return found


def _joined(run: Run) -> Run:
    """Give the prompt of a run the id that joins it with another."""
    tables = {}
    for name in run.tables:
        table = run.arrow(name)
        if "prompt_id" in table.column_names:
            at, field = table.schema.get_field_index("prompt_id"), table.schema.field("prompt_id")
            table = table.set_column(at, field, pa.array([ONE] * len(table)).cast(field.type))
        tables[name] = table
    return Run.from_tables(run.manifest, tables)


def _with_alignment(found: Comparison, a: Run, b: Run) -> Comparison:
    """Add which tokens of the two prompts correspond, as a comparison of prompts has it."""
    left, right = (run.arrow("prompts").to_pylist()[0] for run in (a, b))
    if not (left["tokens"] and right["tokens"]):
        return found
    placed = align(left["tokens"], right["tokens"], (left["token_ids"], right["token_ids"]))
    more = {"n_matched": len(placed.matched), "n_common_prefix": placed.prefix}
    pairs: list[Row] = [{**row, **more} for row in found.arrow("pairs").to_pylist()]
    rows = placed.as_rows(ONE, left["tokens"], right["tokens"])
    filled = {
        name: COMPARISON_TABLES[name].from_rows(some)
        for name, some in (("pairs", pairs), ("alignment", rows))
    }
    return replace(found, tables={**found.tables, **filled})


def compared(
    states: TracedStates,
    one: PageState,
    other: PageState,
    say: Callable[[str], None],
    stop: Callable[[], None],
) -> dict[str, Any]:
    """Compare two prompts at their last positions, with the targets and settings of the second state.

    Returns:
        ``line`` and ``prompt``, as a report of the comparison has them, and ``notes``.

    Raises:
        ElimError: The states have the same prompt, or something about it cannot be compared.
    """
    if all(getattr(one, name) == getattr(other, name) for name in OF_PROMPT):
        raise ElimError("both have the same prompt", "what became of the targets is said above")
    targets = tuple(dict.fromkeys((*one.targets, *other.targets)))
    foils = tuple(dict.fromkeys((*one.foils, *other.foils)))
    plain = {"position": "last", "ablate": (), "scale": (), "knockout": (), "generate": 0}
    pair = [replace(each, targets=targets, foils=foils, **plain) for each in (one, other)]  # type: ignore[arg-type]
    model = states.model(say)
    stop()
    say("comparing the prompts")
    found = compare_prompts(
        model, *(each.as_prompt() for each in pair), options=pair[1].options(), controls=Controls(count=0)
    )
    return _told(found)


def _told(found: Comparison) -> dict[str, Any]:
    front = report.front(found)
    return {
        "notes": front["notes"],
        "line": front["prompts"][0],
        "prompt": next(iter(report.details(found))),
    }
