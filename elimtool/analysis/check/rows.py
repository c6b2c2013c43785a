"""Choose the rows of a run that a check reads."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from elimtool.analysis.check.metrics import SELECTORS, CheckMetric
from elimtool.analysis.check.spec import Check
from elimtool.errors import ElimError, nearest
from elimtool.files.rows import Row, Rows
from elimtool.prompts.component import component_in_tables
from elimtool.prompts.position import check_position
from elimtool.run.tables.findings import COMMAND_OF

if TYPE_CHECKING:
    from elimtool.run import Run


REDUCED_BY = ("stage_index", "place", "token", "logprob", "concept", "answer", "arrangement", "k")
"""Columns that a metric's own reduction reads."""


class RunTables:
    """The tables of a run, each read once and shared by all checks."""

    def __init__(self, run: Run) -> None:
        self.run = run.under(run.interventions)
        self._tables: dict[str, pa.Table] = {}

    @cached_property
    def prompts(self) -> dict[str, Row]:
        """Rows of the table ``prompts`` by id; none of what was found in several runs."""
        if "prompts" not in self.run.tables:
            return {}
        names = ["prompt_id", "status", "error_message", "text", "targets", "foils", "spellings", "spans"]
        names += ["group", "category", "tags"]
        return {row["prompt_id"]: row for row in self.run.arrow("prompts").select(names).to_pylist()}

    def table(self, name: str) -> pa.Table:
        """Read a table; one with positions gets the column ``last``: whether it is the prompt's last one.

        Raises:
            ElimError: The run has no such table.
        """
        if name not in self._tables:
            if name not in self.run.tables and name not in COMMAND_OF:
                there = ", ".join((*self.run.tables, *self.run.findings))
                raise ElimError(
                    f"{self.run.path or 'this run'} has no table '{name}'",
                    f"make it with that table; it has: {there}",
                )
            self._tables[name] = _with_last(self.run.arrow(name))
        return self._tables[name]


def _with_last(table: pa.Table) -> pa.Table:
    if "position" not in table.column_names:
        return table
    codes = table.column("prompt_id").combine_chunks().dictionary_encode().indices.to_numpy()
    position = table.column("position").to_numpy()
    last = np.full(int(codes.max(initial=-1)) + 1, -1)
    np.maximum.at(last, codes, position)
    return table.append_column("last", pa.array(position == last[codes]))


def chosen_rows(source: RunTables, check: Check, metric: CheckMetric, position: Any) -> Rows:
    """Read the rows that the check's selectors leave, with the metric as ``value``.

    Args:
        source: The run.
        check: The check.
        metric: Its metric.
        position: ``last``, ``all``, an index or a list of them.

    Raises:
        ElimError: The run lacks the table, a chain, a stage, a layer or the position.
    """
    table = source.table(metric.table)
    names = set(table.column_names)
    for column in ("target", "foil"):
        if (asked := getattr(check, column)) is not None:
            named = {name for row in source.prompts.values() for name in names_of(row, asked)}
            table = table.filter(pc.field(column).isin(pa.array(sorted(named), pa.string())))
    if check.target is None and "is_foil" in names:
        table = table.filter(pc.invert(pc.field("is_foil")))
    if check.generate is not None:
        table = table.filter((pc.field("generate") == check.generate) & (pc.field("seed") < check.seeds))
    if check.text is not None:
        table = table.filter(pc.field("text") == check.text)
    for column in ("chain", "stage", "span", "head", "component"):
        if (wanted := getattr(check, column)) is not None:
            wanted = component_in_tables(wanted) if column == "component" else wanted
            table = _where(table, column, wanted, source.table(metric.table), check)
    table = _with_values(table, check)
    if "layer" in names:
        table = _layers(table, check, metric)
    if "position" in names:
        table = _at_position(table, position, check)
    extra = [name for name in REDUCED_BY if name in names and metric.reduction]
    kept = ["prompt_id", *(name for name in (*SELECTORS, *check.rows) if name in names), *extra]
    kept = list(dict.fromkeys(kept))
    values = table.select([name for name in kept if name != metric.column])
    found: Rows = values.append_column("value", table.column(metric.column)).to_pylist()
    return found


