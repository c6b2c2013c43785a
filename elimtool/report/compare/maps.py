"""Tell and draw what differs between two maps: roles, what heads keep, how far they look, layers, neurons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from elimtool.analysis.map.known import by_head
from elimtool.files.rows import Row, Rows
from elimtool.report.figures.figure import Cell, Figure, Heat, HeatView, Line, Lines, Listing
from elimtool.report.figures.palette import steps_around_zero
from elimtool.report.map.figures import LETTERS
from elimtool.report.populations.section import Section
from elimtool.run.comparison import Comparison
from elimtool.run.roles import KEPT

NAMED = 5
"""Heads, or layers, of a sentence."""
FEW = 3
"""Heads of a sentence on a category, of which there are many."""
LISTED = 100
"""Changed roles of the page's table."""
CHANGES = ("appeared", "vanished", "moved")
CERTAIN = 0.05
UNITS = {"text": "passages of text", "repeats": "probes that repeat", "control": "their controls"}
MEASURES = {
    "skip_kl": ("what is lost without a layer", " nats"),
    "influence": ("how much a layer changes", ""),
    "open": ("the share of neurons that is open", ""),
}
"""Measures of layers that are told: in words, and their unit."""
COUNTS = {"never_open": "never opened", "always_open": "were never shut"}


def maps_section(found: Comparison) -> Section:
    """Make the section of two maps."""
    rows = found.arrow("map_differences").to_pylist()
    by_part: dict[str, dict[str, Rows]] = {}
    for row in rows:
        by_part.setdefault(row["part"], {}).setdefault(row["measure"], []).append(row)
    by_measure = {name: some for part in by_part.values() for name, some in part.items()}
    told = [_over(found)]
    if not any(row["score_difference"] for row in rows):
        told.append("Nothing differs.")
    else:
        told += [one for name, some in by_part.get("roles", {}).items() for one in _role(name, some)]
        told += [one for name, some in by_part.get("categories", {}).items() for one in _kept(name, some)]
        told += _reach(by_measure.get("reach", []))
        told += [one for name in MEASURES for one in _layers(name, by_measure.get(name, []))]
        told += [one for name in COUNTS for one in _counts(name, by_measure.get(name, []))]
    heads = [row for row in rows if row["head"] is not None and row["change"] is not None]
    looks = [row for row in rows if row["head"] is not None and row["part"] != "roles"]
    figures = [*_grid(heads, looks), *_listing(heads), *_looks(looks), *_lines(by_measure)]
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
    told = f"{role}: {a:,} of {len(known):,} heads in A, {b:,} in B"
    if said:
        yield f"{told}; {'; '.join(said)}."
        return
    most = max(known, key=_apart)
    yield f"{told}; none appeared, vanished or moved (farthest apart: {_told(most)})."


def _named(rows: Rows) -> str:
    rows = sorted(rows, key=_apart, reverse=True)
    more = f" and {len(rows) - NAMED:,} more" if len(rows) > NAMED else ""
    return ", ".join(map(_told, rows[:NAMED])) + more


def _apart(row: Row) -> float:
    return abs(float(row["score_difference"]))


def _told(row: Row, unit: str = "") -> str:
    """Tell a difference: where, both sides, and B minus A with its interval."""
    where = f"layer {row['layer']}" if row["head"] is None else f"{row['layer']}.{row['head']}"
    ends = "" if row["low"] is None else f", interval {row['low']:+.2f} to {row['high']:+.2f}"
    scores = f"{row['score_a']:.2f} to {row['score_b']:.2f}"
    return f"{where} {scores}{unit} ({row['score_difference']:+.2f}{ends})"


def _kept(category: str, rows: Rows) -> Iterator[str]:
    """Name the heads that keep more, or less, of a category; nothing where none certainly does."""
    yield from _certainly(f"selectivity for {KEPT.get(category, category)}", rows)


def _reach(rows: Rows) -> Iterator[str]:
    yield from _certainly("the mean distance that heads look back", rows, " tokens")


def _certainly(said: str, rows: Rows, unit: str = "") -> Iterator[str]:
    certain = sorted((row for row in rows if _is_certain(row)), key=_apart, reverse=True)
    if certain:
        more = f" and {len(certain) - FEW:,} more" if len(certain) > FEW else ""
        named = ", ".join(_told(row, unit) for row in certain[:FEW])
        yield f"{said} differs in {len(certain):,} of {len(rows):,} heads, most in {named}{more}."
    elif rows:
        yield f"{said} differs in none of {len(rows):,} heads by more than chance."


def _is_certain(row: Row) -> bool:
    return row["q"] is not None and row["q"] <= CERTAIN


def _counts(name: str, rows: Rows) -> Iterator[str]:
    if rows:
        a, b = (sum(int(row[f"score_{side}"]) for row in rows) for side in "ab")
        yield f"{a:,} neurons {COUNTS[name]} in A, {b:,} in B (over all passages of each)."


def _layers(name: str, rows: Rows) -> Iterator[str]:
    """Name the layers that differ most of those that certainly do."""
    said, unit = MEASURES[name]
    known = [row for row in rows if row["q"] is not None]
    certain = [row for row in known if _is_certain(row)]
    if certain:
        named = ", ".join(_told(row, unit) for row in sorted(certain, key=_apart, reverse=True)[:NAMED])
        yield f"{said} differs in {len(certain):,} of {len(known):,} layers, most in {named}."
    elif known:
        yield f"{said} differs in none of {len(known):,} layers by more than chance."


