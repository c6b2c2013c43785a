"""Draw what is behind each head of the grid: its roles, what it keeps, and how far it looks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from elimtool.analysis.map.known import by_head, strongest
from elimtool.files.rows import Row, Rows
from elimtool.report.figures.figure import Estimate, Figure, Forest, Line, Lines, Listing

Head = tuple[int, int]


class Profiles:
    """What a map found of each head.

    Args:
        rows: Rows by table; parts that were left out have none.
    """

    def __init__(self, rows: Mapping[str, Rows]) -> None:
        names = ("head_roles", "head_categories", "head_selectivity", "head_distances", "head_kernels")
        self.tables = {name: by_head(rows[name]) for name in names}

    @cached_property
    def heads(self) -> list[Head]:
        """All heads, in order."""
        return sorted({head for table in self.tables.values() for head in table})

    def opens(self, head: Head) -> list[dict[str, Any]]:
        """Return the figures of a head, as JSON."""
        return [one.to_json() for one in self._figures(head)]

    def _figures(self, head: Head) -> Iterator[Figure]:
        if roles := self.tables["head_roles"].get(head):
            yield Forest(
                name="map_head_roles",
                title=f"Roles of head {head[0]}.{head[1]}",
                label_title="role",
                value_title="score",
                rows=[_role(row) for row in roles],
                mark_title="null",
            )
        categories = [
            row for row in self.tables["head_categories"].get(head, ()) if row["selectivity"] is not None
        ]
        if categories:
            yield Forest(
                name="map_head_categories",
                title=f"What head {head[0]}.{head[1]} keeps",
                note="Attention on each category over what its distances explain; 1 is indifferent.",
                label_title="category",
                value_title="times",
                rows=[_category(row) for row in sorted(categories, key=lambda row: -row["selectivity"])],
                mark_title="indifferent",
            )
        yield from self._looks(head)

    def _looks(self, head: Head) -> Iterator[Figure]:
        distances = self.tables["head_distances"].get(head, [])
        at = [row["distance"] for row in distances]
        if any(row["lift"] is not None for row in distances):
            yield Lines(
                name="map_head_lift",
                title=f"How far head {head[0]}.{head[1]} looks",
                note="Attention by distance over what even attention gives it.",
                layers=at,
                lines=[Line("attention over even attention", [row["lift"] for row in distances])],
                unit="ratio",
                axis="distance",
            )
        named = {"score": "mean score on text", "kernel": "mean query on mean key: position alone"}
        lines = [
            Line(said, [row[name] for row in distances], dashed=name == "kernel")
            for name, said in named.items()
            if any(row[name] is not None for row in distances)
        ]
        if lines:
            yield Lines(
                name="map_head_kernel",
                title=f"What position explains of head {head[0]}.{head[1]}",
                note=self._kernel_told(head),
                layers=at,
                lines=lines,
                unit="ratio",
                axis="distance",
            )

    def _kernel_told(self, head: Head) -> str:
        (row,) = self.tables["head_kernels"][head]
        if row["no_kernel"]:
            return f"No kernel: {row['no_kernel']}."
        fit = "" if row["kernel_r"] is None else f" They correlate by {row['kernel_r']:.2f}."
        return (
            f"Scores in logits.{fit} The token itself against the one before:"
            f" {row['self_bias_position']:+.2f} by position, {row['self_bias_net']:+.2f} with content."
        )

    def listing(self) -> Listing:
        """Make a table of all heads, to sort by any column."""
        columns = {"head": "", "role": "", "score": "", "null": "", "keeps": "", "unequal": "", "d50": "",
                   "d90": "", "self-bias by position": "", "with content": "", "kernel r": ""}  # fmt: skip
        return Listing(
            name="map_heads",
            title="All heads",
            note="Choose a column's name to sort by it. keeps: the category of the largest selectivity;"
            " unequal: how unequal categories are to the head (0 to 1); d50, d90: distances within which half"
            " and nine tenths of its attention over even attention is.",
            columns=list(columns),
            rows=[self._line(head) for head in self.heads],
        )

    def _line(self, head: Head) -> list[Any]:
        role = strongest(self.tables["head_roles"].get(head, []))
        kept, looks = (
            next(iter(self.tables[name].get(head, [])), {}) for name in ("head_selectivity", "head_kernels")
        )
        return [
            f"{head[0]}.{head[1]}",
            None if role is None else role["role"],
            None if role is None else role["score"],
            None if role is None else role["null"],
            kept.get("kept"),
            kept.get("selectivity_index"),
            *(looks.get(name) for name in ("d50", "d90", "self_bias_position", "self_bias_net", "kernel_r")),
        ]


def _role(row: Row) -> Estimate:
    said = "not measurable" if row["score"] is None else "present" if row["present"] else ""
    return Estimate(
        row["role"], row["score"], row["low"], row["high"], said, bool(row["present"]), row["null"]
    )


def _category(row: Row) -> Estimate:
    low, high = row["low"], row["high"]
    certain = low is not None and (low > 1 or high < 1)
    return Estimate(
        row["category"], row["selectivity"], low, high, f"{row['n_tokens']:,} tokens", certain, 1.0
    )
