"""What holds for every comparison: against itself it is zero, and exchanging the sides negates it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from elimtool.run.comparison import Comparison

NEGATED = ("rank_ratio", "logit_shift", "focus_shift", "retention_shift", "mean_difference")
EXCHANGED = {"ci_low": "ci_high", "ci_high": "ci_low"}
OWN = ("statistics",)
"""Tables in which no column is of a side but the means."""


def is_difference(name: str) -> bool:
    return name in NEGATED or (name.endswith("_difference") and name != "prefix_difference")


def assert_zero(comparison: Comparison) -> None:
    """Every difference is 0 wherever both sides have a value, and nothing flipped."""
    seen = 0
    for name in comparison.tables:
        rows = comparison.table(name)
        for column in rows:
            if is_difference(column):
                values = rows[column].astype("float64")
                assert (values.dropna() == 0).all(), f"{name}.{column}"
                seen += int(values.notna().sum())
            if column.endswith("_a"):
                assert _equal(rows[column], rows[f"{column[:-2]}_b"]), f"{name}.{column}"
        for column in {"changed", "top_changed", "output_changed", "beyond"} & set(rows):
            assert not rows[column].astype("boolean").fillna(False).any(), f"{name}.{column}"
    assert seen
    if "flips" in comparison.tables:
        assert comparison.arrow("flips").num_rows == 0
    rows = comparison.table("statistics")
    assert (rows["p_value"].dropna() == 1).all()
    shares = (
        rows["method"] == "newcombe"
    )  # that nothing differed in a few pairs does not say nothing ever will
    assert (rows.loc[~shares, ["ci_low", "ci_high"]].fillna(0) == 0).all(axis=None)
    assert np.allclose(rows.loc[shares, "ci_low"], -rows.loc[shares, "ci_high"])


def assert_swapped(forth: Comparison, back: Comparison) -> None:
    """``back`` is ``forth`` with its sides exchanged."""
    assert forth.tables.keys() == back.tables.keys()
    for name in forth.tables:
        one, other = _ordered(forth.table(name)), _ordered(_turned(back.table(name)))
        assert len(one) == len(other), name
        for column in one:
            a, b = one[column], other[column]
            if pd.api.types.is_float_dtype(a) and name in OWN:
                assert np.allclose(a, b, rtol=1e-9, atol=1e-12, equal_nan=True), f"{name}.{column}"
            else:
                assert _equal(a, b), f"{name}.{column}"


def _turned(rows: pd.DataFrame) -> pd.DataFrame:
    """A table as it would be with its sides exchanged."""
    other = {
        name: f"{name[:-1]}{'b' if name[-1] == 'a' else 'a'}" for name in rows if name[-2:] in ("_a", "_b")
    }
    turned = rows.rename(columns={**other, **EXCHANGED} if "ci_low" in rows else other)[list(rows)]
    for name in turned:
        if is_difference(name) or name in EXCHANGED:
            turned[name] = -turned[name]
    if "error_message" in turned:
        turned["error_message"] = [
            f"{'AB'['BA'.index(one[0])]}{one[1:]}" if isinstance(one, str) and one[1:2] == ":" else one
            for one in turned["error_message"]
        ]
    if "eliminated_in" in turned:
        turned["eliminated_in"] = turned["eliminated_in"].map({"a": "b", "b": "a"})
    return turned


def _ordered(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows in an order that does not depend on the sides."""
    keys = [name for name in rows if name[-2:] not in ("_a", "_b") and rows[name].dtype.kind not in "fb"]
    keys = [name for name in keys if not is_difference(name) and name not in ("tags", "q_value")]
    text = rows[keys].astype(str)
    return rows.loc[text.sort_values(keys, kind="stable").index].reset_index(drop=True)


def _equal(a: pd.Series, b: pd.Series) -> bool:  # type: ignore[type-arg]
    """Whether two columns hold the same values, null in the same places."""
    if any(isinstance(one, (list, np.ndarray)) for one in [*a.head(1), *b.head(1)]):
        a, b = (column.map(lambda one: None if one is None else str(list(one))) for column in (a, b))
    return bool(((a == b).fillna(False) | (a.isna() & b.isna())).all())
