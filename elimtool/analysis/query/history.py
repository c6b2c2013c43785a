"""Follow one number over many runs: control limits from the first ones, and the change to the run before.

Limits: the first m runs (20, at least 8) have mean c and standard deviation s; a later one of the same kind
is within c +- t(0.99865, m - 1) s sqrt(1 + 1/m) in 99.73 % of cases. They are at least 10 times ``floor``
wide to each side, as reruns may be equal to the bit. The paired change to the run before is the stronger
test.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from elimtool.analysis.check.metrics import CheckMetric, find
from elimtool.analysis.check.rows import RunTables
from elimtool.analysis.check.select_prompts import chosen_prompts
from elimtool.analysis.check.spec import Check
from elimtool.analysis.check.values import read
from elimtool.analysis.statistics.base import t_quantile
from elimtool.analysis.statistics.families import holm
from elimtool.analysis.statistics.paired import paired_difference
from elimtool.analysis.statistics.proportions import t_interval
from elimtool.analysis.statistics.trend import trend
from elimtool.errors import ElimError, Exit, nearest
from elimtool.files.rows import Row, Rows
from elimtool.run import Run
from elimtool.run.columns import Table
from elimtool.run.tables.history import HISTORY

Numbers = npt.NDArray[np.float64]

LEAST, MOST = 8, 20
"""Runs that control limits are made of."""
UNITS = 6
"""Fewest prompts that a change is tested over."""
ORDERS = ("started", "revision", "label")
QUANTILE = 0.99865
"""Of Student's t: both sides leave 0.27 %, as three standard deviations of a normal distribution do."""


@dataclass(frozen=True, slots=True)
class MetricQuery:
    """What is followed.

    Attributes:
        metric: A short name of a check (``final_logprob``) or ``table.column``.
        target: Target to read; ``None`` for the mean over all.
        chain: Sampler chain, likewise.
        span: Span, likewise.
        layers: Layers such as ``12`` or ``10-20``, likewise.
        agg: How the values of one prompt are reduced to one.
        over: What orders the runs: ``started``, ``revision`` or ``label``, by the numbers in their names.
        each: Whether every prompt is a series of its own.
        floor: Differences as large as this are rounding, in the metric's unit; ``None`` for a millionth of
            the centre, at least 1e-6.
    """

    metric: str
    target: str | None = None
    chain: str | None = None
    span: str | None = None
    layers: str | None = None
    agg: str = "mean"
    over: str = "started"
    each: bool = False
    floor: float | None = None


@dataclass(frozen=True, slots=True)
class MetricHistory:
    """A metric over runs.

    Attributes:
        asked: What was followed.
        unit: Unit of the values.
        rows: Rows of table ``history``.
        notes: What was left out, a sentence each.
        limited_by: Number of runs that the limits are made of; 0 without limits.
        yes_no: Whether the metric is yes or no.
    """

    asked: MetricQuery
    unit: str
    rows: Rows
    notes: tuple[str, ...] = ()
    limited_by: int = 0
    yes_no: bool = False

    def trend(self, rows: Rows) -> tuple[float, float] | None:
        """Return Spearman's correlation of a series with the order of revisions, and its p-value."""
        ordered = self.asked.over == "revision"
        return trend(np.array([row["value"] for row in rows])) if ordered else None

    def lasting(self, rows: Rows) -> Row | None:
        """Find the revision from which on a yes-or-no metric holds for good, for every prompt of a series."""
        failed = [index for index, row in enumerate(rows) if row["value"] < 1]
        kept = rows[failed[-1] + 1 :] if failed else rows
        return kept[0] if self.asked.over == "revision" and self.yes_no and kept else None

    @property
    def series(self) -> list[Rows]:
        """The rows of each series: one, or one for each prompt."""
        return [list(rows) for _, rows in groupby(self.rows, key=lambda row: row["prompt_id"])]

    @property
    def table(self) -> Any:
        """The rows as a ``pyarrow.Table``."""
        return HISTORY.from_rows(self.rows)


