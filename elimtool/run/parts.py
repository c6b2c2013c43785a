"""Read the Parquet parts of a table as an Arrow table, a DataFrame or JSON's own types."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from elimtool.errors import ElimError
from elimtool.files.rows import Rows

if TYPE_CHECKING:
    import pandas as pd

NULLABLE_DTYPES = {pa.int32(): "Int32", pa.int64(): "Int64", pa.bool_(): "boolean"}


def read_parts(paths: Sequence[Path], counted: int | None, manifest: str) -> Any:
    """Read the parts of one table, in order, as one ``pyarrow.Table``.

    Args:
        paths: At least one.
        counted: Rows that the manifest states; ``None`` if it states none.
        manifest: Name of the manifest, for messages.

    Raises:
        ElimError: A part cannot be read, has other columns, is missing or was added.
    """
    read = [_read_part(path) for path in paths]
    for path, part in zip(paths, read, strict=True):
        if not part.schema.equals(read[0].schema):
            raise ElimError(
                f"{path} has other columns than the first part",
                "the run was put together from different ones",
            )
    table = pa.concat_tables(read)
    if counted is not None and table.num_rows != counted:
        raise ElimError(
            f"{paths[0].parent} has {table.num_rows:,} rows, {manifest} counted {counted:,}",
            "a part is missing or was added: run the command again",
        )
    return table


def values_of(path: Path, column: str) -> list[list[Any]]:
    """List what a column holds in each row group of a part, every value once; other columns are not read.

    Raises:
        ElimError: The part cannot be read.
    """
    found: list[list[Any]] = _opened(
        path,
        lambda file: [
            file.read_row_group(at, [column]).column(column).unique().to_pylist()
            for at in range(file.num_row_groups)
        ],
        texts=[column],  # read as a dictionary: of a million rows few texts are different
    )
    return found


def read_groups(path: Path, groups: Sequence[int]) -> Any:
    """Read some row groups of a part as a ``pyarrow.Table``.

    Raises:
        ElimError: The part cannot be read.
    """
    return _opened(path, lambda file: file.read_row_groups(list(groups)))


def frame(table: Any) -> pd.DataFrame:
    """Convert an Arrow table to a ``pandas.DataFrame`` whose types follow the schema, never the data."""
    import pandas as pd

    return pd.DataFrame({field.name: _to_pandas(table.column(field.name), field) for field in table.schema})


def json_rows(table: Any) -> Rows:
    """Convert an Arrow table to rows of JSON's own types; NaN and infinities become ``None``."""
    return [_finite(row) for row in table.to_pylist()]


def schema_of(path: Path) -> Any:
    """Read the ``pyarrow.Schema`` of a part, with its metadata.

    Raises:
        ElimError: It cannot be read.
    """
    return _opened(path, lambda file: file.schema_arrow)


def _read_part(path: Path) -> Any:
    return _opened(path, lambda file: file.read())


def _opened(path: Path, use: Callable[[pq.ParquetFile], Any], texts: Sequence[str] = ()) -> Any:
    try:
        with pq.ParquetFile(path, read_dictionary=list(texts)) as file:
            return use(file)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise ElimError(
            f"cannot read {path}: {reason}", "restore the file or run the command again"
        ) from error


def _to_pandas(values: Any, field: Any) -> Any:
    import pandas as pd

    if field.nullable and field.type in NULLABLE_DTYPES:
        # by default Arrow makes these float64 or object if there are nulls, and plain int or bool if not
        dtype = pd.api.types.pandas_dtype(NULLABLE_DTYPES[field.type])
        return values.to_pandas(types_mapper=lambda _: dtype)
    return values.to_pandas()


def _finite(value: Any) -> Any:
    """Replace NaN and infinities by ``None``, at any depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value
