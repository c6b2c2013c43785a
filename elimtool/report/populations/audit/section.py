"""Tell what an audit found: for each target and pair of groups the story and the figures, then the doubts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.text import Text

from elimtool.files.rows import Rows
from elimtool.report.populations.audit.figures import figures
from elimtool.report.populations.audit.found import Contrast, contrasts
from elimtool.report.populations.audit.story import of_pairs, told
from elimtool.report.populations.section import Section
from elimtool.report.screen import Screen
from elimtool.run.analysis import Analysis

MOST = 6
"""Contrasts that are told and drawn; the tables have them all."""
MOST_CHECKS = 6
WORDS = ["By the rules word and lm-eval a difference is mostly how frequent the words are that differ."]


def audit_section(found: Analysis) -> Section:
    """Make the section of an audit."""
    every = contrasts(found)
    shown = every[:MOST]
    pairs = found.arrow("audit_pairs").to_pylist()
    lines = [*(line for one in shown for line in told(one)), *of_pairs(pairs)]
    if len(every) > MOST:
        lines.append(f"{len(every) - MOST:,} more targets or pairs of groups are in the table audit_effects.")
    counts = {
        name: len(set(found.arrow("audit_tuples").column(name).to_pylist()))
        for name in ("template", "prompt_id")
    }
    return Section(
        f"Audit: {counts['prompt_id']:,} records of {counts['template']:,} templates",
        lines,
        [figure for number, one in enumerate(shown) for figure in figures(one, number)],
        [
            *found.manifest.notes,
            *_limits(shown),
            *(WORDS[: len(pairs)]),
            *_doubts(found.arrow("audit_checks").to_pylist()),
        ],
        lambda screen: _strips(shown, screen),
    )


def _limits(shown: Sequence[Contrast]) -> list[str]:
    """Say what the numbers cannot show."""
    rows = [one.final for one in shown if one.final is not None]
    said = []
    few = min((row["n_fillers"] for row in rows if row["p_fillers"] is not None), default=None)
    if few is not None and 2.0 ** (1 - few) > 0.001:
        said.append(f"{few:,} pairs of words cannot give a p-value under {2.0 ** (1 - few):.2g}.")
    if any("base_rate" in row["flags"] for row in rows):
        said.append(
            "Without neutral wordings a difference between strings is also how frequent they are (base_rate)."
        )
    return said


def _doubts(checks: Rows) -> list[str]:
    counts = Counter((row["level"], row["check"]) for row in checks)
    said = []
    for (level, check), count in list(counts.items())[:MOST_CHECKS]:
        first = next(row for row in checks if (row["level"], row["check"]) == (level, check))
        of = first["template"] or first["tuple"]
        where = f"'{of}': " if of else ""
        more = f" (and {count - 1} more)" if count > 1 else ""
        left = "left out" if level == "error" else "doubt"
        said.append(f"{left}, {check}: {where}{first['message']}{more}")
    if len(counts) > MOST_CHECKS:
        said.append(f"{len(counts) - MOST_CHECKS:,} more kinds of doubts are in the table audit_checks.")
    return said


def _strips(shown: Sequence[Contrast], screen: Screen) -> list[Text]:
    """Draw each outcome by layer, and below it the layers that are skewed."""
    lines: list[Text] = []
    for one in shown:
        for metric in one.layered:
            rows = one.by_layer(metric)
            values = [row["difference"] for row in rows]
            most = max(map(abs, values))
            if not most or len(rows) > screen.width - 4:
                continue
            steps = [min(int(abs(value) / most * 7.999), 7) for value in values]
            layers = f"layers {rows[0]['layer']} to {rows[-1]['layer']}"
            legend = f"size of the difference, {layers}, at most {most:.2f}; below it the skewed ones"
            lines += [Text(""), *screen.titled(metric, legend)]
            lines.append(Text("  " + "".join(screen.steps[step] for step in steps)))
            lines.append(Text(f"  {_marks(rows, one.skewed(metric), screen)}".rstrip(), style="bold"))
    return [*lines, Text("")] if lines else []


def _marks(rows: Rows, skewed: Rows, screen: Screen) -> str:
    marked = [any(one["first_layer"] <= row["layer"] <= one["last_layer"] for one in skewed) for row in rows]
    return "".join(screen.glyph("─") if one else " " for one in marked)