def follow(runs: Mapping[str, Run], asked: MetricQuery) -> MetricHistory:
    """Follow a metric over runs.

    Args:
        runs: Runs by name.
        asked: What to follow.

    Raises:
        ElimError: The metric is unknown or no number; no run has it; or the runs share no prompt (exit code
            5).
    """
    metric = find(asked.metric, lambda table: _carried(table, runs))
    if metric.kind not in ("integer", "number", "boolean"):
        raise ElimError(f"`metric` '{asked.metric}' is not a number", "name a number, such as final_logprob")
    if asked.over not in ORDERS:
        raise ElimError(f"`over` '{asked.over}' is not valid", nearest(asked.over, ORDERS))
    check = _check(asked)
    values: dict[str, dict[str, float]] = {}
    notes = []
    for name, run in _ordered(runs, asked.over):
        try:
            values[name] = _values(run, check, metric)
        except ElimError as error:
            notes.append(f"{name} is left out: {error.message.replace('check ', '', 1)}")
    if not any(values.values()):
        raise ElimError(f"no run has {asked.metric}", "; ".join(notes[:1]), Exit.NOTHING)
    common = _common(values)
    if not common:
        raise ElimError(
            f"no prompt has {asked.metric} in all {len(values):,} runs",
            "follow runs of the same prompts, with the same ids",
            Exit.NOTHING,
        )
    left = len({prompt for one in values.values() for prompt in one}) - len(common)
    if left:
        notes.append(f"{left:,} prompts are left out: they have no number in some run.")
    grid = np.array([[values[name][prompt] for prompt in common] for name in values])
    facts = [_facts(asked.metric, order, name, runs[name]) for order, name in enumerate(values)]
    parts = [([prompt], grid[:, [i]]) for i, prompt in enumerate(common)] if asked.each else [(None, grid)]
    yes_no = metric.kind == "boolean"
    rows = [row for named, part in parts for row in _series(facts, named, part, asked.floor, yes_no)]
    return MetricHistory(asked, metric.unit, rows, tuple(notes), _limit_count(len(values)), yes_no)


def _carried(table: str, runs: Mapping[str, Run]) -> Table | None:
    """What a plugin's table means, by the first run that has it."""
    return next((run.definition(table) for run in runs.values() if table in run.tables), None)


def _check(asked: MetricQuery) -> Check:
    from pydantic import ValidationError

    given = {key: getattr(asked, key) for key in ("target", "chain", "span", "layers")}
    given = {key: value for key, value in given.items() if value is not None}
    try:
        return Check(id=asked.metric, metric=asked.metric, agg=asked.agg, **given)
    except ValidationError as error:
        first = error.errors()[0]
        raise ElimError(f"`{first['loc'][-1]}`: {first['msg'].removeprefix('Value error, ')}") from error


def _values(run: Run, check: Check, metric: CheckMetric) -> dict[str, float]:
    """Read the number of each prompt that has one."""
    source = RunTables(run)
    found = read(source, check, metric, chosen_prompts(check, source.prompts), "last")
    return {str(one.prompt): float(one.value) for one in found if isinstance(one.value, int | float)}


def _common(values: Mapping[str, Mapping[str, float]]) -> list[str]:
    """List the prompts that all runs have, in the order of the first."""
    first, *rest = values.values()
    return [prompt for prompt in first if all(prompt in one for one in rest)]


def _ordered(runs: Mapping[str, Run], over: str) -> list[tuple[str, Run]]:
    if over == "started":
        return sorted(runs.items(), key=lambda one: (one[1].manifest.started or "", one[0]))
    named = {name: getattr(run.manifest, over) for name, run in runs.items()}
    if over == "revision":  # a commit has no order, the name that was asked for may have
        named = {name: run.manifest.revision_name or named[name] for name, run in runs.items()}
    if lacking := [name for name, value in named.items() if value is None]:
        raise ElimError(f"`over` {over}: {lacking[0]} has no {over}", "order them by `over` started")
    return sorted(runs.items(), key=lambda one: natural(str(named[one[0]])))