def _grid(rows: Rows, looks: Rows) -> list[Heat]:
    """Draw of each head the role that is farthest apart among those that it has on a side, or other numbers.

    Args:
        rows: Roles of heads.
        looks: What else differs of heads.
    """
    each = by_head([*rows, *looks])
    if not each:
        return []
    layers, heads = (sorted({one[axis] for one in each}) for axis in (0, 1))
    places = [[(layer, head) for head in heads] for layer in layers]
    known = by_head(rows)
    details = [["; ".join(map(_detail, known.get(head, []))) for head in line] for line in places]
    views = [*([_role_view(known, places)] if rows else []), *_look_views(looks, places)]
    first = views[0]
    return [
        Heat(
            name="map_differences",
            title="What differs most of each head",
            note="B minus A: blue where B has more, orange where A has.",
            row_title="layer",
            column_title="head",
            rows=[str(layer) for layer in layers],
            columns=[str(head) for head in heads],
            values=first.values,
            unit=first.unit,
            value_title=first.value_title,
            steps=first.steps,
            words=first.words,
            details=details,
            blank=first.blank,
            views=views if len(views) > 1 else (),
        )
    ]


Places = list[list[tuple[int, int]]]


def _role_view(known: Mapping[tuple[int, int], Rows], places: Places) -> HeatView:
    grid = [[_farthest(known.get(head, [])) for head in line] for line in places]
    some = {row["measure"] for rows in known.values() for row in rows}
    letters = ", ".join(f"{letter} {role}" for role, letter in LETTERS.items() if role in some)
    return HeatView(
        title="strongest difference of a role",
        note=f"Of the roles that the head has in A or in B, the one whose scores are farthest apart:"
        f" {letters}.",
        values=[[None if one is None else one["score_difference"] for one in line] for line in grid],
        unit="part",
        value_title="score in B minus score in A",
        words=[["" if one is None else LETTERS[one["measure"]] for one in line] for line in grid],
        blank="the head has none of these roles on either side",
    )


def _look_views(rows: Rows, places: Places) -> Iterator[HeatView]:
    """What heads keep of each category, and how far they look; + where the difference is certain."""
    for measure in dict.fromkeys(row["measure"] for row in rows if row["q"] is not None):
        own = {(row["layer"], row["head"]): row for row in rows if row["measure"] == measure}
        cells = [[own.get(head) for head in line] for line in places]
        values = [[None if one is None else one["score_difference"] for one in line] for line in cells]
        is_reach = measure == "reach"
        said = "mean distance" if is_reach else f"selectivity for {KEPT.get(measure, measure)}"
        yield HeatView(
            title=said,
            note=f"Difference of the {said}; + where it is certain (q at most {CERTAIN:g}).",
            values=values,
            unit="logits" if is_reach else "part",
            value_title=f"{said}{' in tokens' if is_reach else ''}, B minus A",
            steps=steps_around_zero(one for line in values for one in line) if is_reach else (),
            words=[["+" if one is not None and _is_certain(one) else "" for one in line] for line in cells],
        )


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


def _looks(rows: Rows) -> list[Listing]:
    """List the heads that certainly keep more or less of a category, or look farther or less far."""
    certain = sorted((row for row in rows if _is_certain(row)), key=_apart, reverse=True)
    if not certain:
        return []
    keys = ("score_a", "score_b", "score_difference", "low", "high", "q")
    listed: list[list[Cell]] = [
        [
            f"{row['layer']}.{row['head']}",
            _what(row["measure"]),
            *(row[key] for key in keys),
        ]
        for row in certain[:LISTED]
    ]
    more = f"; the farthest {LISTED} of {len(certain):,} are shown" if len(certain) > LISTED else ""
    return [
        Listing(
            name="map_looks",
            title="What heads keep, and how far they look",
            note=f"Certain differences of selectivities (times) and mean distances (tokens), paired{more}.",
            columns=["head", "what", "in A", "in B", "B minus A", "low", "high", "q"],
            rows=listed,
        )
    ]


def _what(measure: str) -> str:
    return "mean distance" if measure == "reach" else f"keeps {KEPT.get(measure, measure)}"


LINES = {
    "skip_kl": (
        "map_layers",
        "What is lost without each layer, in A and in B",
        "Divergence of the output without the layer from the model's own.",
        "nats",
    ),
    "open": (
        "map_neurons",
        "How many neurons of each layer are open, in A and in B",
        "Mean over tokens and passages of the share of neurons whose gate is above 0.",
        "share",
    ),
}
"""Measure of layers -> name, title, note and unit of its figure."""


def _lines(by_measure: dict[str, Rows]) -> list[Figure]:
    return [
        Lines(
            name=name,
            title=title,
            note=note,
            layers=[row["layer"] for row in rows],
            lines=[
                Line(name=side.upper(), values=[row[f"score_{side}"] for row in rows], dashed=side == "b")
                for side in "ab"
            ],
            unit=unit,
        )
        for measure, (name, title, note, unit) in LINES.items()
        if (rows := by_measure.get(measure, []))
    ]
