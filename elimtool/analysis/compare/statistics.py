"""Fill the table of statistics from differences: means, intervals, p-values and q-values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from elimtool.analysis.compare.join import table_of
from elimtool.analysis.statistics.families import benjamini_hochberg
from elimtool.analysis.statistics.paired import MeanDifference, mean_differences
from elimtool.files.rows import Row
from elimtool.prompts.prompt import SINK
from elimtool.run.parts import frame
from elimtool.run.tables.comparison.statistics import STATISTICS

KEYS = ["metric", "layer", "chain", "stage", "span"]
LEAST = 2
"""Pairs that a group, category or tag needs for rows of its own."""


@dataclass(frozen=True, slots=True)
class TestedMetric:
    """One number of a comparison that is averaged over pairs.

    Attributes:
        table: Table of the comparison.
        column: Its name there, without ``_a``, ``_b`` or ``_difference``; the full name for a ratio.
        keys: Columns that tell its rows of a pair apart, besides targets.
        ratio: Whether the table has only the ratio of B to A.
        yes_no: Whether it is a truth value, so that its mean is a share.
    """

    table: str
    column: str
    keys: tuple[str, ...] = ()
    ratio: bool = False
    yes_no: bool = False

    @property
    def name(self) -> str:
        """Name in the table of statistics."""
        return f"{self.table}.{self.column}"


TESTED = (
    TestedMetric("verdict_differences", "survived", yes_no=True),
    TestedMetric("verdict_differences", "final_prob"),
    TestedMetric("verdict_differences", "final_logprob"),
    TestedMetric("verdict_differences", "rank_ratio", ratio=True),
    TestedMetric("stage_differences", "kept", ("chain",), yes_no=True),
    TestedMetric("sampling_differences", "mass_pruned", ("chain", "stage")),
    TestedMetric("sampling_differences", "n_after", ("chain", "stage")),
    TestedMetric("survivor_differences", "n_survivors", ("chain",)),
    TestedMetric("survivor_differences", "entropy", ("chain",)),
    TestedMetric("lens_differences", "logprob", ("layer",)),
    TestedMetric("lens_differences", "rank_ratio", ("layer",), ratio=True),
    TestedMetric("layer_differences", "entropy", ("layer",)),
    TestedMetric("layer_differences", "kl_to_final", ("layer",)),
    TestedMetric("layer_differences", "attention_entropy", ("layer",)),
    TestedMetric("layer_differences", "sink_mass", ("layer",)),
    TestedMetric("layer_differences", "eliminated_frac", ("layer",)),
    TestedMetric("attention_differences", "lift_no_sink", ("layer", "span")),
)
"""What is averaged; by group, category and tag only what has no layer."""
SHARES = frozenset(metric.name for metric in TESTED if metric.yes_no)


def statistics(tables: Mapping[str, Any], seed: int = 0) -> Any:
    """Make the table of mean differences over pairs, with intervals, p-values and q-values.

    A pair counts once for each metric, with the mean over its targets. Controls are left out. Units of
    resampling are templates if there are at least two, else groups, so that prompts of one wording count
    together; else, and within a group without templates, pairs. Each unit counts once, with the mean of its
    pairs. See ``mean_differences`` for intervals and p-values; q-values are adjusted over the tests of a
    scope that have a layer, and separately over those that have none.

    Args:
        tables: Tables of the comparison, ``pairs`` among them.
        seed: Seeds the resampling.
    """
    pairs = frame(tables["pairs"])
    pairs = pairs[(pairs["status"] == "ok") & pairs["control"].isna()].reset_index(drop=True)
    values = _values(tables, pairs)
    found = []
    for scope, value, members in _scopes(pairs):
        some = values[values["pair"].isin(members)]
        if scope != "all":
            some = some[some["layer"].isna() & some["span"].isna()]
        units = _units(pairs, "template" if scope == "group" else None)[members]
        tested = _tested(some, pd.Series(np.asarray(units), index=members), seed)
        found += [{"scope": scope, "value": value, **row} for row in tested]
    return table_of(STATISTICS, _adjusted(pd.DataFrame(found, columns=_COLUMNS)))


_COLUMNS = ["scope", "value", *KEYS, "n_pairs", "n_units", "mean_a", "mean_b", *MeanDifference._fields]


def _values(tables: Mapping[str, Any], pairs: pd.DataFrame) -> pd.DataFrame:
    """Average over a pair's targets: a row per pair and cell (metric, layer, chain, stage and span)."""
    number = pd.Series(pairs.index, index=pairs["pair_id"])
    found = []
    named = dict.fromkeys(metric.table for metric in TESTED if metric.table in tables)
    frames = {name: frame(tables[name]) for name in named}
    for metric in TESTED:
        if metric.table not in frames:
            continue
        rows = frames[metric.table]
        rows = rows[rows["pair_id"].isin(number.index)]
        if "is_foil" in rows:
            rows = rows[~rows["is_foil"]]
        if "span" in metric.keys:
            rows = _shared_spans(rows)
        if metric.column == "kept":
            rows = _kept(rows)
        if rows.empty:
            continue
        cells = pd.DataFrame({"pair": rows["pair_id"].map(number), "metric": metric.name})
        for key in KEYS[1:]:
            cells[key] = rows[key] if key in metric.keys else None
        cells["a"], cells["b"], cells["difference"] = _sides(metric, rows)
        cells = cells[np.isfinite(cells["difference"])]
        found.append(cells.groupby(["pair", *KEYS], sort=False, dropna=False, as_index=False).mean())
    columns = ["pair", *KEYS, "a", "b", "difference"]
    return pd.concat(found) if found else pd.DataFrame({name: [] for name in columns})


