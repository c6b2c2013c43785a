"""Tell what a sweep found: how far variants spread, what of it is chance, which levels cost."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from elimtool.files.rows import Row, Rows
from elimtool.report.populations.section import Section
from elimtool.report.populations.sweep.figures import sweep_figures
from elimtool.report.populations.sweep.stability import stability_sentences, things_in_words
from elimtool.report.populations.sweep.words import (
    SIGNIFICANT,
    differences_in_words,
    number,
    outcome_name,
    p_in_words,
    values_in_words,
)
from elimtool.report.screen import Screen, padded
from elimtool.run.analysis import Analysis

LISTED = 6
"""Variants that are listed from either end, and levels that are told."""
ENDS = 18
"""Columns of an interval."""


def sweep_section(found: Analysis) -> Section:
    """Make the section of a sweep."""
    variants, effects, spreads, stable = (
        found.arrow(name).to_pylist()
        for name in ("sweep_variants", "sweep_effects", "sweep_spread", "stability")
    )
    sentences = stability_sentences(stable)
    if not spreads:  # concepts were followed, and nothing is scored
        return Section(f"Sweep: {things_in_words(stable)}", sentences, (), found.manifest.notes)
    (spread,) = spreads
    told = [_spread(spread, variants), *_levels(effects), _best(variants), *sentences]
    title = f"Sweep: {spread['n_variants']:,} variants x {spread['n_items']:,} items"

    def drawn(screen: Screen) -> list[Text]:
        return _listed(variants, screen)

    figures = sweep_figures(variants, effects)
    return Section(title, told, figures, found.manifest.notes, drawn)


def _spread(row: Row, variants: Rows) -> str:
    ends = sorted(one["value"] for one in (variants[0], variants[-1]))
    said = f"{row['n_variants']:,} variants x {row['n_items']:,} items: {outcome_name(row)}"
    said += f" {values_in_words(row, *ends)}, spread {differences_in_words(row, row['spread'])}"
    if row["spread_null"] is None:
        ways = {"halving": "successive halving", "thompson": "Thompson sampling"}
        of = row["n_variants"] * row["n_items"]
        said += f" (searched by {ways[row['search']]} with {row['n_calls']:,} of {of:,} outcomes)"
    else:
        said += f" (chance {number(row, row['spread_null'])}, {p_in_words(row['p_value'])})"
    if row["spread_holdout"] is not None:
        said += f"; {number(row, row['spread_holdout'])} remain held out"
    return f"{said}."


def _levels(effects: Rows) -> list[str]:
    """Say which levels certainly cost something, or help where none does, or that none is different."""
    certain = [row for row in effects if row["p_adjusted"] is not None and row["p_adjusted"] <= SIGNIFICANT]
    certain.sort(key=lambda row: (-abs(row["main_effect"]), row["factor"], row["level"]))
    if not certain:
        tested = any(row["p_adjusted"] is not None for row in effects)
        return ["No level of a factor differs for certain from the mean of all levels."] if tested else []
    better = -1 if certain[0]["metric"] == "rank" else 1
    bad = [row for row in certain if better * row["main_effect"] < 0]
    return [_level(row) for row in (bad or certain)[:LISTED]]


def _level(row: Row) -> str:
    """Tell a level: against the mean of all, and against the best, as one bad level lifts the others."""
    side = "above" if row["main_effect"] > 0 else "below"
    low, high = sorted((abs(row["ci_low"]), abs(row["ci_high"])))
    told = f"{number(row, low)} to {number(row, high)}; {p_in_words(row['p_adjusted'])}"
    size = differences_in_words(row, abs(row["main_effect"]))
    said = f"{row['factor']} '{row['level']}' is {size} {side} the mean of its levels ({told})"
    if row["against_best"]:
        said += f", and {differences_in_words(row, abs(row['against_best']))} from the best"
    return f"{said}."


def _best(variants: Rows) -> str:
    tied = sum(row["tied_with_best"] for row in variants[1:])
    said = f"Best is '{variants[0]['variant']}', worst '{variants[-1]['variant']}'"
    if not tied:
        return f"{said}."
    return f"{said}; {tied:,} other{'' if tied == 1 else 's'} cannot be told from the best."


def _listed(variants: Sequence[Row], screen: Screen) -> list[Text]:
    """List the best and the worst variants with their intervals."""
    few = len(variants) <= 2 * LISTED + 1
    shown = variants if few else [*variants[:LISTED], *variants[-LISTED:]]
    values = [values_in_words(row, row["value"]) for row in shown]
    width = max(map(len, values))
    lines = []
    for index, (row, value) in enumerate(zip(shown, values, strict=True)):
        if not few and index == LISTED:
            lines.append(Text(f"  {len(variants) - 2 * LISTED:,} more", style="dim"))
        known = row["ci_low"] is not None
        ends = f"({values_in_words(row, row['ci_low'], row['ci_high'])})" if known else ""
        told = f"  {padded(value, width, right=True)}  {padded(ends, ENDS)}  "
        room = max(screen.width - len(told), 10)
        lines.append(Text(told + screen.shorten(screen.visible(row["variant"]), room)))
    return lines
