"""Join the rows of two sides into tables with a column for each side and their difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from elimtool.run.columns import Table

How = Literal["inner", "outer"]


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt of side A and the prompt of side B that it is compared with.

    Attributes:
        pair_id: Joins the tables of the comparison.
        prompt_id_a: Prompt of side A; ``None`` if it could not be made.
        prompt_id_b: Prompt of side B, likewise.
        control: Kind of control; ``None`` for a pair that was asked for.
        of: ``pair_id`` of the pair that a control belongs to.
        error: Why the pair failed before either side read it.
    """

    pair_id: str
    prompt_id_a: str | None
    prompt_id_b: str | None
    control: str | None = None
    of: str | None = None
    error: str | None = None


def pair_frame(pairs: Sequence[Pair]) -> pd.DataFrame:
    """Make a frame of pairs, numbered in order."""
    names = ("pair_id", "prompt_id_a", "prompt_id_b", "control", "of", "error")
    columns = {name: pd.Series([getattr(one, name) for one in pairs], dtype="object") for name in names}
    return pd.DataFrame({"order": np.arange(len(pairs)), **columns})


def joined(
    pairs: pd.DataFrame, a: pd.DataFrame, b: pd.DataFrame, keys: Sequence[str], how: How = "inner"
) -> pd.DataFrame:
    """Join the rows of both sides that share their pair and keys.

    Args:
        pairs: From ``pair_frame``.
        a: Rows of side A, with ``prompt_id``.
        b: Rows of side B, with the same columns.
        keys: Columns that must be equal.
        how: ``outer`` keeps rows that one side lacks, with its values null.

    Returns:
        ``order``, ``pair_id``, the keys, and ``NAME_a`` and ``NAME_b`` of every other column; in the order of
        the pairs, then of A's rows, then of those that only B has.
    """
    left = _of_pairs(pairs, a, "a", keys)
    right = _of_pairs(pairs, b, "b", keys)
    on = ["order", "pair_id", *keys]
    found = left.merge(right, on=on, how=how, sort=False)
    return found.sort_values(["order", "place_a", "place_b"], kind="stable", na_position="last").drop(
        columns=["place_a", "place_b"]
    )


def _of_pairs(pairs: pd.DataFrame, rows: pd.DataFrame, side: str, keys: Sequence[str]) -> pd.DataFrame:
    # float64: an outer join makes a missing place NaN
    placed = rows.assign(place=np.arange(len(rows), dtype="float64"))
    placed = placed.rename(
        columns={name: f"{name}_{side}" for name in placed if name not in ("prompt_id", *keys)}
    )
    known = pairs[["order", "pair_id", f"prompt_id_{side}"]].rename(
        columns={f"prompt_id_{side}": "prompt_id"}
    )
    return known.merge(placed, on="prompt_id", how="inner", sort=False).drop(columns="prompt_id")


def with_differences(rows: pd.DataFrame, names: Sequence[str], where: Any = None) -> pd.DataFrame:
    """Add ``NAME_difference``, B minus A, for each name; null where ``where`` is false."""
    made = {}
    for name in names:
        difference = rows[f"{name}_b"] - rows[f"{name}_a"]
        made[f"{name}_difference"] = difference if where is None else difference.where(where)
    return rows.assign(**made)


def log_ratio(b: pd.Series[Any], a: pd.Series[Any]) -> pd.Series[float]:
    """Compute the logarithm (base 10) of B over A."""
    # not log10(b / a): a difference of logarithms is exactly negated when the sides are swapped
    return pd.Series(
        np.log10(b.astype("float64")) - np.log10(a.astype("float64")), index=b.index, dtype="float64"
    )


def table_of(table: Table, rows: pd.DataFrame, given: Mapping[str, Any] | None = None) -> Any:
    """Convert a frame to a ``pyarrow.Table`` of a schema; a missing column or value becomes null.

    Args:
        table: The schema.
        rows: Columns of the schema; others are left out, NaN is null.
        given: Columns that have one value in every row.
    """
    constant = dict(given or {})
    arrays = []
    for column in table.columns:
        if column.name in rows and column.name not in constant:
            arrays.append(_array(rows[column.name], column.type))
        else:
            arrays.append(pa.array([constant.get(column.name)] * len(rows), type=column.type))
    return table.conform(pa.Table.from_arrays(arrays, names=list(table.names)))


def _array(values: pd.Series[Any], kind: Any) -> Any:
    if pa.types.is_list(kind):
        listed = (None if one is None or isinstance(one, float) else list(one) for one in values)
        return pa.array(list(listed), type=kind)
    return pa.array(values, type=kind, from_pandas=True)
