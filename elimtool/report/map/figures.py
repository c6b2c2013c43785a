"""Draw the heads of a map: a grid of layers and heads, coloured by role or by another number of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from elimtool.analysis.map.known import keeps, strongest
from elimtool.files.rows import Row, Rows
from elimtool.report.figures.figure import Heat, HeatView
from elimtool.report.figures.palette import steps_around_zero
from elimtool.report.map.profiles import Head, Profiles
from elimtool.run.roles import KEPT, spelled

LETTERS = {
    "induction": "I",
    "duplicate": "D",
    "previous": "P",
    "suppressing": "S",
    "copying": "C",
    "retrieval": "R",
    "successor": "N",
    "dormant": "-",
    "sink": "o",
}
"""Role -> its letter in the grid. Of sinks and dormant heads there are many: any other role goes before."""
COLOURS = {
    "previous": 0, "induction": 1, "duplicate": 2, "copying": 3, "suppressing": 4, "retrieval": 5,
    "successor": 5, "dormant": 6, "sink": 6,
}  # fmt: skip
"""Role -> its colour, of ``Heat.kinds``; roles that share one differ by their letters."""
REACH = (1.0, 2.0, 4.0, 8.0, 16.0, 24.0, 32.0)
"""Borders of d50, in tokens."""


def head_grid(profiles: Profiles) -> Heat:
    """Draw all heads, by what was mapped of them; a cell opens what is known of the head.

    Args:
        profiles: What is known of each head.
    """
    layers, heads = (sorted({one[axis] for one in profiles.heads}) for axis in (0, 1))
    grid = [[(layer, head) for head in heads] for layer in layers]
    views = [one for make in VIEWS for one in make(profiles, grid)]
    roles = profiles.tables["head_roles"]
    first = views[0]
    return Heat(
        name="map_roles",
        title="The role of each head" if roles else "All heads by layer",
        note="Choose a head for all that is known of it (with the keyboard: arrows, then Enter).",
        row_title="layer",
        column_title="head",
        rows=[str(layer) for layer in layers],
        columns=[str(head) for head in heads],
        values=first.values,
        unit=first.unit,
        value_title=first.value_title,
        steps=first.steps,
        words=first.words,
        details=[["; ".join(map(told, roles.get(head, []))) for head in line] for line in grid],
        blank=first.blank,
        kinds=first.kinds,
        kind_names=first.kind_names,
        views=views if len(views) > 1 else (),
        opens=[[profiles.opens(head) for head in line] for line in grid],
    )


Grid = list[list[Head]]


def _roles(profiles: Profiles, grid: Grid) -> Iterator[HeatView]:
    """The strongest role of each head, then the score of each role."""
    roles = profiles.tables["head_roles"]
    if not roles:
        return
    chosen = [[strongest(roles.get(head, [])) for head in line] for line in grid]
    known = list(dict.fromkeys(row["role"] for some in roles.values() for row in some))
    yield HeatView(
        title="strongest role",
        note="The role that is present and farthest over its null; dormant and sink where no other is.",
        values=[[None if one is None else one["score"] for one in line] for line in chosen],
        unit="share",
        value_title="role",
        words=[["" if one is None else LETTERS[one["role"]] for one in line] for line in chosen],
        blank="none of these roles",
        kinds=[[None if one is None else COLOURS[one["role"]] for one in line] for line in chosen],
        kind_names={
            str(colour): ", ".join(
                f"{LETTERS[role]} {spelled(role)}" for role in known if COLOURS[role] == colour
            )
            for colour in sorted({COLOURS[role] for role in known})
        },
    )
    for role in known:
        cells = [[_of(roles.get(head, []), "role", role) for head in line] for line in grid]
        yield HeatView(
            title=spelled(role),
            note=f"Score of each head as {spelled(role)}; marked where the role is present.",
            values=[[one.get("score") for one in line] for line in cells],
            unit="share",
            value_title=f"score: {spelled(role)}",
            words=[[LETTERS[role] if one.get("present") else "" for one in line] for line in cells],
        )


def _categories(profiles: Profiles, grid: Grid) -> Iterator[HeatView]:
    """How much of each category each head keeps."""
    rows = profiles.tables["head_categories"]
    for category in dict.fromkeys(row["category"] for some in rows.values() for row in some):
        cells = [[_of(rows.get(head, []), "category", category) for head in line] for line in grid]
        named = KEPT.get(category, category)
        yield HeatView(
            title=f"keeps {named}",
            note=f"Attention on {named} over what its distances explain; + where q is at most 0.05.",
            values=[[one.get("selectivity") for one in line] for line in cells],
            unit="lift",
            value_title=f"selectivity: {named}",
            words=[["+" if keeps(one) else "" for one in line] for line in cells],
        )


def _distances(profiles: Profiles, grid: Grid) -> Iterator[HeatView]:
    """How far each head looks, and whether it likes the neighbour better than the token itself."""
    rows = profiles.tables["head_kernels"]
    if not rows:
        return
    cells = [[next(iter(rows.get(head, [])), {}) for head in line] for line in grid]
    yield HeatView(
        title="how far it looks",
        note="d50: distance within which half of the head's attention over even attention is.",
        values=[[one.get("d50") for one in line] for line in cells],
        unit="tokens",
        value_title="d50 in tokens",
        steps=REACH,
    )
    bias = [[one.get("self_bias_net") for one in line] for line in cells]
    if any(one is not None for line in bias for one in line):
        yield HeatView(
            title="itself against its neighbour",
            note="Score of a token on itself less that on the one before, content counted: blue likes itself"
            " better, orange the neighbour.",
            values=bias,
            unit="logits",
            value_title="self-bias in logits",
            steps=steps_around_zero(one for line in bias for one in line),
        )


VIEWS: tuple[Callable[[Profiles, Grid], Iterator[HeatView]], ...] = (_roles, _categories, _distances)
"""What the grid can be coloured by, in order: the first that was mapped is shown."""


def _of(rows: Rows, column: str, value: str) -> Row:
    return next((row for row in rows if row[column] == value), {})


def told(row: Row) -> str:
    """Tell one score of a head."""
    if row["score"] is None:
        return f"{row['role']} not measurable"
    said = f"{row['role']} {row['score']:.2f}"
    return said if row["null"] is None else f"{said} (null {row['null']:.2f})"
