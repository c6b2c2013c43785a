"""Read prompt files of every format record by record."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from elimtool.errors import ElimError
from elimtool.prompts.record import HOW, Record, broken, check_fields, record_of
from elimtool.prompts.source import MAX_LINE

Lines = Iterable[tuple[int, bytes | None]]

TOO_LONG = f"the line is longer than {MAX_LINE // 2**20} MiB"
JSON_CELLS = frozenset({"messages", "spans", "template_vars", "tools", "slots", "seed"})
LIST_CELLS = frozenset({"targets", "foils", "tags", "answers"})
BATCH_ROWS = 256
"""Rows of a Parquet file that are read together."""


def read_text(lines: Lines, name: str) -> Iterator[Record]:
    """Read one prompt per line; blank lines are skipped."""
    return _by_line(lines, name, _text_record)


def read_jsonl(lines: Lines, name: str) -> Iterator[Record]:
    """Read one JSON object per line; blank lines are skipped."""
    return _by_line(lines, name, _json_record)


def _by_line(lines: Lines, name: str, read: Callable[[str, int, str], Record]) -> Iterator[Record]:
    for number, raw in lines:
        where = f"{name}:{number}"
        line = _decoded(raw, number, where)
        if isinstance(line, Record):
            yield line
        elif line.strip():
            yield read(line, number, where)


def _text_record(line: str, number: int, where: str) -> Record:
    return record_of({"prompt": line.rstrip("\r\n")}, number, where)


def _json_record(line: str, number: int, where: str) -> Record:
    try:
        fields = _JSON.decode(line)
    except json.JSONDecodeError as error:
        return broken(number, where, f"not valid JSON: {error.msg} at character {error.pos + 1}", HOW)
    except ValueError as error:
        return broken(number, where, f"not valid JSON: {error}")
    except RecursionError:
        return broken(number, where, "not valid JSON: nested too deeply")
    if not isinstance(fields, dict):
        return broken(number, where, "the line is JSON, but not an object", HOW)
    return record_of(fields, number, where)


# Python's decoder takes NaN and Infinity, and the last of equal keys
def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key '{repeated}' is given twice")
    return found


_JSON = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_once)


def _decoded(raw: bytes | None, number: int, where: str) -> str | Record:
    if raw is None:
        return broken(number, where, TOO_LONG, "a prompt of that length fits no model; shorten it")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        byte = raw[error.start]
        return broken(
            number,
            where,
            f"not UTF-8: byte 0x{byte:02x} at byte {error.start + 1} of the line",
            "convert the file, for example with iconv -t UTF-8",
        )


def read_csv(lines: Lines, name: str, delimiter: str = ",") -> Iterator[Record]:
    """Read a header line, then a record per row; an empty cell is a field that is not given.

    ``messages``, ``spans``, ``template_vars``, ``tools`` and ``slots`` hold JSON; ``targets``, ``foils``,
    ``tags`` and ``answers`` a JSON list or one string.

    Raises:
        ElimError: The header is not valid.
    """
    csv.field_size_limit(MAX_LINE)  # the default, 128 KiB, is too small for long prompts
    source = _CsvLines(lines)
    rows = csv.reader(source, delimiter=delimiter, strict=True)
    header = _header(rows, name)
    while True:
        first = source.number + 1  # a quoted cell can span lines: a record is at its first one
        try:
            cells = next(rows, None)
        except csv.Error as error:
            yield broken(
                first, f"{name}:{first}", f"not valid CSV: {error}", "quote cells as RFC 4180 has it"
            )
            continue
        if cells is None:
            return
        where = f"{name}:{first}"
        if source.overlong:
            source.overlong = False
            yield broken(first, where, TOO_LONG, "a prompt of that length fits no model; shorten it")
        elif cells and len(cells) != len(header):
            counted = f"the row has {len(cells):,} cells, the header {len(header):,}"
            yield broken(first, where, counted, "quote a cell that holds the delimiter")
        elif cells:
            yield _csv_record(header, cells, first, where)


def _header(rows: Iterator[list[str]], name: str) -> tuple[str, ...]:
    try:
        header = tuple(cell.strip() for cell in next(rows, []))
    except csv.Error as error:
        raise ElimError(f"{name}:1: not valid CSV: {error}", "the first line names the columns") from error
    check_columns(header, f"{name}:1: ")
    return header


def check_columns(names: Sequence[str], where: str) -> None:
    """Refuse columns that cannot make records.

    Raises:
        ElimError: No column ``prompt`` or ``messages``, an unknown one, or one that comes twice.
    """
    for one in names:
        if names.count(one) > 1:
            raise ElimError(f"{where}the column '{one}' comes twice", "leave one of the two out")
    if "prompt" not in names and "messages" not in names:
        shown = ", ".join(names) or "none"
        raise ElimError(f"{where}there is no column 'prompt' or 'messages'", f"the columns are: {shown}")
    check_fields(tuple(names), where, "column")


def _csv_record(header: Sequence[str], cells: Sequence[str], number: int, where: str) -> Record:
    fields: dict[str, Any] = {}
    for name, cell in zip(header, cells, strict=True):
        if not cell and name != "prompt":  # an empty prompt is an error, not an absent field
            continue
        try:
            fields[name] = _cell(name, cell)
        except ValueError as error:
            return broken(number, where, f"column '{name}' is not valid JSON: {error}")
        except RecursionError:
            return broken(number, where, f"column '{name}' is not valid JSON: nested too deeply")
    if fields.get("prompt") == "" and "messages" in fields:  # a row has one of the two
        del fields["prompt"]
    return record_of(fields, number, where)


def _cell(name: str, cell: str) -> Any:
    if name in JSON_CELLS:
        return _JSON.decode(cell)
    if name in LIST_CELLS:
        return _JSON.decode(cell) if cell.lstrip().startswith("[") else [cell]
    if name == "meta" and cell.lstrip()[:1] in ("{", "["):
        return _JSON.decode(cell)
    return cell


class _CsvLines:
    """Lines for the ``csv`` module, counted; bytes that are not UTF-8 become surrogates, refused later."""

    def __init__(self, lines: Lines) -> None:
        self._lines = iter(lines)
        self.number = 0
        self.overlong = False

    def __iter__(self) -> _CsvLines:
        return self

    def __next__(self) -> str:
        self.number, raw = next(self._lines)
        self.overlong = self.overlong or raw is None
        return (raw or b"\n").decode("utf-8", "surrogateescape")


def read_parquet(path: Path, name: str) -> Iterator[Record]:
    """Read a record per row; the number of a record is its row, from 1.

    Raises:
        ElimError: The file cannot be read, or its schema is not valid.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            _check_schema(file.schema_arrow, name)
            for batch in file.iter_batches(BATCH_ROWS):
                for row in _rows(batch):
                    number += 1
                    if isinstance(row, UnicodeDecodeError):
                        yield broken(number, f"{name}: row {number}", f"not UTF-8: {row.reason}")
                        continue
                    fields = {key: _plain(value) for key, value in row.items() if value is not None}
                    yield record_of(fields, number, f"{name}: row {number}")
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise ElimError(
            f"{name}: cannot read on after row {number}: {reason}", "write the file again"
        ) from error


