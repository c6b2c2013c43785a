"""Fill the table of pairs: what was compared with what, and whether the output changed."""

from __future__ import annotations

from typing import Any

import pandas as pd

from elimtool.analysis.compare.join import joined, pair_frame
from elimtool.analysis.compare.setting import Setting
from elimtool.analysis.compare.side import Side, without_foils


def pair_rows(setting: Setting) -> pd.DataFrame:
    """Fill the columns of ``pairs`` that follow from tables, for all pairs, failed ones included."""
    rows = pair_frame(setting.given)
    for side, name in ((setting.a, "a"), (setting.b, "b")):
        told = side.prompts.rename(columns={one: f"{one}_{name}" for one in side.prompts})
        rows = rows.merge(told, on=f"prompt_id_{name}", how="left", sort=False)
    rows["error_message"] = pd.Series([_error(setting, row) for _, row in rows.iterrows()], dtype="object")
    rows["status"] = rows["error_message"].isna().map({True: "ok", False: "error"})
    tops = joined(setting.pairs, setting.a.tops, setting.b.tops, [], "outer").drop(columns="pair_id")
    rows = rows.merge(tops, on="order", how="left", sort=False)
    known = rows["top_token_a"].notna() & rows["top_token_b"].notna()
    changed = (rows["top_token_a"] != rows["top_token_b"]).astype("boolean")
    rows["output_changed"] = changed.where(known)
    for name, numbers in target_counts(setting).items():
        rows[name] = rows["order"].map(numbers).fillna(0).astype("Int32").where(rows["status"] == "ok")
    for name in ("group", "category", "template"):
        rows[name] = rows[f"{name}_a"].where(rows[f"{name}_a"].notna(), rows[f"{name}_b"])
    tags = [_tags(a, b) for a, b in zip(rows["tags_a"], rows["tags_b"], strict=True)]
    rows["tags"] = pd.Series(tags, dtype="object")
    return rows


def _error(setting: Setting, row: pd.Series[Any]) -> str | None:
    """Say why a pair could not be compared."""
    if isinstance(row["error"], str):
        return row["error"]
    told = {}
    for side, name in ((setting.a, "A"), (setting.b, "B")):
        if isinstance(message := row[f"error_message_{name.lower()}"], str):
            told[name] = message
        elif pd.isna(row[f"position_{name.lower()}"]):
            where = "" if side.position == "last" else f" at position {side.position}"
            told[name] = f"nothing was measured{where}"
    if len(told) == 2 and len(set(told.values())) == 1:
        return told["A"]
    return "; ".join(f"{name}: {message}" for name, message in told.items()) or None


def target_counts(setting: Setting) -> dict[str, pd.Series[int]]:
    """Count the targets of each pair that both sides followed, and those that only one did."""
    both = without_foils(setting.finals).groupby("order").size()
    return {
        "n_targets": both,
        "n_unmatched_a": _own(setting, setting.a, "a").sub(both, fill_value=0),
        "n_unmatched_b": _own(setting, setting.b, "b").sub(both, fill_value=0),
    }


def _own(setting: Setting, side: Side, name: str) -> pd.Series[int]:
    own = without_foils(side.finals).groupby("prompt_id").size()
    found = setting.pairs.set_index("order")[f"prompt_id_{name}"].map(own)
    return found.fillna(0).astype("int64")


def _tags(a: Any, b: Any) -> list[str] | None:
    given = [list(one) for one in (a, b) if one is not None and not isinstance(one, float)]
    return sorted({tag for tags in given for tag in tags}) if given else None
