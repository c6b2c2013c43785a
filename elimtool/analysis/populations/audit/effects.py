"""Estimate and test the difference of each outcome between two groups, layer by layer and stage by stage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from elimtool.analysis.populations.audit.outcomes import (
    CATEGORIES,
    CONFIRMATORY,
    LAYERS,
    RAW_LENS,
    Outcome,
)
from elimtool.analysis.populations.pairs import Pairs
from elimtool.analysis.statistics.crossed import Grid, GroupDifference, group_difference
from elimtool.analysis.statistics.families import benjamini_hochberg, holm
from elimtool.files.rows import Row, Rows

Grids = list[tuple[Grid, int] | None]
"""Grid of each layer of an outcome, or of the one value that it has, and its number of pairs."""


def grids(outcome: Outcome, pairs: Pairs) -> Grids:
    """Put an outcome into grids of templates and words; ``None`` where nothing was measurable.

    Layers share their pairs: those that have a value in every layer that has any.
    """
    a, b = pairs.sides(outcome.values)
    if not outcome.layers:
        return [pairs.grid(a, b)]
    known: npt.NDArray[np.bool_] = np.isfinite(a) & np.isfinite(b)
    some = [bool(one.any()) for one in known.T]
    part = pairs.kept([bool(one.all()) for one in known[:, some]])
    a, b = part.sides(outcome.values)
    return [part.grid(a[:, at], b[:, at]) if there else None for at, there in enumerate(some)]


def effects(outcome: Outcome, made: Grids, pairs: Pairs, category: str | None, seed: int) -> Rows:
    """Make the rows of one outcome, pair of groups and category."""
    rows = []
    for at, one in enumerate(made):
        if one is None:
            continue
        grid, n_tuples = one
        layer = outcome.layers[at] if outcome.layers else None
        last = layer is not None and at == len(made) - 1
        found = group_difference(grid, seed, yes_no=outcome.yes_no)
        flags = {*outcome.flags, *_bounds(outcome, found)}
        rows.append(
            {
                **_named(outcome, pairs, category),
                "family": _family(outcome, category, last),
                "layer": layer,
                **_numbers(found),
                "n_tuples": n_tuples,
                "n_dropped": grid.dropped,
                "flags": sorted(flags - {RAW_LENS} if last else flags),
            }
        )
    return rows


def adjusted(rows: Rows, others: Sequence[float]) -> list[float]:
    """Adjust the p-values of all rows, family by family.

    Args:
        rows: Rows of ``audit_effects``; they get ``p_adjusted`` and ``adjust``.
        others: p-values of the cluster tests, which are confirmatory too.

    Returns:
        These, adjusted.
    """
    families: dict[str, Rows] = {}
    for row in rows:
        row |= {"p_adjusted": None, "adjust": None}
        if row["p_value"] is not None:
            families.setdefault(row["family"], []).append(row)
    found: list[float] = [*others]
    for name, own in {CONFIRMATORY: [], **families}.items():
        p_values = [row["p_value"] for row in own]
        confirmatory = name == CONFIRMATORY
        adjust = holm if confirmatory else benjamini_hochberg
        tested = adjust(np.array([*p_values, *(others if confirmatory else ())], dtype=np.float64)).tolist()
        for row, value in zip(own, tested, strict=False):
            row |= {"p_adjusted": value, "adjust": "holm" if confirmatory else "bh"}
        if confirmatory:
            found = tested[len(own) :]
    return found


def categories(pairs: Pairs) -> list[str]:
    """List the categories and those above them that hold two templates or more, but not all."""
    templates: dict[str, set[str]] = {}
    for template, category in zip(pairs.templates, pairs.categories, strict=True):
        parts = (category or "").split("/")
        for count in range(1, len(parts) + 1):
            templates.setdefault("/".join(parts[:count]), set()).add(template)
    total = len(set(pairs.templates))
    return sorted(name for name, own in templates.items() if name and 2 <= len(own) < total)


def _named(outcome: Outcome, pairs: Pairs, category: str | None) -> Row:
    names = ("metric", "unit", "chain", "stage", "span", "target", "foil", "normalised")
    own = {name: getattr(outcome, name) for name in names}
    return {**own, "category": category, "group_a": pairs.a, "group_b": pairs.b}


def _family(outcome: Outcome, category: str | None, last: bool) -> str:
    """Name the family: the contrast at the end is confirmatory, of single layers it is not."""
    if category is not None:
        return CATEGORIES
    return (
        CONFIRMATORY
        if last and outcome.family == LAYERS and outcome.metric != "attention.lift_no_sink"
        else outcome.family
    )


def _numbers(found: GroupDifference) -> dict[str, Any]:
    return {
        "scope": found.scope,
        "n_templates": found.n_templates,
        "n_fillers": found.n_fillers,
        "mean_a": found.mean_a,
        "mean_b": found.mean_b,
        "difference": found.difference,
        "ci_low": found.ci_low,
        "ci_high": found.ci_high,
        "ci_method": found.ci_method,
        "d_z": found.d_z,
        "dominance": found.dominance,
        "cliffs_delta": found.cliffs_delta,
        "p_templates": found.p_templates,
        "p_fillers": found.p_fillers,
        "p_value": found.p_value,
        "detectable": found.detectable,
    }


def _bounds(outcome: Outcome, found: GroupDifference) -> Iterable[str]:
    """Say where the scale leaves no room for a difference."""
    means = found.mean_a, found.mean_b
    if outcome.metric == "survives" and means in ((0.0, 0.0), (1.0, 1.0)):
        yield "ceiling" if means[0] else "floor"
    if outcome.metric == "log10_rank" and min(means) > 3:
        yield "floor"
