"""Compare two sides layer by layer: targets, properties of the layers, attention on spans."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from elimtool.analysis.compare.join import joined, log_ratio, table_of, with_differences
from elimtool.analysis.compare.setting import Setting
from elimtool.analysis.compare.side import TARGET, Side
from elimtool.run.tables.comparison.attention import ATTENTION_DIFFERENCES, CARRIED
from elimtool.run.tables.comparison.layers import CARRIED_LAYERS, LAYER_DIFFERENCES, LENS_DIFFERENCES

_LOOKED = ["attention_entropy", "sink_mass", "eliminated_frac", *CARRIED_LAYERS]
"""Columns about a layer's attention."""


def lens_differences(setting: Setting) -> Any:
    """Make the table of each target's rank and probability after each block on the two sides."""
    columns = ["layer", "lens", *TARGET, "is_foil", "rank", "logprob", "prob"]
    a, b = (
        setting.keyed(side, _comparable(setting, side, side.rows("lens", columns)), ["layer"])
        for side in (setting.a, setting.b)
    )
    rows = joined(setting.pairs, a, b, ["layer", "target", "is_foil", "key"])
    same = _same_lens(setting, rows)
    rows = with_differences(rows, ["logprob", "prob"], same)
    rows["rank_ratio"] = log_ratio(rows["rank_b"], rows["rank_a"]).where(same)
    return table_of(LENS_DIFFERENCES, rows)


def layer_differences(setting: Setting) -> Any:
    """Make the table of how decided each layer is, and how widely it attends, on the two sides."""
    a, b = (_comparable(setting, side, _layers(side)) for side in (setting.a, setting.b))
    if not setting.same_depth:  # the last blocks of two depths do not correspond
        a, b = (one.assign(**dict.fromkeys(_LOOKED, np.nan)) for one in (a, b))
    rows = joined(setting.pairs, a, b, ["layer"], "outer")
    same = _same_lens(setting, rows)
    rows = with_differences(rows, ["top_prob", "entropy", "nucleus_size", "kl_to_final"], same)
    rows = with_differences(rows, _LOOKED)
    known = rows["top_token_a"].notna() & rows["top_token_b"].notna() & same
    rows["top_changed"] = (rows["top_token_a"] != rows["top_token_b"]).astype("boolean").where(known)
    return table_of(LAYER_DIFFERENCES, rows)


def attention_differences(setting: Setting) -> Any:
    """Make the table of the attention that each span keeps on the two sides; spans are joined by name."""
    names = ["mass", "lift", "mass_no_sink", "lift_no_sink", *CARRIED]
    a, b = (side.rows("attention", ["layer", "span", *names]) for side in (setting.a, setting.b))
    if not setting.same_depth:
        a, b = a[:0], b[:0]
    rows = with_differences(joined(setting.pairs, a, b, ["layer", "span"]), names)
    rows["logit_shift"] = _logit(rows["mass_no_sink_b"]) - _logit(rows["mass_no_sink_a"])
    return table_of(ATTENTION_DIFFERENCES, rows)


def _logit(share: pd.Series[float]) -> pd.Series[float]:
    """Compute ln(x / (1 - x)), null for 0 and 1."""
    inside = share.where((share > 0) & (share < 1))
    return pd.Series(np.log(inside) - np.log1p(-inside), index=share.index)


def _layers(side: Side) -> pd.DataFrame:
    """Collect the properties of a side's layers from the tables that have them, by prompt and layer."""
    keys = ["prompt_id", "layer"]
    read = ["lens", "top_token", "top_prob", "entropy", "nucleus_size", "kl_to_final"]
    looked = ["entropy", *_LOOKED[1:]]
    empty = pd.DataFrame({"prompt_id": pd.Series(dtype="str"), "layer": pd.Series(dtype="int32")})
    lens = side.rows("lens_layers", ["layer", *read]) if side.has("lens_layers") else empty
    attention = side.rows("attention_layers", ["layer", *looked]) if side.has("attention_layers") else empty
    both = lens.reindex(columns=[*keys, *read]).merge(
        attention.reindex(columns=[*keys, *looked]).rename(columns={"entropy": "attention_entropy"}),
        on=keys,
        how="outer",
        sort=False,
    )
    return both.sort_values(keys, kind="stable")


def _comparable(setting: Setting, side: Side, rows: pd.DataFrame) -> pd.DataFrame:
    """Keep all layers if both sides have the same number, else only the output, without a layer."""
    if setting.same_depth:
        return rows
    last = rows[rows["layer"] == (side.run.n_layers or 0) - 1]
    return last.assign(layer=pd.array([None] * len(last), dtype="Int32"))


def _same_lens(setting: Setting, rows: pd.DataFrame) -> pd.Series[bool]:
    """Say for each row whether both sides use one lens; at the last layer every lens is the output."""
    same = rows["lens_a"] == rows["lens_b"]
    depth = setting.a.run.n_layers
    return same | rows["layer"].isna() | (rows["layer"] == (depth or 0) - 1)
