"""Read some rows and columns of a run's table from disk: what conditions select, and no more."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from elimtool.errors import ElimError, nearest
from elimtool.files.rows import Selected
from elimtool.run import layout
from elimtool.run.reader import Run
from elimtool.run.schema import TABLES
from elimtool.run.tables.findings import FINDING_TABLES

CONDITION = re.compile(r"\s*(\w+)\s*(!=|<=|>=|==|=|<|>)\s*(.*?)\s*", re.DOTALL)
NULL = "null"
TRUTHS = {"true": True, "false": False}


def select_rows(
    run: Run,
    name: str,
    *,
    where: Sequence[str] = (),
    columns: Sequence[str] | None = None,
    limit: int | None = None,
) -> Selected:
    """Select rows of a run's table.

    Args:
        run: From ``open_run``.
        name: Name of the table.
        where: Conditions that all must hold, such as ``outcome=survived`` or ``cut_chain=null``.
        columns: Names of columns in the order wanted; None for all.
        limit: Largest number of rows to read; None for all.

    Raises:
        ElimError: No such table or column, a condition cannot be read, or a part is damaged.
    """
    known = (*run.tables, *run.findings)
    if name not in known:
        raise ElimError(f"{run.path} has no table '{name}'", nearest(name, known))
    data = dataset(run, name)
    for column in columns or ():
        _known(column, data.schema, name)
    conditions = [condition(one, data.schema, name) for one in where]
    chosen = conditions[0] if conditions else None
    for one in conditions[1:]:
        chosen = chosen & one
    try:
        n_rows = data.count_rows()
        n_selected = n_rows if chosen is None else data.count_rows(filter=chosen)
        asked = list(columns) if columns else None
        found = (
            data.to_table(columns=asked, filter=chosen)
            if limit is None
            else data.head(limit, columns=asked, filter=chosen)
        )
    except (OSError, pa.ArrowInvalid) as error:
        raise ElimError(f"table '{name}' of {run.path} cannot be read: {error}", "run it again") from error
    return Selected(found, n_selected, n_rows)


def condition(text: str, schema: pa.Schema, table: str) -> Any:
    """Read a condition on a column into an expression of ``pyarrow.dataset``.

    Raises:
        ElimError: It is not COLUMN=VALUE, the column is unknown, or the value does not fit its type.
    """
    found = CONDITION.fullmatch(text)
    if found is None:
        raise ElimError(
            f"`where` must be like COLUMN=VALUE, got '{text}'",
            "or != < <= > >=; VALUE may be null",
        )
    column, sign, given = found.groups()
    kind = _known(column, schema, table).type
    field = pc.field(column)
    if given == NULL and sign in ("=", "==", "!="):
        return field.is_null() if sign != "!=" else ~field.is_null()
    if pa.types.is_nested(kind):
        raise ElimError(f"column '{column}' of table {table} holds lists", "choose by another column")
    value = _value(given, kind, column)
    compare = {
        "=": lambda: field == value,
        "==": lambda: field == value,
        "!=": lambda: field != value,
        "<": lambda: field < value,
        "<=": lambda: field <= value,
        ">": lambda: field > value,
        ">=": lambda: field >= value,
    }
    return compare[sign]()


def dataset(run: Run, name: str) -> Any:
    """Return a table as a ``pyarrow`` dataset, which is read as far as it is used."""
    import pyarrow.dataset as ds  # imports pandas, which a story does without

    if run.path is None or name in FINDING_TABLES:
        return ds.dataset(run.arrow(name))
    files = [str(path) for path in layout.look(run.path).tables[name]]
    # the schema of this version: columns that an older run lacks are null
    try:
        return ds.dataset(files, schema=TABLES[name].schema if name in TABLES else None, format="parquet")
    except OSError as error:
        hint = "it was changed after it was written: restore it or run the command again"
        raise ElimError(f"cannot read table {name} of {run.path}: {error}", hint) from error


def _known(column: str, schema: pa.Schema, table: str) -> pa.Field:
    if column not in schema.names:
        raise ElimError(f"table {table} has no column '{column}'", nearest(column, tuple(schema.names)))
    return schema.field(column)


def _value(given: str, kind: pa.DataType, column: str) -> Any:
    """Read a value as the column's type; a text may stand in quotes."""
    if pa.types.is_boolean(kind):
        if given.lower() not in TRUTHS:
            raise ElimError(f"column '{column}' is true or false, got '{given}'")
        return pa.scalar(TRUTHS[given.lower()])
    text = given[1:-1] if len(given) > 1 and given[0] == given[-1] and given[0] in "'\"" else given
    try:
        return pc.cast(pa.scalar(text), kind)
    except pa.ArrowInvalid as error:
        raise ElimError(f"column '{column}' holds {kind} numbers, got '{given}'", "give a number") from error
