"""Sweep a run: scores of variants, main effects of factors, and how much of the spread is chance."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from elimtool.analysis.populations.sweep.grid import RUN, TEMPLATE, SweepGrid, Variant, grid_of
from elimtool.analysis.populations.sweep.search import FoundEnds
from elimtool.analysis.populations.sweep.stability import stability_rows
from elimtool.analysis.statistics.base import Values
from elimtool.analysis.statistics.factors import main_effects, spread_of
from elimtool.analysis.statistics.paired import mean_differences
from elimtool.analysis.statistics.proportions import t_interval, wilson
from elimtool.errors import ElimError, Exit, checked_fields
from elimtool.files.rows import Row, Rows
from elimtool.run.analysis import Analysis
from elimtool.run.reader import Run, as_run
from elimtool.run.several import in_common
from elimtool.run.tables.findings import FINDINGS

TABLES = ("survival", "sampling", "sampling_targets")
"""Tables of a run that a sweep reads."""


@checked_fields
@dataclass(frozen=True, slots=True)
class SweepOptions:
    """What is scored.

    Attributes:
        outcome: ``survives``, ``logprob``, ``rank`` or ``margin:STAGE``.
        chain: Sampler chain; ``None`` for the first of the run.
    """

    outcome: str = "survives"
    chain: str | None = None


def sweep(
    runs: Run | str | Path | Mapping[str, Run], options: SweepOptions = SweepOptions(), seed: int = 0
) -> Analysis:
    """Compare variants of prompts on the same items.

    Args:
        runs: A run of a suite whose templates have a slot ``item``, or its directory; or several runs by
            name, and the run is a factor.
        options: What is scored.
        seed: Seed of intervals and p-values.

    Returns:
        The tables ``sweep_variants``, ``sweep_effects``, ``sweep_spread`` and ``stability``. Where there is
        nothing to score but concepts were followed over edits, seeds or runs, ``stability`` alone has rows.

    Raises:
        ElimError: An option is unknown, or there are not two variants of two items (exit code 5).
    """
    runs = runs if isinstance(runs, Mapping) else {str(runs): as_run(runs)}
    try:
        grid = grid_of(runs, options.outcome, options.chain)
    except ElimError as error:
        stable = stability_rows(runs) if error.exit_code == Exit.NOTHING else []
        if not stable:
            raise
        notes = [f"Nothing is scored: {error.message}."]
        return _analysis(runs, {"stability": stable}, asdict(options), seed, notes)
    found = {
        "sweep_variants": variant_rows(grid, seed),
        "sweep_effects": effect_rows(grid, seed),
        "sweep_spread": [spread_row(grid, seed)],
        "stability": stability_rows(runs),
    }
    return _analysis(runs, found, asdict(options), seed, grid.notes)


def searched_sweep(
    run: Run, grid: SweepGrid, found: FoundEnds, kind: str, budget: int, options: SweepOptions, seed: int
) -> Analysis:
    """Make the analysis of a search: variants on the items that they were scored on, and the two ends.

    Args:
        run: The run of what was scored.
        grid: Outcomes, NaN where none was asked for.
        found: What the search found.
        kind: Its name.
        budget: Outcomes that it might ask for.
        options: What was scored.
        seed: Seed of the search, of intervals and p-values.
    """
    spread = {
        "n_variants": len(grid.variants),
        "n_items": len(grid.items),
        "spread": found.spread,
        **dict.fromkeys(("spread_null", "spread_null_95", "p_value")),
        "spread_holdout": found.holdout,
        "search": kind,
        "n_calls": found.n_calls,
        **_common(grid),
    }
    asked = {**asdict(options), "search": kind, "budget": budget}
    seen = [index for index, one in enumerate(grid.values) if not np.isnan(one).all()]
    notes = [*grid.notes, "Most variants were scored on some of the items: effects of factors are not known."]
    if unseen := len(grid.variants) - len(seen):
        notes.append(f"{unseen:,} variants were not scored at all.")
    variants = tuple(grid.variants[index] for index in seen)
    grid = replace(grid, values=grid.values[seen], variants=variants, notes=tuple(notes))
    ends = seen.index(found.best), seen.index(found.worst)
    runs = {"run": run}
    tables = {
        "sweep_variants": variant_rows(grid, seed, ends),
        "sweep_spread": [spread],
        "stability": stability_rows(runs),
    }
    return _analysis(runs, tables, asked, seed, grid.notes)


def _analysis(
    runs: Mapping[str, Run],
    found: Mapping[str, Rows],
    asked: Mapping[str, object],
    seed: int,
    notes: Sequence[str],
) -> Analysis:
    tables = {name: table.from_rows(found.get(name, [])) for name, table in FINDINGS["sweep"].items()}
    several = len(runs) > 1
    if several:
        asked = {**asked, "runs": {name: run.manifest.fingerprint for name, run in runs.items()}}
    of = in_common([run.manifest for run in runs.values()])
    return Analysis.of("sweep", of, tables, asked, seed, notes, several)


def variant_rows(grid: SweepGrid, seed: int, ends: tuple[int, int] | None = None) -> Rows:
    """Make the rows of ``sweep_variants``, the best first.

    Args:
        grid: The outcomes.
        seed: Seed of the intervals.
        ends: Index of the best and of the worst variant, as a search found them; ``None`` for those of all.
    """
    means = np.nanmean(grid.values, axis=1)
    order = np.lexsort(([one.name for one in grid.variants], -grid.best * means))
    if ends is not None:
        order = np.array([ends[0], *(one for one in order if one not in ends), ends[1]])
    places = {one: place for place, one in enumerate(order, 1)}
    best = grid.values[order[0]]
    first = np.repeat(best[:, None], len(means), 1) if grid.yes_no else np.full(grid.values.T.shape, np.nan)
    paired = mean_differences((grid.values - best).T, seed, first)
    rows = []
    for index in order:
        told, variant = paired[index], grid.variants[index]
        tied = told.ci_low is None or told.ci_high is None or told.ci_low <= 0 <= told.ci_high
        scored = grid.values[index][~np.isnan(grid.values[index])]
        low, high = _interval(scored, grid.yes_no)
        better = int((grid.best * means > grid.best * means[index] + 1e-12).sum())
        rows.append(
            {
                "variant": variant.name,
                "template": variant.template,
                "factors": json.dumps(dict(variant.factors), ensure_ascii=False),
                "n_items": len(scored),
                "value": float(means[index]),
                "ci_low": low,
                "ci_high": high,
                "place": 1 + better if ends is None else places[index],
                "tied_with_best": tied,
                **_common(grid),
            }
        )
    return rows


def _interval(values: Values, yes_no: bool) -> tuple[float | None, float | None]:
    if len(values) < 2:
        return None, None
    if yes_no and np.isin(values, (0, 1)).all():
        return wilson(float(values.sum()), len(values))
    return t_interval(values)


def effect_rows(grid: SweepGrid, seed: int) -> Rows:
    """Make the rows of ``sweep_effects``: those of a factor are of the variants that have it."""
    rows = []
    for factor in factors_of(grid):
        levels = [_level(variant, factor) for variant in grid.variants]
        having = [index for index, level in enumerate(levels) if level is not None]
        named = [level for level in levels if level is not None]
        if len(set(named)) < 2:
            continue
        for one in main_effects(grid.values[having], named, seed, grid.best):
            own = {name: value for name, value in asdict(one).items()}
            rows.append({"factor": factor, "n_items": len(grid.items), **own, **_common(grid)})
    return rows


def factors_of(grid: SweepGrid) -> tuple[str, ...]:
    """Name the factors: template, slots, run."""
    slots = dict.fromkeys(name for variant in grid.variants for name, _ in variant.factors if name != RUN)
    several = any(name == RUN for variant in grid.variants for name, _ in variant.factors)
    return (TEMPLATE, *slots, *((RUN,) if several else ()))


def _level(variant: Variant, factor: str) -> str | None:
    return variant.template or None if factor == TEMPLATE else dict(variant.factors).get(factor)


def spread_row(grid: SweepGrid, seed: int) -> Row:
    """Make the row of ``sweep_spread``."""
    found = spread_of(grid.values, seed)
    return {
        "n_variants": len(grid.variants),
        "n_items": len(grid.items),
        "spread": found.spread,
        "spread_null": found.null,
        "spread_null_95": found.null_95,
        "p_value": found.p_value,
        "spread_holdout": found.holdout,
        "search": "full",
        "n_calls": grid.n_calls,
        **_common(grid),
    }


def _common(grid: SweepGrid) -> Row:
    return {"metric": grid.metric, "chain": grid.chain}
