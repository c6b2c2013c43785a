"""Columns made Arrow the short way hold what Arrow makes of the same values one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from elimtool.engine.records import arrow_table
from elimtool.metrics.columns import Categorical, Cells, join, names_at
from elimtool.run.schema import TABLES

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


def column(values: Any, name: str = "copy_suppression") -> pa.ChunkedArray:
    """One column through ``arrow_table``; the table's others are made to fit its length."""
    table = TABLES["copy_suppression"]
    plain = dict.fromkeys(table.names, np.zeros(len(values), dtype=np.int64))
    plain["prompt_id"] = ["p"] * len(values)
    del plain["intervention"]
    made = arrow_table("copy_suppression", {**plain, name: values}).column(name)
    made.validate(full=True)
    return made


def plainly(values: Any, kind: pa.DataType) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, type=kind, from_pandas=True)])


@given(st.lists(st.none() | TEXTS, min_size=1, max_size=5), st.data())
def test_texts_by_code_are_the_texts_themselves(categories: list[str | None], data: st.DataObject) -> None:
    codes = data.draw(hnp.arrays(np.int32, st.integers(0, 9), elements=st.integers(0, len(categories) - 1)))
    listed = [categories[code] for code in codes.tolist()]
    made = column(Categorical(categories, codes), "prompt_id")
    assert made.equals(plainly(listed, pa.string()))
    assert made.null_count == listed.count(None)


@given(hnp.arrays(st.sampled_from([np.float16, np.float32, np.float64]), st.integers(0, 40)))
def test_numbers_keep_their_value_and_nan_is_null(values: np.ndarray[Any, Any]) -> None:
    made = column(values)
    assert made.type == pa.float64()
    assert made.equals(plainly(values.astype(np.float64), pa.float64()))
    assert made.null_count == int(np.isnan(values).sum())


@pytest.mark.parametrize("step", [2, -1])
def test_numbers_that_do_not_lie_side_by_side(step: int) -> None:
    values = np.array([1.0, np.nan, 3.0, np.inf, -0.0, np.nan])[::step]
    assert column(values).equals(plainly(values.copy(), pa.float64()))


def test_masked_and_wider_numbers_take_the_general_way() -> None:
    masked = np.ma.MaskedArray(np.array([1.0, 2.0, 3.0]), mask=[True, False, False])
    assert column(masked).to_pylist() == [None, 2.0, 3.0]
    assert column([1, None]).to_pylist() == [1.0, None]
    counts = np.ma.MaskedArray(np.array([5, 7]), mask=[False, True])
    assert column(counts, "n_predicted").to_pylist() == [5, None]
    with pytest.raises(pa.ArrowInvalid):
        column(np.array([2**40]), "n_predicted")


def test_every_row_says_which_pass_it_is_of() -> None:
    columns = {name: [0, 1] for name in TABLES["copy_suppression"].names if name != "intervention"}
    columns["prompt_id"] = ["a", "b"]
    assert arrow_table("copy_suppression", columns)["intervention"].to_pylist() == [None, None]
    assert (
        arrow_table("copy_suppression", columns, "ablate é")["intervention"].to_pylist() == ["ablate é"] * 2
    )


def test_names_of_ragged_lists() -> None:
    names = names_at([["a"], [], ["b", "東"]], np.array([2, 0, 2]), np.array([1, 0, 0]))
    assert list(names) == ["東", "a", "b"]
    assert list(names[np.array([1, 1])]) == ["a", "a"]
    assert pd.Series(names).tolist() == ["東", "a", "b"]
    assert list(names_at([["a"]], np.array([], int), np.array([], int))) == []


def test_parts_are_joined_whatever_their_form() -> None:
    one, two = Categorical(["a", None], np.array([1, 0])), Categorical(["a", "b"], np.array([1, 0, 1]))
    assert list(join([{"x": one}, {"x": two}])["x"]) == [None, "a", "b", "a", "b"]
    assert list(join([{"x": one}, {"x": np.array(["c"], dtype=object)}])["x"]) == [None, "a", "c"]
    assert list(join([{"x": one}])["x"]) == [None, "a"]
    assert join([]) == {}


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=3)), st.data())
def test_cells_are_picked_in_the_order_of_the_grid(real: np.ndarray[Any, Any], data: st.DataObject) -> None:
    narrow = tuple(data.draw(st.sampled_from([1, side])) for side in real.shape)
    values = np.arange(np.prod(narrow)).reshape(narrow)
    assert Cells(real, real.shape).of(values).tolist() == np.broadcast_to(values, real.shape)[real].tolist()
