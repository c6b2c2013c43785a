"""Compare two states of the page by their tables, and their prompts in passes of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa

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


def differences(one: TracedState, other: TracedState) -> dict[str, Any]:
    """Compare what two states measured at their last positions: B minus A, changed models as changed.

    Chains are compared in the order in which they stand, as a slider that moved gives one another name.

    Returns:
        ``line``, ``prompt`` and ``notes``, as for ``compared``.

    Raises:
        ElimError: There is nothing to compare.
    """
    a, b = (_joined(state.run) for state in (one, other))
    chains = [(left.name, right.name) for left, right in zip(one.chains, other.chains, strict=False)]
    changed = bool(a.interventions or b.interventions)
    return _told(_with_alignment(compare_runs(a, b, intervened=changed, chains=chains), a, b))


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
