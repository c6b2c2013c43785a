"""Put a row of the table ``regimes`` into words, where it changes how the rest is to be read."""

from __future__ import annotations

from elimtool.analysis.closing import spell_prob
from elimtool.files.rows import Row

UNUSUAL = "dysfunctional:"
"""What the names of regimes begin with that are told."""


def regime_sentence(row: Row) -> str:
    """Say in a line that a prediction is unusual against reference prose, and by which number.

    Returns:
        At most 80 characters; empty where the prediction is usual, familiar, or was not judged.
    """
    regime = row["regime"] or ""
    if not regime.startswith(UNUSUAL):
        return ""
    return f"Unusual against reference prose: {_reason(regime.removeprefix(UNUSUAL), row)}."


def regime_words(regime: str | None) -> str:
    """Name a regime for people: ``balanced``, ``unusual (weak signal)``; empty where none was judged."""
    kind, _, detail = (regime or "").partition(":")
    return f"unusual ({detail.replace('-', ' ')})" if detail else kind


def _reason(detail: str, row: Row) -> str:
    if detail == "weak-signal":
        return f"the context adds only {row['context_gain']:.1f} nats to a bare guess"
    p = spell_prob(min(row["p_high"], row["p_low"]))
    if detail == "resonant":
        repetition = row.get("repetition")
        if repetition is None:  # schema version 1 did not look for it
            return f"text that does not surprise the model (p = {p})"
        return f"text that repeats itself ({repetition:.0%} of 4-grams)"
    commits = "yet it commits" if detail == "OOD-confident" else "no commitment"
    return f"surprising text (p = {p}), {commits}"
