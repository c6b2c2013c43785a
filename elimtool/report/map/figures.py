"""Draw the heads of a map: a grid of layers and heads with the role of each."""

from __future__ import annotations

from elimtool.analysis.map.known import strongest
from elimtool.files.rows import Row
from elimtool.report.figures.figure import Heat
from elimtool.report.map.profiles import Profiles

LETTERS = {
    "induction": "I",
    "duplicate": "D",
    "previous": "P",
    "suppressing": "S",
    "copying": "C",
    "dormant": "-",
    "sink": "o",
}
"""Role -> its letter in the grid. Of sinks and dormant heads there are many: any other role goes before."""


def role_grid(profiles: Profiles) -> Heat:
    """Draw which role each head has, and how strongly; a cell opens what else is known of the head.

    Args:
        profiles: What is known of each head.
    """
    layers, heads = (sorted({one[axis] for one in profiles.heads}) for axis in (0, 1))
    roles = profiles.tables["head_roles"]
    grid = [[roles.get((layer, head), []) for head in heads] for layer in layers]
    chosen = [[strongest(some) for some in line] for line in grid]
    letters = ", ".join(f"{letter} {role}" for role, letter in LETTERS.items())
    return Heat(
        name="map_roles",
        title="The role of each head",
        note=f"The letter is the strongest role that is present, the colour its score: {letters}. The last"
        " two are named where no other is. Choose a head for all that is known of it.",
        row_title="layer",
        column_title="head",
        rows=[str(layer) for layer in layers],
        columns=[str(head) for head in heads],
        values=[[None if one is None else one["score"] for one in line] for line in chosen],
        unit="share",
        value_title="score of the role",
        words=[["" if one is None else LETTERS[one["role"]] for one in line] for line in chosen],
        details=[["; ".join(map(told, some)) for some in line] for line in grid],
        blank="the head has none of these roles" if roles else "roles were not mapped",
        opens=[[profiles.opens((layer, head)) for head in heads] for layer in layers],
    )


def told(row: Row) -> str:
    """Tell one score of a head."""
    if row["score"] is None:
        return f"{row['role']} not measurable"
    said = f"{row['role']} {row['score']:.2f}"
    return said if row["null"] is None else f"{said} (null {row['null']:.2f})"
