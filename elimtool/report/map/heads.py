"""Tell what heads keep beyond what distance explains, and how far they look."""

from __future__ import annotations

from statistics import median

from elimtool.analysis.map.categories import ranked
from elimtool.analysis.map.known import KEPT
from elimtool.analysis.statistics.proportions import wilson
from elimtool.files.rows import Rows

NAMED = 3
"""Heads that a sentence names."""
FITS = 0.9
"""Correlation of kernel and scores from which position explains them."""


def category_sentences(rows: Rows) -> list[str]:
    """Tell the table ``head_categories``: for each category the heads that keep it, the best first."""
    told = []
    for category in dict.fromkeys(row["category"] for row in rows):
        known = [row for row in rows if row["category"] == category and row["selectivity"] is not None]
        best = list(ranked(rows, category))
        if best:
            named = ", ".join(
                f"{row['layer']}.{row['head']} {row['selectivity']:.2g} times"
                f" ({row['low']:.2g} to {row['high']:.2g})"
                for row in best[:NAMED]
            )
            told.append(
                f"{category}: {len(best):,} of {len(known):,} heads keep it more than distance explains"
                f" (q {KEPT:g} over heads): {named}."
            )
        elif known:
            told.append(
                f"{category}: none of {len(known):,} heads keeps it more than distance explains"
                f" (q {KEPT:g} over heads)."
            )
    return told


def distance_sentences(rows: Rows) -> list[str]:
    """Tell the table ``head_kernels``: how far heads look, and whether they like the token before better."""
    told = []
    looks = [row["d50"] for row in rows if row["d50"] is not None]
    if looks:
        told.append(
            f"half of a head's attention over even attention is within {median(looks):.0f} tokens (median of"
            f" {len(looks):,} heads; {min(looks)} to {max(looks)})."
        )
    known = [row for row in rows if row["self_bias_position"] is not None]
    if known:
        less = [sum(row[name] < 0 for row in known) for name in ("self_bias_position", "self_bias_net")]
        shares = [f"{one / len(known):.0%} ({_ends(one, len(known))})" for one in less]
        told.append(
            f"by position alone {shares[0]} of {len(known):,} heads like the token before better than the"
            f" token itself; with content it is {shares[1]}."
        )
    fits = [row["kernel_r"] for row in known if row["kernel_r"] is not None]
    if fits:
        far = sum(one < FITS for one in fits)
        told.append(
            f"position explains the scores of {len(fits) - far:,} of {len(fits):,} heads by a correlation of"
            f" {FITS:g} or more over distances; the others look by content."
        )
    unknown = [row["no_kernel"] for row in rows if row["no_kernel"]]
    if unknown:
        told.append(f"{len(unknown):,} of {len(rows):,} heads have no kernel: {unknown[0]}.")
    return told


def _ends(count: int, n: int) -> str:
    low, high = wilson(count, n)
    return f"95 %: {low:.0%} to {high:.0%}"
