"""Say what is wrong with the metric of a plugin, and with the tables that it fills."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from elimtool.metrics.metric import Metric
from elimtool.model.view import Batch
from elimtool.run.columns import INTERVENTION, POSITION, PROMPT_ID, Column, Table
from elimtool.run.schema import TABLES
from elimtool.run.tables.findings import FINDING_TABLES

KINDS = frozenset(column.type for table in TABLES.values() for column in table.columns)
"""Types that a column may have."""
ROUNDING = 1e-6
"""How far a number may be outside its range: sums of shares are not exactly 1."""
NEEDS = frozenset({"attention", "block", "context", "typical", "values"})
"""Activations that a metric may ask for."""


def fault(name: str, metric: Any) -> str:
    """Say what is wrong with the metric of a plugin; empty if nothing is."""
    if not isinstance(metric, type) or not issubclass(metric, Metric):
        return f"{metric!r} is not a subclass of elimtool.Metric"
    tables = metric.defines
    if not isinstance(tables, tuple) or not tables or not all(isinstance(one, Table) for one in tables):
        return f"{metric.__name__}.defines must be a tuple of at least one elimtool.Table, got {tables!r}"
    names = [table.name for table in tables]
    if tuple(names) != metric.tables:
        return f"it defines the tables {names}, and says that it fills {list(metric.tables)}"
    if names[0] != name or any(not one.startswith(f"{name}_") for one in names[1:]):
        return f"its first table must be called '{name}', and others '{name}_...', got {names}"
    if unknown := sorted(set(metric.needs) - NEEDS):
        return f"it needs '{unknown[0]}', and there are {', '.join(sorted(NEEDS))}"
    return next((said for table in tables if (said := _wrong_definition(table))), "")


def _wrong_definition(table: Table) -> str:
    where, names = f"table '{table.name}'", table.names
    if table.name in TABLES or table.name in FINDING_TABLES:
        return f"elimtool has a {where} already"
    if not table.name.isidentifier() or len(set(names)) < len(names):
        return f"{where}: its name and those of its columns must be words, each another"
    if wrong := [one for one in table.columns if not _usable(one)]:
        return f"{where}: column {wrong[0].name!r} of type {wrong[0].type} cannot be kept"
    if INTERVENTION.name in names:
        return f"{where}: elimtool adds the column '{INTERVENTION.name}' itself"
    if PROMPT_ID not in table.columns:
        return f"{where} lacks the column elimtool.run.columns.PROMPT_ID"
    if POSITION.name in names and POSITION not in table.columns:
        return f"{where}: its column 'position' must be elimtool.run.columns.POSITION"
    return ""


def _usable(column: Any) -> bool:
    return isinstance(column, Column) and str(column.name).isidentifier() and column.type in KINDS


def wrong_columns(table: Table, columns: Any) -> str:
    """Say how columns differ from a definition, in names or lengths; empty if they do not."""
    if not isinstance(columns, Mapping):
        return f"its columns must be a mapping, got a {type(columns).__name__}"
    given, wanted = set(columns), set(table.names) - {INTERVENTION.name}
    if missing := sorted(wanted - given):
        return f"it gives no column '{missing[0]}'"
    if unknown := sorted(map(str, given - wanted)):
        return f"it gives a column '{unknown[0]}', which its definition does not have"
    lengths = {name: _length(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        return f"its columns are of different lengths: {lengths}"
    return ""


def _length(values: Any) -> int:
    try:
        return len(values)
    except TypeError:
        return -1


def wrong_values(table: Table, filled: pa.Table, batch: Batch) -> str:
    """Say which value breaks the definition of its column, or names what was not measured; empty if none.

    Args:
        table: The definition.
        filled: The table as it was filled.
        batch: What the metric was shown.
    """
    for column in table.columns:
        values = filled.column(column.name)
        if values.null_count and not column.nullable:
            return f"column '{column.name}' holds null, and `null_when` of its definition is empty"
        if said := _outside(column, values):
            return f"column '{column.name}' holds {said}, outside its range {column.range}"
    probed = {one.prompt_id: one.positions for one in batch.encoded}
    if strange := set(pc.unique(filled.column("prompt_id")).to_pylist()) - probed.keys():
        return f"it names a prompt that it was not shown: {min(strange)!r}"
    if "position" in table.names:
        for prompt, position in _pairs(filled):
            if position not in probed[prompt]:
                return f"it names position {position} of prompt {prompt!r}, which was not probed"
    return ""


def _pairs(filled: pa.Table) -> Collection[tuple[str, int]]:
    some = filled.select(["prompt_id", "position"]).group_by(["prompt_id", "position"]).aggregate([])
    return list(zip(*(some.column(name).to_pylist() for name in ("prompt_id", "position")), strict=True))


def _outside(column: Column, values: pa.ChunkedArray) -> Any:
    """The first value outside the range of its column, as far as numbers say it; None without one."""
    low, high = column.bounds
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        return None
    numbers = values.drop_null().to_numpy()
    wrong = numbers[(numbers < low - ROUNDING) | (numbers > high + ROUNDING)]
    return wrong[0].item() if len(wrong) else None
