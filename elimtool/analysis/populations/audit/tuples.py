"""List the outcome of each record at the end, from which differences are made."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

from elimtool.analysis.populations.audit.outcomes import Outcome
from elimtool.analysis.populations.audit.sentences import PREFIX
from elimtool.analysis.populations.records import NEUTRAL, Population
from elimtool.files.rows import Rows

AT_THE_END = ("lens.logit", "lens.logprob", "survival.target_logprob", "log10_rank", "survives")


def of_targets(population: Population) -> bool:
    """Return whether groups are strings to predict: records of one tuple ask for different targets."""
    asked: dict[str, set[tuple[str, ...]]] = {}
    for one in population.records:
        if one.tuple is not None and one.role != NEUTRAL:
            asked.setdefault(one.tuple, set()).add(tuple(one.row["targets"] or ()))
    return any(len(some) > 1 for some in asked.values())


def tuple_rows(outcome: Outcome, population: Population, flags: Mapping[str, tuple[str, ...]]) -> Rows:
    """Make the rows of ``audit_tuples`` of one outcome; none for outcomes of single layers and stages.

    Args:
        outcome: The outcome.
        population: The records.
        flags: What to mind of each tuple.
    """
    known = outcome.metric in AT_THE_END or outcome.metric.startswith(PREFIX)
    if not known or outcome.normalised:
        return []
    values = outcome.values[:, -1] if outcome.layers else outcome.values
    rows: Rows = []
    for one, value in zip(population.records, values.tolist(), strict=True):
        if one.tuple is None or one.group is None or one.role == NEUTRAL:
            continue
        of_record = {
            name: getattr(one, name) for name in ("template", "tuple", "filler", "category", "group")
        }
        of_outcome = {name: getattr(outcome, name) for name in ("target", "foil", "metric", "chain")}
        number = value if isfinite(value) else None
        mind = list(flags.get(one.tuple, ()))
        rows.append({**of_record, "prompt_id": one.prompt_id, **of_outcome, "value": number, "flags": mind})
    return rows
