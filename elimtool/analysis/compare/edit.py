"""Read off an alignment what an edit of a prompt changed, and where."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from elimtool.files.rows import Rows


@dataclass(frozen=True, slots=True)
class Segment:
    """Neighbouring tokens of one prompt that the other prompt has too, or lacks.

    Attributes:
        text: Their text.
        changed: Whether the other prompt lacks them.
        first: Index of the first token.
        last: Index of the last token.
    """

    text: str
    changed: bool
    first: int
    last: int


def segments(rows: Rows, side: str) -> list[Segment]:
    """Divide a prompt into what the other prompt shares and what it lacks.

    Args:
        rows: Rows of the table ``alignment`` of one pair.
        side: ``a`` or ``b``.
    """
    own = [row for row in rows if row[f"token_{side}"] is not None]
    found = []
    for equal, run in groupby(own, key=lambda row: bool(row["operation"] == "equal")):
        part = list(run)
        text = "".join(row[f"token_{side}"] for row in part)
        found.append(Segment(text, not equal, part[0][f"index_{side}"], part[-1][f"index_{side}"]))
    return found


def added(rows: Rows, side: str = "b") -> list[Segment]:
    """List what one prompt has and the other lacks."""
    return [one for one in segments(rows, side) if one.changed]
