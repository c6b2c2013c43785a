"""Compare what each sampler stage removes on two sides."""

from __future__ import annotations

from typing import Any

import pandas as pd

from elimtool.analysis.compare.join import joined, table_of, with_differences
from elimtool.analysis.compare.setting import Setting
from elimtool.analysis.compare.side import TARGET, Side
from elimtool.run.parts import frame
from elimtool.run.tables.comparison.stages import (
    SAMPLING_DIFFERENCES,
    STAGE_DIFFERENCES,
    SURVIVOR_DIFFERENCES,
)

_KEYS = ["chain", "stage", "number"]


def stage_differences(setting: Setting) -> Any:
    """Make the table of whether each target survives each stage on the two sides."""
    columns = ["chain", "stage", "stage_index", *TARGET, "alive_after", "prob_after", "margin"]
    found = []
    for side in (setting.a, setting.b):
        rows = side.rows("sampling_targets", columns)
        rows = setting.keyed(side, rows, ["chain", "stage_index"])
        rows = _numbered(rows, ["target", "key"]).rename(
            columns={"alive_after": "alive", "prob_after": "prob"}
        )
        if side.has("sampling"):
            left = side.rows("sampling", ["chain", "stage_index", "n_after"])
            rows = rows.merge(left, on=["prompt_id", "chain", "stage_index"], how="left", sort=False)
        else:
            rows["n_after"] = pd.array([None] * len(rows), dtype="Int32")
        found.append(rows)
    rows = joined(setting.pairs, found[0], found[1], [*_KEYS, "target", "key"], "outer")
    target = ["order", "chain", "target", "key"]
    common = joined(setting.pairs, _ends(found[0]), _ends(found[1]), target[1:])
    rows = rows.merge(common[target].drop_duplicates(), on=target, how="inner", sort=False)
    rows = with_differences(rows, ["prob", "margin", "n_after"])
    return table_of(STAGE_DIFFERENCES, rows, setting.unnamed)


def sampling_differences(setting: Setting) -> Any:
    """Make the table of what each stage removes on the two sides."""
    numbers = ["n_after", "mass_pruned", "entropy_after"]
    columns = ["chain", "stage", "stage_index", "active", "params", *numbers]
    a, b = (_numbered(side.rows("sampling", columns), []) for side in (setting.a, setting.b))
    both = set(a["chain"]) & set(b["chain"])
    a, b = (one[one["chain"].isin(both)] for one in (a, b))
    rows = with_differences(joined(setting.pairs, a, b, _KEYS, "outer"), numbers)
    return table_of(SAMPLING_DIFFERENCES, rows, setting.unnamed)


def survivor_differences(setting: Setting) -> Any:
    """Make the table of what a chain leaves to draw from on the two sides."""
    numbers = ["n_survivors", "entropy", "top_prob"]
    a, b = (_left(side) for side in (setting.a, setting.b))
    rows = with_differences(joined(setting.pairs, a, b, ["chain"]), numbers)
    if setting.chains and setting.a.run is setting.b.run and setting.a.has("chain_differences"):
        apart = _apart(setting.a, setting.chains)
        prompts = setting.pairs[["order", "prompt_id_a"]].rename(columns={"prompt_id_a": "prompt_id"})
        rows = rows.merge(prompts, on="order", sort=False).merge(
            apart, on="prompt_id", how="left", sort=False
        )
    return table_of(SURVIVOR_DIFFERENCES, rows, setting.unnamed)


def _numbered(rows: pd.DataFrame, within: list[str]) -> pd.DataFrame:
    """Add ``number``, which counts stages of one name in a chain from 0."""
    by = ["prompt_id", "chain", "stage", *within]
    return rows.assign(number=rows.groupby(by, sort=False, dropna=False).cumcount())


def _ends(rows: pd.DataFrame) -> pd.DataFrame:
    """List each chain and target of a prompt once."""
    columns = ["prompt_id", "chain", "target", "key"]
    return rows[columns].drop_duplicates()


def _left(side: Side) -> pd.DataFrame:
    """Read what each chain leaves from its last stage's row."""
    columns = ["chain", "stage_index", "n_after", "entropy_after", "top_token", "top_prob"]
    rows = side.rows("sampling", columns)
    last = rows.groupby(["prompt_id", "chain"], sort=False)["stage_index"].transform("max")
    found = rows[rows["stage_index"] == last].drop(columns="stage_index")
    return found.rename(columns={"n_after": "n_survivors", "entropy_after": "entropy"})


def _apart(side: Side, names: tuple[str, str]) -> pd.DataFrame:
    """Read how far apart two chains of one run leave the same output, the first as side A."""
    table = frame(side.run.arrow("chain_differences"))
    table = table.merge(side.positions, on=["prompt_id", "position"], how="inner", sort=False)
    straight = table[(table["chain"] == names[0]) & (table["other"] == names[1])]
    turned = table[(table["chain"] == names[1]) & (table["other"] == names[0])]
    columns = ["prompt_id", "total_variation", "n_only", "only", "n_only_other", "only_other"]
    forth = {"n_only": "n_only_a", "only": "only_a", "n_only_other": "n_only_b", "only_other": "only_b"}
    back = {"n_only": "n_only_b", "only": "only_b", "n_only_other": "n_only_a", "only_other": "only_a"}
    return pd.concat([straight[columns].rename(columns=forth), turned[columns].rename(columns=back)])
