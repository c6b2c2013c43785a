"""Define the columns of a table (type, unit, range, meaning) and check tables against them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf
from typing import Any

import pyarrow as pa

from elimtool.errors import ElimError, checked_fields
from elimtool.files.parse import parse_json

STRING = pa.string()
INT = pa.int32()
FLOAT = pa.float64()
SMALL_FLOAT = pa.float32()
BOOL = pa.bool_()
STRINGS = pa.list_(pa.string())
INTS = pa.list_(pa.int32())


NAMES = b"elimtool.columns"
"""Key of a part's metadata: the names of the columns that it was written with, as JSON."""


@checked_fields
@dataclass(frozen=True)
class Column:
    """One column of a table.

    Args:
        name: Column name, fixed by contract.
        type: Arrow type.
        description: What the value means, in one to three sentences.
        unit: Unit of the values, empty for names and texts.
        range: Valid values, in words or as an interval.
        null_when: What makes the value null; empty if it never is.
    """

    name: str
    type: Any
    description: str
    unit: str = ""
    range: str = ""
    null_when: str = ""

    @property
    def nullable(self) -> bool:
        """Whether the value may be null."""
        return bool(self.null_when)

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest value of the range, as far as it says them in numbers; else infinite."""
        words = self.range.split(" ")
        if words[0] in (">", ">=") and len(words) == 2:
            return _end(words[1], -inf), inf
        if words[0] in ("<", "<=") and len(words) == 2:
            return -inf, _end(words[1], inf)
        low, dots, high = self.range.partition(" ..")
        return (_end(low, -inf), _end(high, inf)) if dots else (-inf, inf)

    @property
    def field(self) -> Any:
        """The ``pyarrow.Field``, with the definition in its metadata."""
        facts = {"description": self.description, "unit": self.unit, "range": self.range}
        metadata = {key: text for key, text in facts.items() if text}
        metadata["null_when"] = self.null_when or "never"
        return pa.field(self.name, self.type, nullable=self.nullable, metadata=metadata)

    @classmethod
    def of_field(cls, field: Any) -> Column:
        """Read a definition back from a ``pyarrow.Field``."""
        facts = _texts(field.metadata)
        null_when = facts.pop("null_when", "") if field.nullable else ""
        known = {key: facts.get(key, "") for key in ("description", "unit", "range")}
        return cls(field.name, field.type, **known, null_when=null_when)


def _end(text: str, otherwise: float) -> float:
    """Read an end of a range; ``otherwise`` for one in words, such as ``layers - 1``."""
    try:
        return float(text)
    except ValueError:
        return otherwise


def probability(name: str, description: str, null_when: str = "") -> Column:
    """Define a column of probabilities."""
    return Column(name, FLOAT, description, "probability", "0 .. 1", null_when)


def share(name: str, description: str, null_when: str = "") -> Column:
    """Define a column of shares."""
    return Column(name, FLOAT, description, "share", "0 .. 1", null_when)


def rank(name: str, description: str, null_when: str = "") -> Column:
    """Define a column of ranks among all tokens."""
    return Column(name, INT, description, "rank", "1 .. vocabulary", null_when)


@dataclass(frozen=True)
class AskedBy:
    """The option without which a trace does not fill a table.

    Attributes:
        option: Its name in ``TraceOptions``.
        hint: What to do with it, for whom it is missing.
    """

    option: str
    hint: str


@checked_fields
@dataclass(frozen=True)
class Table:
    """One table of a run.

    Args:
        name: Table name; also the name of its folder in a run directory.
        purpose: One line: which question the table answers.
        row: What one row stands for ("one row per ...").
        columns: The columns, in their order in the file.
        plugin: The package that defines it, with its version; empty for elimtool's own.
        asked_by: The option that alone asks for it; ``None`` where a trace fills it without.
        of_prompt: Whether its rows belong to a prompt, and to none of its passes; all others of a trace have
            the column ``intervention``.
        may_be_empty: Whether a run keeps it without a row, which says that there was nothing of the kind.
    """

    name: str
    purpose: str
    row: str
    columns: tuple[Column, ...]
    plugin: str = ""
    asked_by: AskedBy | None = None
    of_prompt: bool = False
    may_be_empty: bool = False

    @cached_property
    def schema(self) -> Any:
        """The ``pyarrow.Schema``, with the definitions in the metadata of table and fields."""
        metadata = {"description": self.purpose, "row": self.row}
        if self.plugin:
            metadata["plugin"] = self.plugin
        return pa.schema([column.field for column in self.columns], metadata=metadata)

    @classmethod
    def of_schema(cls, name: str, schema: Any) -> Table:
        """Read a definition back from the metadata of a schema; texts that are not there are empty."""
        facts = _texts(schema.metadata)
        columns = tuple(Column.of_field(schema.field(index)) for index in range(len(schema)))
        purpose, row, plugin = (facts.get(key, "") for key in ("description", "row", "plugin"))
        return cls(name, purpose, row, columns, plugin)

    @property
    def names(self) -> tuple[str, ...]:
        """Column names, in order."""
        return tuple(column.name for column in self.columns)

    def with_column(self, column: Column) -> Table:
        """Return the same table with one more column at its end."""
        return replace(self, columns=(*self.columns, column))

    def from_rows(self, rows: Iterable[Mapping[str, Any]]) -> Any:
        """Make an Arrow table from row dicts that each name every column; ``None`` is null.

        Raises:
            ValueError: A row lacks a column or has an unknown one, or a null is not allowed.
        """
        listed = list(rows)
        for row in listed:
            self._check_names(row.keys())
        return self.from_columns({name: [row[name] for row in listed] for name in self.names})

    def from_columns(self, columns: Mapping[str, Sequence[Any]]) -> Any:
        """Make an Arrow table from one sequence or array per column; ``None`` is null.

        Raises:
            ValueError: A column is missing or unknown, lengths differ, or a null is not allowed.
            TypeError: A value does not fit the type of its column.
        """
        self._check_names(columns.keys())
        arrays = [pa.array(columns[column.name], type=column.type) for column in self.columns]
        return self.conform(pa.Table.from_arrays(arrays, names=list(self.names)))

    def conform(self, table: Any) -> Any:
        """Check a ``pyarrow.Table`` against the schema and attach the schema's metadata.

        Columns may come in any order; nothing is cast.

        Raises:
            ValueError: A column is missing, unknown or repeated, or holds a null that is not allowed.
            TypeError: ``table`` is not an Arrow table, or a column has another type.
        """
        if not isinstance(table, pa.Table):
            raise TypeError(f"table '{self.name}': expected a pyarrow.Table, got {type(table).__name__}")
        if not table.schema.equals(self.schema, check_metadata=True):
            self._check_names(table.column_names)
            if len(table.column_names) != len(self.columns):
                raise ValueError(f"table '{self.name}': a column comes twice in {table.column_names}")
            arrays = [table.column(name) for name in self.names]
            for column, values in zip(self.columns, arrays, strict=True):
                if values.type != column.type:
                    raise TypeError(
                        f"{self.name}.{column.name} is {values.type}, the schema says {column.type}"
                    )
            table = pa.Table.from_arrays(arrays, schema=self.schema)
        # Arrow does not enforce ``nullable=False``, not even in ``Table.validate(full=True)``
        for column, values in zip(self.columns, table.columns, strict=True):
            if not column.nullable and values.null_count:
                raise ValueError(f"{self.name}.{column.name} holds {values.null_count} null(s): none may be")
        return table

    def completed(self, table: Any, where: str) -> Any:
        """Add the nullable columns that a table of an earlier version lacks, as nulls.

        Args:
            table: As it was read.
            where: What to call it in messages.

        Raises:
            ElimError: A column is missing, of another type, or null where none may be: the table was changed
                after it was written.
        """
        stated = parse_json((table.schema.metadata or {}).get(NAMES, b"[]"))
        for column in self.columns:
            there = column.name in table.column_names
            if table.column_names.count(column.name) > 1:
                raise _changed(f"{where} has the column '{column.name}' more than once")
            if not there and (not column.nullable or column.name in stated):
                raise _changed(f"{where} has lost its column '{column.name}'")
            if not there:
                table = table.append_column(column.field, pa.nulls(table.num_rows, column.type))
                continue
            values = table.column(column.name)
            if values.type != column.type:
                raise _changed(f"{where}: column '{column.name}' is {values.type}, not {column.type}")
            if values.null_count and not column.nullable:
                raise _changed(f"{where}: column '{column.name}' holds nulls, where none may be")
        return table

    def _check_names(self, given: Iterable[str]) -> None:
        names = set(given)
        missing = [name for name in self.names if name not in names]
        unknown = sorted(names - set(self.names))
        if missing or unknown:
            raise ValueError(f"table '{self.name}': missing columns {missing}, unknown columns {unknown}")


def _texts(metadata: Mapping[bytes, bytes] | None) -> dict[str, str]:
    return {key.decode(): value.decode("utf-8", "replace") for key, value in (metadata or {}).items()}


def _changed(what: str) -> ElimError:
    return ElimError(what, "it was changed after it was written: restore it or run the command again")


PROMPT_ID = Column(
    "prompt_id",
    STRING,
    "Identifier of the prompt: the record's own, else the first 16 hexadecimal digits of the SHA-256 of the"
    " rendered prompt. Joins all tables of a run.",
)
POSITION = Column(
    "position",
    INT,
    "Index of the token whose row is read (the query), from 0. The prediction made there is of the token at"
    " position + 1.",
    unit="token index",
    range=">= 0",
)
LAYER = Column(
    "layer",
    INT,
    "Block whose attention is read, from 0.",
    unit="layer index",
    range="0 .. layers - 1",
)
AFTER_LAYER = Column(
    "layer",
    INT,
    "Block after which the residual stream is read, from 0; -1 is the embedding, before any block.",
    unit="layer index",
    range="-1 .. layers - 1",
)
INTERVENTION = Column(
    "intervention",
    STRING,
    "What was done to the model in this pass, such as 'ablate 17.3 mean'; several are joined by '; '. A run"
    " with interventions holds the rows of both passes; in each part the model's own come first.",
    null_when="the pass is the model's own",
)
TARGET = Column(
    "target",
    STRING,
    "Target as the user asked for it; where nobody asked for one, the text of a token that the model"
    " prefers. In runs of version 1, a target as it was scored, with the space put before it.",
)
TARGET_TOKEN = Column(
    "target_token",
    STRING,
    "Text of the token that stands for the target, whose id is token_id and which every number here is of.",
    null_when="the run is of schema version 1",
)
TOKEN_ID = Column(
    "token_id",
    INT,
    "Vocabulary id of the token that stands for the target: its first token, or the first one that differs"
    " where all targets and foils of the prompt begin alike.",
    unit="token id",
    range="0 .. vocabulary - 1",
)