def _rows(batch: Any) -> Iterator[dict[str, Any] | UnicodeDecodeError]:
    """Iterate over rows; one by one if a string in them is not UTF-8, which Arrow does not check."""
    try:
        rows = batch.to_pylist()
    except UnicodeDecodeError:
        for index in range(len(batch)):
            try:
                yield from batch.slice(index, 1).to_pylist()
            except UnicodeDecodeError as error:
                yield error
    else:
        yield from rows


def _check_schema(schema: Any, name: str) -> None:
    import pyarrow.types as kinds

    check_columns(schema.names, f"{name}: ")
    for field in schema:
        kind = field.type.value_type if kinds.is_dictionary(field.type) else field.type
        text = kinds.is_string(kind) or kinds.is_large_string(kind)
        if field.name in ("prompt", "target", "foil", "group", "category") and not text:
            if kinds.is_null(kind) and field.name != "prompt":  # a column without a value has no type
                continue
            raise ElimError(
                f"{name}: column '{field.name}' is {kind}, not string", "cast it when you write it"
            )


def _plain(value: Any) -> Any:
    """Convert a value of a Parquet file to JSON types; maps, which come as pairs, become mappings."""
    if isinstance(value, list):
        if value and all(isinstance(one, tuple) and len(one) == 2 for one in value):
            return {key: _plain(one) for key, one in value}
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items() if one is not None}
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)
