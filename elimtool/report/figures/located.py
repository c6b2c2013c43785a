"""Draw what patching restores and destroys: layers x positions for each site, layers x heads for heads."""

from __future__ import annotations

from collections.abc import Sequence

from elimtool.files.rows import Row, Rows
from elimtool.report.facts import Probe
from elimtool.report.figures.figure import Figure, Heat
from elimtool.report.figures.words import label, quoted
from elimtool.report.locate.rows import by_cell, locations

SITES = {"residual": "Residual stream", "attention": "Attention output", "mlp": "MLP output"}
KINDS = {
    "r": ("restores", "share of the gap that the clean state restores"),
    "q": ("destroys", "share of the gap that the corrupt state destroys"),
}
NOTE = (
    "Each cell was run with that one state exchanged between the clean and the corrupt prompt. Small cells do"
    " not exceed the 95th percentile of what states of unrelated prompts do at the same place."
)
NOTHING = " Nothing can be located: the gap between the two runs is too small, so no cell counts."
SMALL_AS = "does not exceed the null"
MOST = 200
"""Positions of a map, the last ones."""


def located_maps(probe: Probe) -> list[Figure]:
    """Map each site that was patched, in both directions."""
    rows = locations(probe)
    pairs = probe.rows("location_pairs")
    if not rows or not pairs:
        return []
    patched = {row["site"] for row in rows}
    found: list[Figure] = [
        _map(probe, rows, pairs[0], site, kind) for site in SITES if site in patched for kind in KINDS
    ]
    single = [row for row in rows if row["head"] is not None]
    return [*found, *(_heads(single, pairs[0], kind) for kind in KINDS if single)]


def _map(probe: Probe, rows: Rows, pair: Row, site: str, kind: str) -> Heat:
    grid = by_cell(rows, site)
    layers = sorted({layer for layer, _ in grid}, reverse=True)
    positions = sorted({position for _, position in grid})[-MOST:]
    tokens = probe.shown
    drawn = [[grid[layer, position] for position in positions] for layer in layers]
    return _heat(
        pair,
        kind,
        SITES[site],
        layers,
        [f"{at}: {label(tokens[at].strip(' ') or tokens[at])}" for at in positions],
        "position",
        drawn,
    )


def _heads(rows: Rows, pair: Row, kind: str) -> Heat:
    """Each head at the position at which it does most."""
    best: dict[tuple[int, int], Row] = {}
    for row in rows:
        key = (row["layer"], row["head"])
        if key not in best or abs(row[kind] or 0.0) > abs(best[key][kind] or 0.0):
            best[key] = row
    layers = sorted({layer for layer, _ in best}, reverse=True)
    heads = sorted({head for _, head in best})
    drawn = [[best.get((layer, head)) for head in heads] for layer in layers]
    return _heat(pair, kind, "Single heads", layers, [str(one) for one in heads], "head", drawn)


def _heat(
    pair: Row,
    kind: str,
    what: str,
    layers: Sequence[int],
    columns: Sequence[str],
    column_title: str,
    drawn: Sequence[Sequence[Row | None]],
) -> Heat:
    verb, meaning = KINDS[kind]
    against = "" if pair["foil"] is None else f" against {quoted(pair['foil'])}"
    dimmed = [
        (row, column)
        for row, line in enumerate(drawn)
        for column, one in enumerate(line)
        if one is not None and not one[f"{kind}_counts"]
    ]
    return Heat(
        name="locations",
        title=f"{what}: what {verb} {quoted(pair['target'])}{against}",
        note=NOTE + ("" if pair["located"] else NOTHING),
        row_title="layer",
        column_title=column_title,
        rows=["embedding" if layer < 0 else str(layer) for layer in layers],
        columns=list(columns),
        values=[[None if one is None else one[kind] for one in line] for line in drawn],
        unit="restored",
        value_title=meaning,
        details=[
            ["" if one is None else _told(one, kind, pair["located"]) for one in line] for line in drawn
        ],
        blank="not patched",
        dimmed=dimmed,
        dimmed_as=SMALL_AS,
    )


def _told(row: Row, kind: str, located: bool) -> str:
    """What stands behind a cell: the null, and what was patched together."""
    if row["extent"] == "shared":
        return "before the first difference: both runs are the same here"
    null, seen = row[f"{kind}_null"], row.get(f"{kind}_null_n")
    if null is not None:
        said = f"null {null:.2f}"
    elif seen:
        said = f"settled after {seen} unrelated prompts: enough of them do as much"
    else:
        said = "negligible, so no null was run" if located else "no null was run"
    if row["extent"] == "stretch":
        said += f"; patched together: layers {row['layer']} to {row['last_layer']}"
        said += f", positions {row['position']} to {row['last_position']}"
    return said + (f"; at position {row['position']}" if row["head"] is not None else "")