def natural(text: str) -> list[tuple[int, str]]:
    """Sort numbers in a name by size: step400 before step1000."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]


def _facts(metric: str, order: int, name: str, run: Run) -> Row:
    manifest = run.manifest
    revision = manifest.revision_name or manifest.revision
    facts = {"label": manifest.label, "revision": revision, "started": manifest.started}
    return {"metric": metric, "order": order, "run": name, **facts}


def _limit_count(count: int) -> int:
    """Number of runs that limits are made of: the first 20, or all but the last; 0 for fewer than 8."""
    made_of = min(MOST, count - 1)
    return made_of if made_of >= LEAST else 0


def _series(
    facts: Sequence[Row], named: Sequence[str] | None, grid: Numbers, floor: float | None, yes_no: bool
) -> Rows:
    """Make the rows of one series from its values, [runs, prompts]."""
    points = grid.mean(1)
    floor = max(1e-6, 1e-6 * abs(float(points[0]))) if floor is None else floor
    centre, half, made_of = limits(points, floor)
    rows: Rows = []
    for order, fact in enumerate(facts):
        row = {"prompt_id": named[0] if named else None, "n_prompts": grid.shape[1], **fact}
        row |= {"value": float(points[order]), "ci_low": None, "ci_high": None, **_NOTHING}
        if grid.shape[1] > 1:
            row["ci_low"], row["ci_high"] = t_interval(grid[order])
            if order:
                told = paired_difference(grid[order - 1], grid[order], yes_no=yes_no)
                row |= {"change": told.mean_difference, "change_low": told.ci_low}
                row |= {"change_high": told.ci_high}
                row["p_adjusted"] = _paired_p(grid[order] - grid[order - 1])
        if made_of:
            row |= {"centre": centre, "low": centre - half, "high": centre + half}
            row["beyond"] = bool(abs(points[order] - centre) > half) if order >= made_of else None
        rows.append(row)
    return _adjusted(rows, floor)


def _paired_p(differences: Numbers) -> float | None:
    """Test a mean difference of prompts against 0 by Student's t; ``None`` for fewer than 6 prompts.

    Sign flips of a few prompts cannot be small enough for a correction over many runs.
    """
    from scipy.special import stdtr

    count = len(differences)
    if count < UNITS:
        return None
    mean, error = float(differences.mean()), float(differences.std(ddof=1)) / count**0.5
    if error <= 1e-12 * abs(mean):
        return 1.0 if mean == 0 else 0.0
    return float(2 * stdtr(count - 1, -abs(mean / error)))


_NOTHING = dict.fromkeys(
    ("change", "change_low", "change_high", "p_adjusted", "changed", "centre", "low", "high", "beyond")
)


def limits(points: Numbers, floor: float) -> tuple[float, float, int]:
    """Make control limits of the first values of a series.

    Args:
        points: Values of the series, in order.
        floor: Differences as large as this are rounding.

    Returns:
        Centre, distance of the limits from it, and how many values made them: 0 for too few.
    """
    made_of = _limit_count(len(points))
    if not made_of:
        return 0.0, 0.0, 0
    first = points[:made_of]
    spread = t_quantile(QUANTILE, made_of - 1) * float(first.std(ddof=1)) * (1 + 1 / made_of) ** 0.5
    return float(first.mean()), max(spread, 10 * floor), made_of


def _adjusted(rows: Rows, floor: float) -> Rows:
    """Adjust the p-values over the series, and mark its change points."""
    tested = [row for row in rows if row["p_adjusted"] is not None]
    if not tested:
        return rows
    for row, value in zip(tested, holm(np.array([row["p_adjusted"] for row in tested])), strict=True):
        row["p_adjusted"] = float(value)
        row["changed"] = bool(value <= 0.05 and abs(row["change"]) > 10 * floor)
    return rows
