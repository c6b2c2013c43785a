"""Draw what is behind a head of the grid: roles, what it keeps, how far it looks, partners, examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from elimtool.analysis.map.known import by_head, keeps
from elimtool.files.rows import Row, Rows
from elimtool.report.figures.figure import Cell, Estimate, Figure, Forest, Line, Lines, Listing
from elimtool.report.figures.words import SCREEN, quoted

Head = tuple[int, int]
HEADS = (
    "head_roles", "head_categories", "head_selectivity", "head_distances", "head_kernels", "head_examples",
)  # fmt: skip
"""Tables with rows of single heads."""
PARTNERS = 5
"""Most partners that are listed of a head, those whose attention is most alike."""
ADDRESS = "#head="
"""What the address of a map's page ends in to open a head, before ``LAYER.HEAD``."""


class Profiles:
    """What a map found of each head.

    Args:
        rows: Rows by table; parts that were left out have none.
    """

    def __init__(self, rows: Mapping[str, Rows]) -> None:
        self.tables = {name: by_head(rows.get(name, [])) for name in HEADS}
        self.pairs = _of_both(rows.get("head_pairs", []))
        self.interactions = _of_both(rows.get("head_interactions", []))

    @cached_property
    def heads(self) -> list[Head]:
        """All heads, in order."""
        return sorted({head for table in self.tables.values() for head in table})

    def opens(self, head: Head) -> list[dict[str, Any]]:
        """Return the figures of a head, as JSON."""
        makers = (self._roles, self._keeps, self._looks, self._partners, self._losses, self._examples)
        return [one.to_json() for make in makers for one in make(head)]

    def _roles(self, head: Head) -> Iterator[Figure]:
        if roles := self.tables["head_roles"].get(head):
            yield Forest(
                name="map_head_roles",
                title=f"Roles of head {_name(head)}",
                label_title="role",
                value_title="score",
                rows=[_role(row) for row in roles],
                mark_title="null",
            )

    def _keeps(self, head: Head) -> Iterator[Figure]:
        categories = [
            row for row in self.tables["head_categories"].get(head, ()) if row["selectivity"] is not None
        ]
        if categories:
            yield Forest(
                name="map_head_categories",
                title=f"What head {_name(head)} keeps",
                note="Attention on each category over what its distances explain; 1 is indifferent. Filled:"
                " kept beyond chance, corrected over all heads (q up to 0.05).",
                label_title="category",
                value_title="times",
                rows=[_category(row) for row in sorted(categories, key=lambda row: -row["selectivity"])],
                mark_title="indifferent",
            )

    def _looks(self, head: Head) -> Iterator[Figure]:
        distances = self.tables["head_distances"].get(head, [])
        at = [row["distance"] for row in distances]
        if any(row["lift"] is not None for row in distances):
            yield Lines(
                name="map_head_lift",
                title=f"How far head {_name(head)} looks",
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
                title=f"What position explains of head {_name(head)}",
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

    def _partners(self, head: Head) -> Iterator[Figure]:
        known = [row for row in self.pairs.get(head, ()) if row["js"] is not None]
        if known:
            known.sort(key=lambda row: row["js"])
            yield Listing(
                name="map_head_partners",
                title=f"Heads that attend most like head {_name(head)}",
                note="js: divergence of the two heads' attention (bits, 0 is alike), beside that of the same"
                " positions in other texts; cka: likeness of what they write; affinity: of the spaces that"
                " they write to, beside that of random ones.",
                columns=["head", "same group", "js", "js, other text", "cka", "affinity", "affinity, random"],
                rows=[
                    [
                        _name(_other(row, head)),
                        "yes" if row["same_group"] else "no",
                        *(row[one] for one in ("js", "js_null", "cka", "affinity", "affinity_null")),
                    ]
                    for row in known[:PARTNERS]
                ],
                links=ADDRESS,
            )

    def _losses(self, head: Head) -> Iterator[Figure]:
        known = [row for row in self.interactions.get(head, ()) if row["interaction"] is not None]
        if known:
            columns = ("effect_both", "interaction", "low", "high", "null_low", "null_high")
            yield Listing(
                name="map_head_losses",
                title=f"What is lost without head {_name(head)} and another one",
                note="Rise of the loss (nats) without the heads. Interaction: what is lost without both over"
                " the sum of each; above 0 each hides the other's loss, under 0 they work in series.",
                columns=[
                    *("head", "without it", "without both", "interaction", "low", "high"),
                    *("random pairs, low", "high"),
                ],
                rows=[
                    [_name(_other(row, head)), row[f"effect_{'b' if _first(row, head) else 'a'}"]]
                    + [row[one] for one in columns]
                    for row in known
                ],
                links=ADDRESS,
            )  # fmt: skip

    def _examples(self, head: Head) -> Iterator[Figure]:
        rows = self.tables["head_examples"].get(head, [])
        by_example: dict[int, Rows] = {}
        for row in rows:
            by_example.setdefault(row["example"], []).append(row)
        if by_example:
            yield Listing(
                name="map_head_examples",
                title=f"Where head {_name(head)} attends most",
                note="Of three passages the query, in brackets behind the text before it, that gives most"
                " attention to one token; and the tokens that it attends to. They are the strongest ones, not"
                " typical ones.",
                columns=["text up to the query", "attends to", "so far before", "passage"],
                rows=[_example(some) for some in by_example.values()],
            )


def _example(rows: Rows) -> list[Cell]:
    first = rows[0]
    # the largest one, and whatever has at least a twentieth
    shown = [row for place, row in enumerate(rows) if not place or row["weight"] >= 0.05]
    return [
        f"{SCREEN.visible(first['before'])} [{SCREEN.visible(first['query_token'].strip(' '))}]",
        ", ".join(f"{quoted(row['key_token'])} {row['weight']:.0%}" for row in shown),
        ", ".join(str(row["query"] - row["key"]) for row in shown),
        first["passage"],
    ]


def _name(head: Head) -> str:
    return f"{head[0]}.{head[1]}"


def _first(row: Row, head: Head) -> bool:
    return (row["layer_a"], row["head_a"]) == head


def _other(row: Row, head: Head) -> Head:
    side = "b" if _first(row, head) else "a"
    return row[f"layer_{side}"], row[f"head_{side}"]


def _of_both(rows: Rows) -> dict[Head, Rows]:
    """Group rows on pairs of heads by each of the two."""
    found: dict[Head, Rows] = {}
    for row in rows:
        for side in "ab":
            found.setdefault((row[f"layer_{side}"], row[f"head_{side}"]), []).append(row)
    return found


def _role(row: Row) -> Estimate:
    said = "not measurable" if row["score"] is None else "present" if row["present"] else ""
    return Estimate(
        row["role"], row["score"], row["low"], row["high"], said, bool(row["present"]), row["null"]
    )


def _category(row: Row) -> Estimate:
    ends = row["low"], row["high"]
    return Estimate(
        row["category"], row["selectivity"], *ends, f"{row['n_tokens']:,} tokens", keeps(row), 1.0
    )
