"""Draw coverage: the tree of categories, and how often first choices are right against what they claim."""

from __future__ import annotations

from elimtool.files.rows import Row, Rows
from elimtool.report.figures.figure import Estimate, Figure, Forest
from elimtool.report.figures.words import label
from elimtool.report.numbers import share

NODES = 80
"""Nodes that a tree shows."""
SAME = 1e-6
"""Largest difference of claims that is rounding."""


def coverage_figures(nodes: Rows, bins: Rows, unknown: Rows) -> list[Figure]:
    """Make the figures of a coverage.

    Args:
        nodes: Rows of table ``coverage``.
        bins: Rows of table ``calibration_bins``: of the output and of each stage.
        unknown: Rows of table ``abstention``.
    """
    last = {one["chain"]: one["stage"] for one in bins}
    ends = [[one for one in bins if (one["chain"], one["stage"]) == end] for end in last.items()]
    told = [
        some for number, some in enumerate(ends) if len(some) > 1 and not (number and alike(some, ends[0]))
    ]
    trees: list[Figure] = [_tree(nodes)] if nodes else []
    abstained: list[Figure] = [_abstention(unknown)] if len(unknown) > 1 else []
    return [*trees, *(_reliability(some, number) for number, some in enumerate(told)), *abstained]


def alike(bins: Rows, output: Rows) -> bool:
    """Return whether a chain leaves each bin of the output as it is."""
    pairs = zip(bins, output, strict=True)
    return all(abs(one["confidence"] - other["confidence"]) < SAME for one, other in pairs)


def _reliability(bins: Rows, number: int) -> Forest:
    """Draw how often first choices are right in each bin, beside what they claim."""
    where = "before any chain" if bins[0]["chain"] is None else f"after {bins[0]['chain']}"
    return Forest(
        name=f"coverage_reliability{f'_{number + 1}' if number else ''}",
        title=f"How often first choices are right, by what they claim, {label(where)}",
        note="Bins of equal count. The dot is how often they are right, with its 95 % interval (Wilson); the"
        " tick is what they claim. Where the dot is filled the claim lies outside: the probability cannot be"
        " taken at its word.",
        label_title="claimed",
        value_title="share",
        mark_title="claimed",
        rows=[
            Estimate(
                share(one["confidence"]),
                one["accuracy"],
                one["ci_low"],
                one["ci_high"],
                f"{one['n']:,} places",
                not one["ci_low"] <= one["confidence"] <= one["ci_high"],
                one["confidence"],
            )
            for one in bins
        ],
    )


def _abstention(groups: Rows) -> Forest:
    """Draw how probable it is in each group that the model says that it does not know."""
    reference = next((one for one in groups if one["group"] == _reference(groups)), None)
    beside = None if reference is None else reference["mass"]
    held = "" if reference is None else f" The tick is '{reference['group']}'."
    return Forest(
        name="coverage_abstention",
        title="How probable a phrase of not knowing is, by group",
        note=f"Mean over prompts, with its 95 % interval (Student's t).{held} Where the dot is filled matched"
        " prompts differ: the interval of their difference leaves out 0.",
        label_title="group",
        value_title="share",
        mark_title="" if reference is None else str(reference["group"]),
        rows=[
            Estimate(
                label(one["group"] or "no group"),
                one["mass"],
                one["ci_low"],
                one["ci_high"],
                f"{one['n_prompts']:,} prompts",
                one["difference_low"] is not None and one["difference_low"] * one["difference_high"] > 0,
                None if one["reference"] is None else beside,
            )
            for one in groups
        ],
    )


def _reference(groups: Rows) -> str | None:
    return next((one["reference"] for one in groups if one["reference"] is not None), None)


def _tree(nodes: Rows) -> Forest:
    shown = nodes[:NODES]
    left = f" {len(nodes) - NODES:,} more are in table coverage." if len(nodes) > NODES else ""
    guessed = any(one["chance"] is not None for one in shown)
    tick = " The tick is guessing; where the dot is filled it lies outside the interval." if guessed else ""
    return Forest(
        name="coverage_tree",
        title="How often the right side wins, by category",
        note="Each category below the one that it is part of, with its 95 % interval; above leaves the mean"
        f" over leaves.{tick}{left}",
        label_title="category",
        value_title="share",
        mark_title="guessing" if guessed else "",
        rows=[_node(one) for one in shown],
    )


def _node(row: Row) -> Estimate:
    low, high, chance = row["ci_low"], row["ci_high"], row["chance"]
    beyond = chance is not None and low is not None and not low <= chance <= high
    name = row["title"] or row["node"].rsplit("/", 1)[-1] or "all"
    return Estimate(label(name), row["accuracy"], low, high, _remark(row), beyond, chance, row["depth"])


def _remark(row: Row) -> str:
    if not row["n_items"]:
        return "no items"
    said = f"{share(row['ci_low'])} to {share(row['ci_high'])}, {row['n_items']:,} items"
    return said if row["covered"] is None else f"{said}, {'covered' if row['covered'] else 'not covered'}"
