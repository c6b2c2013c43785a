"""Test by knockout what a part of the prompt wrote: cut its strongest edge, and one at random tokens beside.

The edge is that of the last query to the part in the layer of the head that wrote most from it. The control
is the same edge to as many random tokens.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from elimtool.engine.defects import Failed, costs_only
from elimtool.engine.scoring import log_probabilities
from elimtool.files.rows import Row, Rows
from elimtool.model.interventions import Knockout
from elimtool.model.interventions.install import Plan
from elimtool.model.lock import exclusive
from elimtool.model.view import Encoded, Span
from elimtool.prompts.prompt import REST, SINK

if TYPE_CHECKING:
    from elimtool.model.model import Model
    from elimtool.run import Run

EDGE, CONTROL = "<edge>", "<control>"
"""Names of the tokens that are cut; no span of a user has such a name."""


@exclusive
def confirm_edges(
    model: Model,
    run: Run,
    encoded: Sequence[Encoded],
    seed: int,
    failed: Failed | None = None,
) -> Rows:
    """Cut the strongest edge for each target of the plain pass; return the rows of ``source_spans`` with it.

    Args:
        model: The model, without interventions.
        run: A run with ``source_spans`` and ``survival``.
        encoded: The prompts of the run that could be used.
        seed: Seed for drawing the controls.
        failed: Called for a prompt whose test fails, whose rows stay untested; without, the error is raised.
    """
    rows: Rows = run.arrow("source_spans").to_pylist()
    survival = run.under(None).arrow("survival").to_pylist()
    tokens = {(row["prompt_id"], row["position"], row["target"]): row["token_id"] for row in survival}
    for one in encoded:
        own = [row for row in rows if row["prompt_id"] == one.prompt_id and row["intervention"] is None]
        with costs_only(one, failed):
            for position in one.positions:
                _test(model, one, position, [row for row in own if row["position"] == position], tokens, seed)
    return rows


def _test(
    model: Model,
    one: Encoded,
    position: int,
    rows: Rows,
    tokens: dict[tuple[str, int, str], int],
    seed: int,
) -> None:
    """Fill in the rows of one position: every target's edge and its control in one pass."""
    prompts: list[Encoded] = [replace(one, positions=(position,))]
    plans: list[Plan] = [()]
    tested: list[Row] = []
    for target in dict.fromkeys(row["target"] for row in rows):
        edge = named_edge([row for row in rows if row["target"] == target], one, position)
        if edge is None:
            continue
        row, keys = edge
        tested.append(row)
        for name, cut in ((EDGE, keys), (CONTROL, control_of(one, position, keys, seed))):
            prompts.append(replace(prompts[0], spans=(*one.spans, Span(name, cut))))
            plans.append((Knockout(name, (row["top_layer"], row["top_layer"])),) if cut else ())
    if not tested:
        return
    ids = [tokens[one.prompt_id, position, row["target"]] for row in tested]
    found = log_probabilities(model, prompts, plans, None, [0] * len(ids), ids)
    changes = (found - found[0]).tolist()
    for index, row in enumerate(tested):
        row["cut_effect"] = changes[1 + 2 * index][index]
        row["cut_control"] = changes[2 + 2 * index][index] if plans[2 + 2 * index] else None


def named_edge(rows: Rows, one: Encoded, position: int) -> tuple[Row, tuple[int, ...]] | None:
    """Find the part that wrote most for a target and can be cut off, and its tokens.

    The query's own token and sinks stay; ``None`` where nothing else wrote for the target.
    """
    spans = {span.name: span.tokens for span in one.spans}
    for row in sorted(rows, key=lambda row: -(row["dla_centred"] or 0.0)):
        keys = tuple(key for key in spans.get(row["span"], ()) if key < position and key not in one.sinks)
        if row["span"] not in (SINK, REST) and keys and (row["dla_centred"] or 0.0) > 0:
            return row, keys
    return None


def control_of(one: Encoded, position: int, keys: Sequence[int], seed: int) -> tuple[int, ...]:
    """Draw as many other tokens that the query sees, sinks apart; none where there are too few."""
    others = [key for key in range(position) if key not in keys and key not in one.sinks]
    if len(others) < len(keys):
        return ()
    return tuple(sorted(random.Random(f"{seed} {one.prompt_id} {keys}").sample(others, len(keys))))
