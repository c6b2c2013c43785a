"""Tell what a map found, part by part."""

from __future__ import annotations

from elimtool.files.rows import Row, Rows
from elimtool.report.figures.figure import Figure
from elimtool.report.map.figures import head_grid
from elimtool.report.map.heads import category_sentences, distance_sentences
from elimtool.report.map.layers import (
    exit_sentences,
    layer_figures,
    layer_sentences,
    neuron_figures,
    neuron_sentences,
)
from elimtool.report.map.listing import head_listing
from elimtool.report.map.pairs import interaction_sentences, pair_sentences
from elimtool.report.map.profiles import Profiles
from elimtool.report.populations.section import Section
from elimtool.run.analysis import Analysis
from elimtool.run.tables.findings import FINDINGS

LISTED = 5
"""Heads of a role that are named."""

DOES = {
    "previous": "attend to the token before",
    "duplicate": "attend to the same token before",
    "induction": "repeat what followed the same token",
    "sink": "attend to the sinks more than uniform attention does",
    "copying": "write the tokens that they read",
    "suppressing": "write against the tokens that they read",
    "retrieval": "look at the token that is to be said where it was told",
    "successor": "write the next word of a word: of digits, numbers, days, months and letters",
    "dormant": "give nearly all attention to the sinks at most tokens",
}


def map_section(found: Analysis) -> Section:
    """Make the section of a map."""
    options = found.manifest.options
    assert isinstance(options, dict)
    title = f"Map of {found.manifest.model}: {options['passages']:,} passages of {options['tokens']:,} tokens"
    rows = {name: found.arrow(name).to_pylist() for name in FINDINGS["map"]}
    told = [
        *_roles(rows["head_roles"]),
        *category_sentences(rows["head_categories"]),
        *distance_sentences(rows["head_kernels"]),
        *pair_sentences(rows["head_pairs"]),
        *interaction_sentences(rows["head_interactions"]),
        *layer_sentences(rows["layers"]),
        *exit_sentences(rows["exits"]),
        *neuron_sentences(rows["neurons"]),
    ]
    profiles = Profiles(rows)
    figures: list[Figure] = [head_grid(profiles), head_listing(profiles)] if profiles.heads else []
    figures += [*layer_figures(rows["layers"]), *neuron_figures(rows["neurons"])]
    return Section(f"{title} ({options['corpus']})", told, figures, found.manifest.notes)


def _roles(rows: Rows) -> list[str]:
    return [
        _role(role, [row for row in rows if row["role"] == role])
        for role in dict.fromkeys(row["role"] for row in rows)
    ]


def _role(role: str, rows: Rows) -> str:
    """Name the heads that have a role: ranked on the odd units, their scores on the even ones."""
    known = [row for row in rows if row["present"] is not None]
    present = [row for row in known if row["present"]]
    if not known:
        return f"{role}: cannot be measured."
    if not present:
        return f"{role}: none of {len(known):,} heads."
    present.sort(key=lambda row: (-_odd(row), row["layer"], row["head"]))
    named = ", ".join(_named(row) for row in present[:LISTED])
    more = f" and {len(present) - LISTED:,} more" if len(present) > LISTED else ""
    return f"{role}: {len(present):,} of {len(known):,} heads {DOES[role]}: {named}{more}."


def _odd(row: Row) -> float:
    """Mean over the odd units: what is ranked by shares no unit with what is reported."""
    even = row["n_units"] // 2
    mean: float = (row["n_units"] * row["score"] - even * row["score_held"]) / (row["n_units"] - even)
    return mean


def _named(row: dict[str, object]) -> str:
    told = f"{row['layer']}.{row['head']} {row['score_held']:.2f}"
    return told if row["null"] is None else f"{told} (null {row['null']:.2f})"
