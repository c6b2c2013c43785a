"""List all heads of a map in one table, to sort by any of its columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from elimtool.analysis.map.known import best_kept, strongest
from elimtool.files.rows import Rows
from elimtool.report.figures.figure import Cell, Listing
from elimtool.report.map.profiles import ADDRESS, Head, Profiles
from elimtool.run.roles import spelled

NONE = "none"
"""What a head has that has no role."""
KERNELS = {
    "d50": "d50", "d90": "d90", "self_bias_position": "self-bias by position",
    "self_bias_net": "with content", "kernel_r": "kernel r",
}  # fmt: skip

Columns = dict[str, Callable[[Head], Cell]]


def head_listing(profiles: Profiles) -> Listing:
    """Make the table, with the columns of what was mapped.

    Args:
        profiles: What is known of each head.
    """
    columns: Columns = {
        "head": lambda head: f"{head[0]}.{head[1]}",
        **_roles(profiles),
        **_selectivity(profiles),
        **_kernels(profiles),
    }
    told = [said for column, said in TOLD.items() if column in columns]
    return Listing(
        name="map_heads",
        title="All heads",
        note=" ".join(["Choose a column's name to sort by it, a head to open it.", *told]),
        columns=list(columns),
        rows=[[cell(head) for cell in columns.values()] for head in profiles.heads],
        links=ADDRESS,
    )


TOLD = {
    "role": "role: the one that is farthest over its null; the columns behind it have the score of each.",
    "keeps": "keeps: the category of the largest selectivity of those that it keeps beyond chance, corrected"
    " over all heads (q up to 0.05); unequal: how unequal categories are to the head (0 to 1).",
    "d50": "d50, d90: distances within which half and nine tenths of its attention over even attention is.",
}


def _roles(profiles: Profiles) -> Columns:
    table = profiles.tables["head_roles"]
    known = dict.fromkeys(row["role"] for some in table.values() for row in some)
    if not known:
        return {}

    def role(head: Head) -> Cell:
        chosen = strongest(table.get(head, []))
        return NONE if chosen is None else spelled(chosen["role"])

    return {"role": role, **{spelled(one): _score(table, one) for one in known}}


def _score(table: Mapping[Head, Rows], role: str) -> Callable[[Head], Cell]:
    def score(head: Head) -> Cell:
        return next((row["score"] for row in table.get(head, []) if row["role"] == role), None)

    return score


def _selectivity(profiles: Profiles) -> Columns:
    table = profiles.tables["head_categories"]

    def kept(head: Head) -> Cell:
        best = best_kept(table.get(head, []))
        return None if best is None else best["category"]

    unequal = _one_row(profiles, "head_selectivity", {"selectivity_index": "unequal"})
    return {**({"keeps": kept} if table else {}), **unequal}


def _kernels(profiles: Profiles) -> Columns:
    return _one_row(profiles, "head_kernels", KERNELS)


def _one_row(profiles: Profiles, name: str, named: dict[str, str]) -> Columns:
    """Make columns of a table with one row a head; none where it was not mapped."""
    table = profiles.tables[name]

    def column(key: str) -> Callable[[Head], Cell]:
        def cell(head: Head) -> Cell:
            return next((row[key] for row in table.get(head, [])), None)

        return cell

    return {said: column(key) for key, said in named.items()} if table else {}
