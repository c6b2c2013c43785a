"""Compare what became of each target on two sides, and find those that only one side eliminates."""

from __future__ import annotations

from typing import Any

import pandas as pd

from elimtool.analysis.compare.join import joined, log_ratio, table_of, with_differences
from elimtool.analysis.compare.setting import Setting
from elimtool.analysis.compare.side import TARGET, Side, without_foils
from elimtool.analysis.fate import removes
from elimtool.run.rules import NUCLEUS, SURFACED
from elimtool.run.tables.comparison.verdicts import FLIPS, VERDICT_DIFFERENCES


def verdict_differences(setting: Setting) -> Any:
    """Make the table of what became of each target on the two sides."""
    rows = setting.verdicts
    rows = rows.assign(
        changed=rows["outcome_a"] != rows["outcome_b"],
        rank_ratio=log_ratio(rows["final_rank_b"], rows["final_rank_a"]),
    )
    rows = with_differences(rows, ["final_prob", "final_logprob", "eliminator_dla", "promoter_dla"])
    return table_of(VERDICT_DIFFERENCES, rows)


def flips(setting: Setting) -> Any:
    """Make the table of targets that only one side eliminates, with the layer or stage that does it.

    By ``rules``: a layer eliminates a target that it drops out of the top-10 for good, a stage one that it
    removes, the output one that is outside its 0.95 nucleus.
    """
    layers = _by_layer(setting)
    found = [*layers, *_by_output(setting, layers), *_by_stage(setting)]
    if not found:
        return FLIPS.from_rows([])
    rows = pd.concat([one for one in found if len(one)] or found[:1])
    finals = without_foils(setting.finals)
    columns = ["order", "target", "key"]
    columns += [f"{name}_{side}" for name in ("rank", "prob", *TARGET[1:]) for side in "ab"]
    rows = rows.merge(finals[columns], on=["order", "target", "key"], how="left", sort=False)
    rows = rows.rename(columns={"target": "token"}).sort_values("order", kind="stable")
    return table_of(FLIPS, rows, {"is_target": True})


def _marked(rows: pd.DataFrame, side: str, where: str, **columns: Any) -> pd.DataFrame:
    kept = rows[["order", "pair_id", "target", "key"]]
    return kept.assign(eliminated_in=side, where=where, **columns)


def _by_layer(setting: Setting) -> list[pd.DataFrame]:
    """Find targets lost between layers on one side and in the top-10 of the other's output."""
    if not setting.both("verdicts"):
        return []
    rows = setting.verdicts
    found = []
    for side, other in ("ab", "ba"):
        lost = rows[rows[f"lost_layer_{side}"].notna() & (rows[f"final_rank_{other}"] <= SURFACED)]
        found.append(_marked(lost, side, "layer", layer=lost[f"lost_layer_{side}"]))
    return found


def _by_output(setting: Setting, explained: list[pd.DataFrame]) -> list[pd.DataFrame]:
    """Find targets in the nucleus of only one side's output, except those that a layer explains."""
    if not setting.both("survival"):
        return []
    a, b = (setting.keyed(side, _nucleus(side)) for side in (setting.a, setting.b))
    rows = joined(setting.pairs, a, b, ["target", "key"])
    on = ["order", "target", "key", "eliminated_in"]
    found = []
    for side, other in ("ab", "ba"):
        out = rows[~rows[f"inside_{side}"] & rows[f"inside_{other}"]]
        marked = _marked(out, side, "output")
        for known in explained:
            marked = marked.merge(known[on].drop_duplicates(), on=on, how="left", indicator=True, sort=False)
            marked = marked[marked["_merge"] == "left_only"].drop(columns="_merge")
        found.append(marked)
    return found


def _nucleus(side: Side) -> pd.DataFrame:
    """Say for each target whether it is in the 0.95 nucleus of the output."""
    rows = side.rows("survival", [*TARGET, "min_top_p", "rank"])
    before = rows["min_top_p"].where(rows["min_top_p"].notna() | (rows["rank"] != 1), 0.0)
    return rows.assign(inside=before < NUCLEUS).drop(columns=["min_top_p", "rank"])


def _by_stage(setting: Setting) -> list[pd.DataFrame]:
    """Find targets that a chain removes on only one side."""
    if not setting.both("sampling_targets"):
        return []
    a, b = (_cut(setting, side) for side in (setting.a, setting.b))
    rows = joined(setting.pairs, a, b, ["chain", "target", "key"])
    found = []
    for side, other in ("ab", "ba"):
        cut = rows[rows[f"stage_{side}"].notna() & rows[f"stage_{other}"].isna()]
        chain = setting.chains["ab".index(side)] if setting.chains else cut["chain"]
        found.append(_marked(cut, side, "stage", chain=chain, stage=cut[f"stage_{side}"]))
    return found


def _cut(setting: Setting, side: Side) -> pd.DataFrame:
    """Make a row per chain and target: the stage that removes it, null if it survives."""
    columns = ["chain", "stage", "stage_index", *TARGET, "alive_before", "alive_after"]
    rows = setting.keyed(side, side.rows("sampling_targets", columns), ["chain", "stage_index"])
    keys = ["prompt_id", "chain", "target", "key"]
    whole = rows[keys].drop_duplicates()
    removed = rows[removes(rows)][[*keys, "stage"]]
    return whole.merge(removed, on=keys, how="left", sort=False)
