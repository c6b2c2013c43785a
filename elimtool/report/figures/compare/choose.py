"""Choose one figure of a comparison by name."""

from __future__ import annotations

from elimtool.errors import ElimError, nearest
from elimtool.report.compare.maps import maps_section
from elimtool.report.figures.choose import first_picture, listed
from elimtool.report.figures.compare.overview import COMPARED, Compared
from elimtool.report.figures.compare.pair import PAIR, PairRows
from elimtool.report.figures.figure import Figure
from elimtool.report.keyed import Keyed
from elimtool.run.comparison import Comparison

LISTINGS = ("alignment", "heads", "flips", "stages", "statistics")
"""Figures of the page that are tables, not pictures."""
OF_PAIR = tuple(name for name in PAIR if name not in LISTINGS)
OF_COMPARISON = tuple(name for name in COMPARED if name not in LISTINGS)
NAMES = OF_PAIR + OF_COMPARISON


def choose(comparison: Comparison, name: str, pair: str | None = None) -> Figure:
    """Make the figure of a name.

    Args:
        comparison: What was compared.
        name: One of ``NAMES``.
        pair: Id of the pair, for figures of one; may be left out where the comparison has one alone.

    Raises:
        ElimError: No such figure or pair, or the comparison lacks the tables for it.
    """
    if comparison.kind == "maps":
        return _of_maps(comparison, name)
    if name not in NAMES:
        raise ElimError(f"a comparison has no figure '{name}'", nearest(name, NAMES))
    tables = Keyed(comparison, "pair_id")
    if name in OF_COMPARISON:
        if pair is not None:
            raise ElimError(f"`prompt` does not go with figure '{name}'", "leave it out")
        return first_picture(COMPARED[name](Compared(tables)), name, "the comparison")
    rows = {row["pair_id"]: row for row in tables.all("pairs")}
    if pair is None and len(rows) != 1:
        raise ElimError(f"the comparison has {len(rows):,} pairs", f"say which with `prompt`: {listed(rows)}")
    if pair is not None and pair not in rows:
        raise ElimError(f"the comparison has no pair '{pair}'", f"its pairs: {listed(rows)}")
    row = rows[pair] if pair is not None else next(iter(rows.values()))
    if row["status"] != "ok":
        raise ElimError("the pair could not be compared", str(row["error_message"] or ""))
    return first_picture(PAIR[name](PairRows(tables, row)), name, "the comparison")


def _of_maps(comparison: Comparison, name: str) -> Figure:
    figures = {one.name: one for one in maps_section(comparison).figures}
    known = tuple(one for one in figures if one != "map_changes")
    if name not in known:
        raise ElimError(f"a comparison of these maps has no figure '{name}'", nearest(name, known))
    return figures[name]
