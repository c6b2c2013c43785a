"""Tell and draw which roles moved, appeared and vanished between two maps, and which layers changed."""

from __future__ import annotations

from collections.abc import Iterator

from elimtool.analysis.map.known import by_head
from elimtool.files.rows import Row, Rows
from elimtool.report.figures.figure import Cell, Figure, Heat, Line, Lines, Listing
from elimtool.report.map.figures import LETTERS
from elimtool.report.populations.section import Section
from elimtool.run.comparison import Comparison

NAMED = 5
"""Heads, or layers, of a sentence."""
LISTED = 100
"""Changed roles of the page's table."""
CHANGES = ("appeared", "vanished", "moved")
CERTAIN = 0.05
UNITS = {"text": "passages of text", "repeats": "probes that repeat", "control": "their controls"}
MEASURES = {
    "skip_kl": ("what is lost without a layer", " nats"),
    "influence": ("how much a layer changes", ""),
}
"""Measures of layers that are told: in words, and their unit."""


def maps_section(found: Comparison) -> Section:
    """Make the section of two maps."""
    rows = found.arrow("map_differences").to_pylist()
    by_measure: dict[str, Rows] = {}
    for row in rows:
        by_measure.setdefault(row["measure"], []).append(row)
    told = [_over(found)]
    if not any(row["score_difference"] for row in rows):
        told.append("Nothing differs.")
    else:
        roles = {name: some for name, some in by_measure.items() if some[0]["head"] is not None}
        told += [one for name, some in roles.items() for one in _role(name, some)]
        told += [one for name in MEASURES for one in _layers(name, by_measure.get(name, []))]
    heads = [row for row in rows if row["head"] is not None and row["change"] is not None]
    figures = [*_grid(heads), *_listing(heads), *_lines(by_measure)]
    return Section(_title(found), told, figures, found.notes)


def _title(found: Comparison) -> str:
    same = found.a.model == found.b.model
    return f"Two maps of {found.a.model}" if same else f"Maps of A {found.a.model}, B {found.b.model}"


def _over(found: Comparison) -> str:
    options = found.options
    assert isinstance(options, dict)
    units = {kind: count for kind, count in options["units"].items() if count}
    named = ", ".join(f"{UNITS.get(kind, kind)} {count}" for kind, count in units.items())
    return f"Differences are B minus A, over what both were measured on: {named}."


def _role(role: str, rows: Rows) -> Iterator[str]:
    """Count a role's heads on both sides, and name those that changed, the farthest apart first."""
    known = [row for row in rows if row["change"] is not None]
    if not known:
        yield f"{role}: cannot be compared."
        return
    a, b = (sum(bool(row[f"present_{side}"]) for row in known) for side in "ab")
    changed = {name: [row for row in known if row["change"] == name] for name in CHANGES}
    said = [f"{name}: {_named(some)}" for name, some in changed.items() if some]
    told = f"{role}: {a} of {len(known)} heads in A, {b} in B"
    if said:
        yield f"{told}; {'; '.join(said)}."
        return
    most = max(known, key=_apart)
    yield f"{told}; none appeared, vanished or moved (farthest apart: {_told(most)})."


def _named(rows: Rows) -> str:
    rows = sorted(rows, key=_apart, reverse=True)
    more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
    return ", ".join(map(_told, rows[:NAMED])) + more


def _apart(row: Row) -> float:
    return abs(float(row["score_difference"]))


def _told(row: Row, unit: str = "") -> str:
    """Tell a difference: where, both sides, and B minus A with its interval."""
    where = f"layer {row['layer']}" if row["head"] is None else f"{row['layer']}.{row['head']}"
    ends = "" if row["low"] is None else f", interval {row['low']:+.2f} to {row['high']:+.2f}"
    scores = f"{row['score_a']:.2f} to {row['score_b']:.2f}"
    return f"{where} {scores}{unit} ({row['score_difference']:+.2f}{ends})"


def _layers(name: str, rows: Rows) -> Iterator[str]:
    """Name the layers that differ most of those that certainly do."""
    said, unit = MEASURES[name]
    known = [row for row in rows if row["q"] is not None]
    certain = [row for row in known if row["q"] <= CERTAIN]
    if certain:
        named = ", ".join(_told(row, unit) for row in sorted(certain, key=_apart, reverse=True)[:NAMED])
        yield f"{said} differs in {len(certain)} of {len(known)} layers, most in {named}."
    elif known:
        yield f"{said} differs in none of {len(known)} layers by more than chance."


def _grid(rows: Rows) -> list[Heat]:
    """Draw of each head the role that is farthest apart among those that it has on a side."""
    each = by_head(rows)
    if not each:
        return []
    layers, heads = (sorted({one[axis] for one in each}) for axis in (0, 1))
    cells = [[each.get((layer, head), []) for head in heads] for layer in layers]
    grid = [[_farthest(some) for some in line] for line in cells]
    letters = ", ".join(f"{letter} {role}" for role, letter in LETTERS.items())
    return [
        Heat(
            name="map_differences",
            title="The role of each head that differs most",
            note=f"Of the roles that the head has in A or in B, the one whose scores are farthest apart: blue"
            f" where it is stronger in B, orange where it is weaker. {letters}.",
            row_title="layer",
            column_title="head",
            rows=[str(layer) for layer in layers],
            columns=[str(head) for head in heads],
            values=[[None if one is None else one["score_difference"] for one in line] for line in grid],
            unit="part",
            value_title="score in B minus score in A",
            words=[["" if one is None else LETTERS[one["measure"]] for one in line] for line in grid],
            details=[["; ".join(map(_detail, some)) for some in line] for line in cells],
            blank="the head has none of these roles on either side",
        )
    ]


def _farthest(rows: Rows) -> Row | None:
    present = [row for row in rows if row["present_a"] or row["present_b"]]
    return max(present, key=_apart, default=None)


def _detail(row: Row) -> str:
    changed = "" if row["change"] == "same" else f", {row['change']}"
    return f"{row['measure']} {row['score_a']:.2f} in A, {row['score_b']:.2f} in B{changed}"


def _listing(rows: Rows) -> list[Listing]:
    changed = sorted((row for row in rows if row["change"] in CHANGES), key=_apart, reverse=True)
    if not changed:
        return []
    listed: list[list[Cell]] = [
        [
            f"{row['layer']}.{row['head']}",
            row["measure"],
            row["change"],
            *(row[key] for key in ("score_a", "score_b", "score_difference", "low", "high", "q")),
        ]
        for row in changed[:LISTED]
    ]
    columns = ["head", "role", "change", "in A", "in B", "B minus A", "low", "high", "q"]
    more = f"; the farthest {LISTED} of {len(changed):,} are shown" if len(changed) > LISTED else ""
    return [
        Listing(
            name="map_changes",
            title="Roles that appeared, vanished or moved",
            note=f"With the 95 % interval over passages or probes, paired{more}.",
            columns=columns,
            rows=listed,
        )
    ]


def _lines(by_measure: dict[str, Rows]) -> list[Figure]:
    rows = by_measure.get("skip_kl", [])
    if not rows:
        return []
    return [
        Lines(
            name="map_layers",
            title="What is lost without each layer, in A and in B",
            note="Divergence of the output without the layer from the model's own.",
            layers=[row["layer"] for row in rows],
            lines=[
                Line(name=side.upper(), values=[row[f"score_{side}"] for row in rows], dashed=side == "b")
                for side in "ab"
            ],
            unit="nats",
        )
    ]