def _shared_spans(rows: pd.DataFrame) -> pd.DataFrame:
    """Keep spans that several pairs have by name; names of single tokens contain their index."""
    named = rows[~rows["span"].str.match(r"\d+:") & (rows["span"] != SINK)]
    pairs = named.groupby("span")["pair_id"].transform("nunique")
    return named[pairs >= LEAST]


def _kept(rows: pd.DataFrame) -> pd.DataFrame:
    """Say for each pair, chain and target text whether it is alive after every stage of a side's chain."""
    alive = {f"kept_{side}": rows[f"alive_{side}"].fillna(True).astype("float64") for side in "ab"}
    by = rows.assign(**alive).groupby(
        ["pair_id", "chain", "target"], sort=False, dropna=False, as_index=False
    )
    return by[[*alive]].min()


def _sides(metric: TestedMetric, rows: pd.DataFrame) -> tuple[Any, Any, Any]:
    if metric.ratio:
        return np.nan, np.nan, rows[metric.column].astype("float64")
    if metric.column == "survived":
        a, b = ((rows[f"outcome_{side}"] == "survived").astype("float64") for side in "ab")
        return a, b, b - a
    a, b = (rows[f"{metric.column}_{side}"].astype("float64") for side in "ab")
    if f"{metric.column}_difference" in rows:
        return a, b, rows[f"{metric.column}_difference"].astype("float64")
    return a, b, b - a


def _scopes(pairs: pd.DataFrame) -> Iterator[tuple[str, str | None, Any]]:
    """List the scopes, their values, and the pairs in each, by number."""
    yield "all", None, pairs.index.to_numpy()
    tags = pairs["tags"].explode()  # a pair is in the scope of each of its tags
    for scope, names in (("group", pairs["group"]), ("category", pairs["category"]), ("tag", tags)):
        for value, members in names.groupby(names, sort=True).groups.items():
            if len(members) >= LEAST:
                yield scope, str(value), np.asarray(members)


def _units(pairs: pd.DataFrame, only: str | None) -> Any:
    """Find each pair's unit of resampling: the first pair of its template or group, else itself.

    Args:
        pairs: The pairs.
        only: The one column that may name units; ``None`` for templates, else groups.
    """
    numbers = pd.Series(pairs.index, index=pairs.index)
    for name in ("template", "group") if only is None else (only,):
        if len(pairs.groupby(name, dropna=False)) >= LEAST:
            first = numbers.groupby(pairs[name]).transform("first")
            return first.where(pairs[name].notna(), numbers).to_numpy().astype(int)
    return numbers.to_numpy()


def _tested(values: pd.DataFrame, units: pd.Series[Any], seed: int) -> Iterator[Row]:
    """Test each cell of some pairs."""
    if values.empty:
        return
    cells = values.groupby(KEYS, sort=False, dropna=False)
    cell = cells.ngroup().to_numpy()
    unit, _ = pd.factorize(values["pair"].map(units))
    counts = np.zeros((unit.max() + 1, cell.max() + 1))
    np.add.at(counts, (unit, cell), 1)
    means = {}
    for side in ("a", "b", "difference"):
        sums = np.zeros_like(counts)
        np.add.at(sums, (unit, cell), values[side].to_numpy(float))
        means[side] = np.divide(sums, counts, out=np.full_like(counts, np.nan), where=counts > 0)
    rows = cells.size().reset_index().to_dict("records")
    shares = np.array([row["metric"] in SHARES for row in rows])
    tests = mean_differences(means["difference"], seed, np.where(shares, means["a"], np.nan))
    for index, row in enumerate(rows):
        known = counts[:, index] > 0
        numbers = {"n_pairs": int(counts[:, index].sum()), "n_units": int(known.sum())}
        sides = {f"mean_{side}": means[side][known, index].mean() for side in "ab"}
        yield {**{key: row[key] for key in KEYS}, **numbers, **sides, **tests[index]._asdict()}


def _adjusted(rows: pd.DataFrame) -> pd.DataFrame:
    """Add q-values over the tests of a scope by layer, or without one, and the name of that family."""
    q, families = pd.Series(np.nan, index=rows.index), pd.Series(None, index=rows.index, dtype="object")
    tested = rows[rows["p_value"].notna()]
    layered = tested["layer"].notna().map({True: "by layer", False: "without a layer"})
    kinds = tested["scope"].astype("str") + " " + layered
    for kind, index in tested.groupby(kinds, sort=False).groups.items():
        q[index] = benjamini_hochberg(rows.loc[index, "p_value"].to_numpy(float))
        families[index] = f"{len(index):,} tests of scope {kind}"
    return rows.assign(q_value=q, family=families)
