"""Make the figures of a whole comparison: outcomes on both sides, pairs that moved most, statistics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from elimtool.files.rows import Row
from elimtool.report.figures.compare.pair import PairRows
from elimtool.report.figures.figure import Bar, Bars, Cell, Columns, Figure, Listing, Stack, StackRow
from elimtool.report.figures.overview import OUTCOMES, spelled
from elimtool.report.figures.words import label
from elimtool.report.keyed import Keyed

MOST_MOVED = 20
MOST_STATISTICS = 60
SURE = 0.05
"""False discovery rate below which a difference is counted."""


class Compared:
    """The rows that these figures share: those of pairs that are not controls."""

    def __init__(self, tables: Keyed) -> None:
        self.tables = tables
        self.pairs = [row for row in tables.all("pairs") if row["control"] is None and row["status"] == "ok"]
        self.ids = {row["pair_id"] for row in self.pairs}

    def rows(self, name: str) -> list[Row]:
        """Rows of a table that belong to these pairs."""
        return [row for row in self.tables.all(name) if row["pair_id"] in self.ids]


def overview(tables: Keyed) -> list[Figure]:
    """Make every figure of a comparison that its tables can fill."""
    view = Compared(tables)
    return [one for make in COMPARED.values() for one in make(view)]


def outcomes(view: Compared) -> list[Figure]:
    """Count the targets by outcome on both sides, and the outcomes that changed."""
    rows = view.rows("verdict_differences")
    if not rows:
        return []
    counted = {side: Counter(row[f"outcome_{side}"] for row in rows) for side in "ab"}
    keys = [one for one in OUTCOMES if counted["a"][one] or counted["b"][one]]
    shares = [StackRow(side.upper(), [counted[side][key] for key in keys]) for side in "ab"]
    changed = Counter((row["outcome_a"], row["outcome_b"]) for row in rows if row["changed"])
    found: list[Figure] = [
        Stack(
            name="outcomes",
            title="What became of the targets",
            note=f"{sum(changed.values()):,} of {len(rows):,} targets end otherwise in B than in A.",
            label_title="side",
            keys=[spelled(key) for key in keys],
            rows=shares,
        )
    ]
    if changed:
        listed: list[list[Cell]] = [[spelled(a), spelled(b), n] for (a, b), n in changed.most_common()]
        found.append(
            Listing(
                name="changes",
                title="Outcomes that changed",
                columns=["in A", "in B", "targets"],
                rows=listed,
            )
        )
    return found


def moved(view: Compared) -> list[Figure]:
    """Rank the pairs by how far their targets moved."""
    most: dict[str, float] = {}
    for row in view.rows("verdict_differences"):
        change = row["final_logprob_difference"]
        if change is not None and abs(change) >= abs(most.get(row["pair_id"], 0.0)):
            most[row["pair_id"]] = change
    ranked = sorted((key for key, change in most.items() if change), key=lambda key: -abs(most[key]))
    if not ranked:
        return []
    titles = {row["pair_id"]: PairRows(view.tables, row).title for row in view.pairs}
    return [
        Bars(
            name="moved",
            title="Pairs that moved most",
            note="Of each pair the target whose final log-probability changes most, B minus A, in nats.",
            label_title="pair",
            value_title="nats",
            bars=[Bar(titles[key], most[key], prompt=key) for key in ranked[:MOST_MOVED]],
        )
    ]


def onsets(view: Compared) -> list[Figure]:
    """Count the layers after which pairs part beyond their controls."""
    counts = Counter(row["onset_layer"] for row in view.pairs if row["onset_layer"] is not None)
    if not counts:
        return []
    layers = range(min(counts), max(counts) + 1)
    return [
        Columns(
            name="onsets",
            title="Layers after which pairs part beyond their controls",
            note=f"{sum(counts.values()):,} of {len(view.pairs):,} pairs do.",
            x_title="layer",
            value_title="pairs",
            labels=[str(layer) for layer in layers],
            values=[counts[layer] for layer in layers],
        )
    ]


def statistics(view: Compared) -> list[Figure]:
    """List mean differences with their intervals, the smallest q first."""
    rows = [row for row in view.tables.all("statistics") if row["scope"] == "all"]
    rows.sort(key=lambda row: (row["q_value"] is None, row["q_value"], -abs(row["mean_difference"])))
    if not rows:
        return []
    sure = sum(1 for row in rows if row["q_value"] is not None and row["q_value"] < SURE)
    more = f" {len(rows) - MOST_STATISTICS:,} more are in the table." if len(rows) > MOST_STATISTICS else ""
    note = f"{sure:,} of {len(rows):,} differ at a false discovery rate of {SURE:.0%}.{more}"
    return [
        Listing(
            name="statistics",
            title="Differences over all pairs",
            note=note,
            columns=["metric", "where", "pairs", "mean difference", "95 % from", "to", "q"],
            rows=[
                [
                    row["metric"],
                    _where(row),
                    row["n_pairs"],
                    *(row[name] for name in ("mean_difference", "ci_low", "ci_high", "q_value")),
                ]
                for row in rows[:MOST_STATISTICS]
            ],
        )
    ]


def _where(row: Row) -> str:
    """Span, layer, chain and stage of a statistic."""
    layer = "" if row["layer"] is None else f"layer {row['layer']}"
    parts = (label(row["span"] or ""), layer, label(row["chain"] or ""), label(row["stage"] or ""))
    return " ".join(part for part in parts if part)


COMPARED: dict[str, Callable[[Compared], Sequence[Figure]]] = {
    "outcomes": outcomes,
    "moved": moved,
    "onsets": onsets,
    "statistics": statistics,
}