def _with_values(table: pa.Table, check: Check) -> pa.Table:
    for column, value in check.rows.items():
        fits = [one == value for one in table.column(column).to_pylist()]  # null is a value here
        table = table.filter(pa.array(fits, pa.bool_()))
    return table


def analysed_rows(source: RunTables, check: Check, metric: CheckMetric) -> Rows:
    """Read the rows of an analysis that a check chooses, with the metric as ``value``.

    Args:
        source: The run.
        check: The check.
        metric: Its metric, a column of a table of findings.

    Raises:
        ElimError: The run was not analysed so.
    """
    whole = source.table(metric.table)
    wanted = {name: getattr(check, name) for name in ("target", "foil", "chain", "stage", "span")}
    wanted = {name: one for name, one in wanted.items() if one is not None} | check.rows
    texts = {name for name in metric.names if whole.schema.field(name).type == pa.string()}
    kept: Rows = []
    for row in whole.to_pylist():
        if all(row[name] == one for name, one in wanted.items()):
            told = {name: row[name] for name in row if name in texts or name == "layer"}
            kept.append({**told, "value": row[metric.column]})
    if check.layers is None or check.layers == "all" or not kept:
        return kept
    layers = (max(row["layer"] for row in kept),) if check.layers == "last" else check.layers
    return [row for row in kept if row["layer"] in layers]


def names_of(prompt: Row, wanted: str) -> list[str]:
    """List the targets and foils of a prompt that a selector may mean, the nearest first.

    That is the one asked for so, then those scored so, then, where there is neither, those with a space
    before it. Of a prompt without any, whose tokens the model chose: the token of that text, or with a space.

    Args:
        prompt: Row of the table ``prompts``.
        wanted: The string of the selector.
    """
    asked = [*(prompt["targets"] or ()), *(prompt["foils"] or ())]
    scored = prompt["spellings"] or asked
    if not asked:
        return [wanted, f" {wanted}"]
    both = list(zip(asked, scored, strict=True))
    found = [name for name, _ in both if name == wanted]
    found += [name for name, spelling in both if spelling == wanted and name not in found]
    return found or [name for name, spelling in both if f" {wanted}" in (name, spelling)]


def _where(table: pa.Table, column: str, wanted: Any, whole: pa.Table, check: Check) -> pa.Table:
    kept = table.filter(pc.field(column) == wanted)
    if not kept.num_rows and column in ("chain", "stage", "head", "component"):
        known = [str(one) for one in pc.unique(whole.column(column)).to_pylist() if one is not None]
        if str(wanted) not in known:
            raise ElimError(
                f"check '{check.id}': the run has no {column} '{wanted}'", nearest(str(wanted), known[:20])
            )
    return kept


def _layers(table: pa.Table, check: Check, metric: CheckMetric) -> pa.Table:
    wanted = check.layers or ("last" if metric.reduction == "last_layer" else "all")
    if wanted == "all" or not table.num_rows:
        return table
    bounds = pc.min_max(table.column("layer")).as_py()
    if wanted == "last":
        return table.filter(pc.field("layer") == bounds["max"])
    if outside := [layer for layer in wanted if not bounds["min"] <= layer <= bounds["max"]]:
        raise ElimError(
            f"check '{check.id}': there is no layer {outside[0]}",
            f"{metric.table} has layers {bounds['min']} to {bounds['max']}",
        )
    return table.filter(pc.field("layer").isin(list(wanted)))


def _at_position(table: pa.Table, position: Any, check: Check) -> pa.Table:
    if position == "all":
        return table
    if position == "last":
        return table.filter(pc.field("last"))
    wanted = [index for first, last in check_position(position).ranges for index in range(first, last + 1)]
    probed = set(pc.unique(table.column("position")).to_pylist())
    if probed and (missing := [index for index in wanted if index not in probed]):
        raise ElimError(
            f"check '{check.id}': the run did not probe position {missing[0]}", "run it with `position='all'`"
        )
    return table.filter(pc.field("position").isin(wanted))
