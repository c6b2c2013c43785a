"""Draw coverage: the tree of categories, and how often first choices are right against what they claim."""

from __future__ import annotations

from elimtool.files.rows import Row, Rows
from elimtool.report.figures.figure import Bar, Bars, Estimate, Figure, Forest
from elimtool.report.figures.words import label
from elimtool.report.numbers import share

NODES = 80
"""Nodes that a tree shows."""


def coverage_figures(nodes: Rows, bins: Rows) -> list[Figure]:
    """Make the figures of a coverage.

    Args:
        nodes: Rows of table ``coverage``.
        bins: Rows of table ``calibration_bins``: of the output and of each stage.
    """
    last = {one["chain"]: one["stage"] for one in bins}
    ends = [[one for one in bins if (one["chain"], one["stage"]) == end] for end in last.items()]
    trees: list[Figure] = [_tree(nodes)] if nodes else []
    return [*trees, *(_reliability(some, number) for number, some in enumerate(ends) if len(some) > 1)]


def _reliability(bins: Rows, number: int) -> Forest:
    """Draw how often first choices are right in each bin, beside what they claim."""
    where = "before any chain" if bins[0]["chain"] is None else f"after {bins[0]['chain']}"
    return Forest(
        name=f"coverage_reliability{f'_{number + 1}' if number else ''}",
        title=f"How often first choices are right, by what they claim, {label(where)}",
        note="Bins of equal count. Bars are 95 % intervals (Wilson); where the dot is filled, what is claimed"
        " lies outside: the probability cannot be taken at its word.",
        label_title="claimed",
        value_title="right",
        rows=[
            Estimate(
                share(one["confidence"]),
                one["accuracy"],
                one["ci_low"],
                one["ci_high"],
                f"{one['n']:,} places",
                not one["ci_low"] <= one["confidence"] <= one["ci_high"],
            )
            for one in bins
        ],
    )


def _tree(nodes: Rows) -> Bars:
    shown = nodes[:NODES]
    left = f" {len(nodes) - NODES} more are in table coverage." if len(nodes) > NODES else ""
    return Bars(
        name="coverage_tree",
        title="How often the right side wins, by category",
        note="Each category below the one that it is part of, with its 95 % interval; above leaves the mean"
        f" over leaves.{left}",
        label_title="category",
        value_title="accuracy",
        bars=[Bar(_indented(one), one["accuracy"] or 0.0, _remark(one)) for one in shown],
    )


def _indented(row: Row) -> str:
    name = row["title"] or row["node"].rsplit("/", 1)[-1] or "all"
    return label("\u2002" * 2 * row["depth"] + name)


def _remark(row: Row) -> str:
    if not row["n_items"]:
        return "no items"
    said = f"{share(row['accuracy'])} ({share(row['ci_low'])} to {share(row['ci_high'])})"
    said += f", {row['n_items']:,} items"
    return said if row["covered"] is None else f"{said}, {'covered' if row['covered'] else 'not covered'}"
