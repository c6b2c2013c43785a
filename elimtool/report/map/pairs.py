"""Tell which heads of a layer are alike, and whose loss hides whose."""

from __future__ import annotations

from elimtool.files.rows import Row, Rows

NAMED = 3
"""Pairs that a sentence names."""


def pair_sentences(rows: Rows) -> list[str]:
    """Tell the table ``head_pairs``: the pairs most alike that are more alike than by chance."""
    told = []
    attending = [row for row in rows if row["js"] is not None and row["js"] < (row["js_null"] or 0.0)]
    if attending:
        best = sorted(attending, key=lambda row: (row["js"], _place(row)))
        told.append(
            f"heads of a layer that attend most alike: {_list(best, 'js', ' bits')}; in brackets, with the"
            " other head on another passage."
        )
    writing = [row for row in rows if row["cka"] is not None and row["cka"] > (row["cka_null"] or 0.0)]
    if writing:
        best = sorted(writing, key=lambda row: (-row["cka"], _place(row)))
        told.append(f"heads of a layer that write most alike (CKA): {_list(best, 'cka')}.")
    return told


def interaction_sentences(rows: Rows) -> list[str]:
    """Tell the table ``head_interactions``: pairs whose interval lies outside that of random pairs."""
    known = [row for row in rows if row["low"] is not None and row["null_low"] is not None]
    if not known:
        return []
    apart = [row for row in known if row["high"] < row["null_low"] or row["low"] > row["null_high"]]
    if not apart:
        pairs = "1 pair" if len(known) == 1 else f"{len(known):,} pairs"
        return [f"ablated together, none of {pairs} of heads with roles differs from random pairs."]
    return [_interaction(row) for row in sorted(apart, key=lambda row: -abs(row["interaction"]))[:NAMED]]


def _interaction(row: Row) -> str:
    a, b = _names(row)
    what = "each hides the other's loss" if row["interaction"] > 0 else "they are one path, which is cut once"
    return (
        f"without {a} ({row['role_a']}) and {b} ({row['role_b']}) the loss of repeated text rises by"
        f" {row['effect_both']:.2f} nats, by {row['effect_a']:.2f} and {row['effect_b']:.2f} without one of"
        f" them: {what} ({row['interaction']:+.2f}, {row['low']:.2f} to {row['high']:.2f}; random pairs"
        f" {row['null_low']:.2f} to {row['null_high']:.2f})."
    )


def _list(rows: Rows, name: str, unit: str = "") -> str:
    return ", ".join(
        f"{' and '.join(_names(row))} {row[name]:.2g}{unit} ({row[f'{name}_null'] or 0.0:.2g})"
        + (", which share keys" if row["same_group"] else "")
        for row in rows[:NAMED]
    )


def _names(row: Row) -> tuple[str, str]:
    return f"{row['layer_a']}.{row['head_a']}", f"{row['layer_b']}.{row['head_b']}"


def _place(row: Row) -> tuple[int, ...]:
    return row["layer_a"], row["head_a"], row["layer_b"], row["head_b"]
