"""Write the outcomes of a sweep: shares as points of a hundred, the rest in their own unit."""

from __future__ import annotations

from elimtool.files.rows import Row

NAMES = {
    "survives": "survival",
    "logprob": "log-probability",
    "rank": "log10 of the rank",
}
SIGNIFICANT = 0.05
"""Largest adjusted p-value of a level that is told."""
UNITS = {"logprob": " nats", "rank": " decades"}


def outcome_name(row: Row) -> str:
    """Name the outcome of a row."""
    metric = str(row["metric"])
    name = NAMES.get(metric, f"margin of {metric.partition(':')[2]}")
    return f"{name} ({row['chain']})" if row["chain"] else name


def values_in_words(row: Row, *values: float) -> str:
    """Write a value, or two with ``to`` between them: ``41 to 73 %``, ``-2.1 nats``."""
    unit = " %" if row["metric"] == "survives" else _unit(row)
    return " to ".join(number(row, value) for value in values) + unit


def differences_in_words(row: Row, *values: float) -> str:
    """Write the size of a difference, or two: ``11 points``, ``0.4 to 0.6 nats``."""
    shown = [number(row, value) for value in values]
    points = " point" if shown in (["1"], ["-1"]) else " points"
    return " to ".join(shown) + (points if row["metric"] == "survives" else _unit(row))


def number(row: Row, value: float) -> str:
    """Write a value without its unit."""
    return f"{100 * value:.0f}" if row["metric"] == "survives" else f"{value:.3g}"


def _unit(row: Row) -> str:
    return UNITS.get(str(row["metric"]), "")


def p_in_words(value: float) -> str:
    """Write a p-value: ``p 0.012``, ``p < 0.001``."""
    return "p < 0.001" if value < 0.001 else f"p {value:.2g}"
