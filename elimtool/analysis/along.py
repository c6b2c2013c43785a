"""Judge how an answer fares along a text: from where on it stands, and whether the text's order makes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from elimtool.files.rows import Row, Rows

CHANCE = 0.05
"""Greatest probability that as many tops are in the last segment by chance, for it to be called copying."""


@dataclass(frozen=True)
class AlongText:
    """What becomes of the most probable token along a text.

    Attributes:
        count: Segments.
        settled: Fewest segments from which on the most probable token is that after all of them.
        aoc: Share of shorter beginnings with another one (area over the curve): 0 where the text does not
            matter, near 1 where only the whole text leads to it.
        orders: Other orders that were read.
        same: Of these, those that lead to the same token.
        copied: Those that lead to a token that their last segment has.
        expected: How many would do so by chance, if the last segment were any of the text's.
        p_value: Probability of as many by chance; None without orders.
        filler_same: Whether as many tokens that say nothing lead to the same.
    """

    count: int
    settled: int
    aoc: float
    orders: int
    same: int
    copied: int
    expected: float
    p_value: float | None
    filler_same: bool

    @property
    def copies(self) -> bool:
        """Whether the model takes its answer from whatever stands last."""
        return self.p_value is not None and self.p_value <= CHANCE


def along_text(rows: Rows) -> AlongText:
    """Judge one prompt.

    Args:
        rows: Its rows of table ``answers_along``, of any number of answers.
    """
    first = rows[0]["answer"], rows[0]["is_foil"]
    own = [row for row in rows if (row["answer"], row["is_foil"]) == first]
    text = sorted(_of(own, "text"), key=lambda row: int(row["k"]))
    shuffled = _of(own, "shuffled")
    alike = [bool(row["same"]) for row in text]
    changed = [k for k, same in enumerate(alike) if not same]
    before = alike[:-1]
    shares = [float(row["share_holding"]) for row in shuffled]
    copied = sum(bool(row["copied"]) for row in shuffled)
    return AlongText(
        count=len(before),
        settled=changed[-1] + 1 if changed else 0,
        aoc=before.count(False) / len(before) if before else 0.0,
        orders=len(shuffled),
        same=sum(bool(row["same"]) for row in shuffled),
        copied=copied,
        expected=sum(shares),
        p_value=at_least(shares, copied) if shuffled else None,
        filler_same=any(row["same"] for row in _of(own, "filler")),
    )


def at_least(shares: Sequence[float], hits: int) -> float:
    """Compute the probability of so many successes or more in trials of these probabilities."""
    counts = [1.0]  # probability of 0, 1, ... successes so far
    for share in shares:
        pairs = zip([*counts, 0.0], [0.0, *counts], strict=True)
        counts = [stays * (1 - share) + rises * share for stays, rises in pairs]
    return min(1.0, sum(counts[hits:]))


def _of(rows: Rows, arrangement: str) -> list[Row]:
    return [row for row in rows if row["arrangement"] == arrangement]
