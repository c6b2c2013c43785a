"""Judge what repetition did: from which copy on the next is called, and whether other text does as much."""

from __future__ import annotations

from math import log
from typing import Literal

from elimtool.files.rows import Rows

SAME = 1e-3
"""Differences of a log-probability (nats) up to this are rounding, however rare the tokens are."""
LEAST = 1e-300
"""What a probability that rounding made 0 counts as."""


def onset(rows: Rows) -> int | None:
    """Return the least number of copies from which the next copy's first token stays first; None if never.

    Args:
        rows: Rows of table ``resonance`` of one prompt, by number of copies.
    """
    found = None
    for row in rows:
        if row["first_rank"] != 1:
            found = None
        elif found is None:
            found = int(row["copies"])
    return found


def standing(rows: Rows) -> Literal["echo", "none", "less", "constant"]:
    """Compare the mean probability at the most copies with that after other text of their length.

    Args:
        rows: Rows of table ``resonance`` of one prompt, by number of copies.

    Returns:
        ``echo`` above, ``less`` below and ``none`` within what 95 % of the draws of other text give;
        ``constant`` where no number changes with that of copies.
    """
    last = rows[-1]
    heights = [log(max(row["tp"], LEAST)) for row in rows]
    if len(rows) > 1 and max(heights) - min(heights) <= SAME:
        return "constant"
    if last["tp"] > last["tp_control_high"]:
        return "echo"
    return "less" if last["tp"] < last["tp_control_low"] else "none"
