"""Choose one figure of a comparison by name."""

from __future__ import annotations

from collections.abc import Sequence

from elimtool.errors import ElimError, nearest
from elimtool.report.facts import Keyed
from elimtool.report.figures.compare.overview import COMPARED, Compared
from elimtool.report.figures.compare.pair import PAIR, PairRows
from elimtool.report.figures.figure import Figure, Listing
from elimtool.report.figures.words import MOST_NAMED
from elimtool.run.comparison import Comparison

LISTINGS = ("alignment", "heads", "flips", "stages", "statistics")
"""Figures of the page that are tables, no pictures."""
OF_PAIR = tuple(name for name in PAIR if name not in LISTINGS)
OF_COMPARISON = tuple(name for name in COMPARED if name not in LISTINGS)
NAMES = OF_PAIR + OF_COMPARISON


def choose(comparison: Comparison, name: str, pair: str | None = None) -> Figure:
    """The figure of a name.

    Args:
        comparison: What was compared.
        name: One of ``NAMES``.
        pair: Id of the pair, for figures of one; may be left out where the comparison has one alone.

    Raises:
        ElimError: No such figure or pair, or the comparison lacks the tables for it.
    """
    if name not in NAMES:
        raise ElimError(f"a comparison has no figure '{name}'", nearest(name, NAMES))
    tables = Keyed(comparison, "pair_id")
    if name in OF_COMPARISON:
        if pair is not None:
            raise ElimError(f"`prompt` does not go with figure '{name}'", "leave it out")
        return _first(COMPARED[name](Compared(tables)), name)
    table = tables.arrow("pairs")
    rows = {row["pair_id"]: row for row in ([] if table is None else table.to_pylist())}
    if pair is None and len(rows) != 1:
        raise ElimError(f"the comparison has {len(rows):,} pairs", f"say which with `prompt`: {_named(rows)}")
    if pair is not None and pair not in rows:
        raise ElimError(f"the comparison has no pair '{pair}'", f"its pairs: {_named(rows)}")
    row = rows[pair] if pair is not None else next(iter(rows.values()))
    if row["status"] != "ok":
        raise ElimError("the pair could not be compared", str(row["error_message"] or ""))
    return _first(PAIR[name](PairRows(tables, row)), name)


def _named(names: Sequence[str] | dict[str, object]) -> str:
    listed = list(names)
    more = f" and {len(listed) - MOST_NAMED:,} more" if len(listed) > MOST_NAMED else ""
    return ", ".join(listed[:MOST_NAMED]) + more


def _first(found: Sequence[Figure], name: str) -> Figure:
    pictures = [one for one in found if not isinstance(one, Listing)]
    if not pictures:
        raise ElimError(
            f"the comparison has nothing to show as '{name}'",
            "its tables are missing, or hold nothing of the kind",
        )
    return pictures[0]
