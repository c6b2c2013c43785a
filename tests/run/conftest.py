"""A small manifest and small tables with every awkward value, for the tests of the run room."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from elimtool.run.columns import NAMES
from elimtool.run.manifest import WHERE_KNOWN, Manifest
from elimtool.run.reader import Run
from elimtool.run.schema import TABLES
from elimtool.run.writer import RunWriter

LATER = {"kind": "sampling sampling_targets", "margin_unit": "sampling sampling_targets"}
_SPELLED = ("target_token", "spelling", "spellings", "other_spelling", "other_spelling_logprob")
LATER |= dict.fromkeys((*_SPELLED, "appended_logprob"), " ".join(TABLES))
ADDED = {
    name: found
    for name, table in TABLES.items()
    if (
        found := [
            column for column, where in LATER.items() if column in table.names and name in where.split()
        ]
    )
}
"""Columns that came after the first version of a table."""


def make_manifest(**changes: Any) -> Manifest:
    facts: dict[str, Any] = {
        "elimtool": "0.1.0",
        "transformer_lens": "4.3.0",
        "transformers": "5.5.0",
        "torch": "2.13.0",
        "model": "tiny",
        "n_layers": 3,
        "n_heads": 2,
        "dtype": "float32",
        "device": "cpu",
        "processing": "raw",
        "bos": "tokenizer",
        "lens": "raw",
        "sinks": [0],
        "chains": [{"name": "hf", "stages": [{"stage": "top_k", "k": 50}]}],
        "config": {"position": "last", "targets": [" Paris", "東京"]},
        "started": "2026-01-02T03:04:05Z",
    }
    return Manifest(**(facts | changes))


def plain_value(kind: Any) -> Any:
    """Some value of an Arrow type."""
    if pa.types.is_list(kind):
        return [plain_value(kind.value_type)]
    if pa.types.is_struct(kind):
        return {field.name: plain_value(field.type) for field in kind}
    if pa.types.is_string(kind):
        return "é 🦊\n\0 東京"
    if pa.types.is_boolean(kind):
        return True
    return 0.25 if pa.types.is_floating(kind) else 7


def awkward_rows(name: str) -> list[dict[str, Any]]:
    """Rows of a table: a full one, one of NaN, one of infinities, one with null wherever null may be."""
    table = TABLES[name]
    full = {column.name: plain_value(column.type) for column in table.columns}
    floats = [column.name for column in table.columns if pa.types.is_floating(column.type)]
    nulls = {column.name: None for column in table.columns if column.nullable}
    infinite = dict.fromkeys(floats, -math.inf) | dict.fromkeys(floats[:1], math.inf)
    return [full, full | dict.fromkeys(floats, math.nan), full | infinite, full | nulls]


def awkward_tables() -> dict[str, pa.Table]:
    return {name: TABLES[name].from_rows(awkward_rows(name)) for name in TABLES}


def files(directory: Path) -> dict[str, bytes]:
    """Every file below a directory, hidden ones too."""
    found = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in found}


def write(directory: Path, overwrite: bool = False, names: Iterable[str] = TABLES, **changes: object) -> None:
    with RunWriter(directory, make_manifest(**changes), overwrite=overwrite) as writer:
        for name in names:
            table = TABLES[name].from_rows(awkward_rows(name))
            writer.write_part(name, 0, table.slice(0, 3))
            writer.write_part(name, 1, table.slice(3))
        writer.finish("2026-01-02T04:00:00Z")


def as_before(run: Run, directory: Path) -> Path:
    """Write a run as an elimtool of schema version 1 did that knew fewer columns and keys: see ``ADDED``."""
    facts = {**run.manifest.model_dump(), **dict.fromkeys(WHERE_KNOWN), "schema_version": 1}
    Run(Manifest(**facts), memory={name: run.arrow(name) for name in run.tables}).save(directory)
    for name, columns in ADDED.items():
        for path in (directory / name).glob("*.parquet"):
            table = pq.read_table(path).drop_columns(columns)
            facts = {key: value for key, value in table.schema.metadata.items() if key != NAMES}
            pq.write_table(table.replace_schema_metadata(facts), path)
    return directory


@pytest.fixture
def manifest() -> Manifest:
    return make_manifest()
