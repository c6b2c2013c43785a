"""Tell how well concepts are placed below the output, beside sets of words as frequent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from elimtool.analysis.closing import spell_prob
from elimtool.files.rows import Row, Rows
from elimtool.numerics.exchangeable import BEYOND, LEAST
from elimtool.report.facts import Probe
from elimtool.report.numbers import share
from elimtool.report.screen import Screen, padded

HEADINGS = ("layer", "best word", "its rank", "sets as frequent", "p", "over all layers")
WIDTHS = (6, 14, 9, 18, 7, 16)
SEVERAL = 3
"""Concepts from which on the number of tests is told."""


def association_lines(probe: Probe, screen: Screen) -> list[Text]:
    """Lines of each concept at a position; nothing where none is followed."""
    concepts = by_concept(probe.rows("associations"))
    if not concepts:
        return []
    lines = screen.titled(
        "Associations below the output",
        "rank: of a concept's best word; sets as frequent: best ranks of 90 % of the control sets; p: share"
        " of them that are as good",
    )
    pieces = pieces_of(probe)
    for name, rows in concepts.items():
        lines += screen.wrap(association_sentence(rows, screen, pieces.get(name, {})), hang=2)
        told = shown(rows)
        for number, cells in enumerate([HEADINGS, *map(association_cells, told)] if told else []):
            texts = [screen.visible(one) for one in cells]
            line = " ".join(
                padded(screen.shorten(one, width), width, right=True)
                for one, width in zip(texts, WIDTHS, strict=True)
            )
            lines.append(Text(screen.shorten(line, screen.width), style="" if number else "dim"))
    if len(concepts) >= SEVERAL:
        without = f"Each concept is one test: of {len(concepts):,} without any association"
        lines += screen.wrap(f"{without}, {BEYOND * len(concepts):.2g} pass on average.", hang=2)
    return lines


def by_concept(rows: Rows) -> dict[str, Rows]:
    """Sort rows by concept, each from the embedding to the output."""
    found: dict[str, Rows] = {}
    for row in sorted(rows, key=lambda row: int(row["layer"])):
        found.setdefault(row["concept"], []).append(row)
    return found


def pieces_of(probe: Probe) -> dict[str, dict[str, str]]:
    """Words that are no token, and the tokens that they are followed by, of each concept."""
    found: Any = probe.run.manifest.config
    found = found.get("concept_pieces") if isinstance(found, dict) else None
    return {name: dict(words) for name, words in found.items()} if isinstance(found, dict) else {}


def shown(rows: Rows) -> Rows:
    """The layer where a concept is best placed among sets as frequent, and the output."""
    best, last = peak(rows), rows[-1]
    if best is None:
        return []
    return [best, last] if best is not last else [last]


def peak(rows: Rows) -> Row | None:
    """The layer where a concept is furthest beyond its controls, the first of equals; by rank without any."""
    blocks = [row for row in rows if row["layer"] >= 0 and row["best_rank"] is not None]
    if not blocks:
        return None
    return min(blocks, key=lambda row: (row["p_value"] or 0.0, row["best_rank"], row["layer"]))


def association_sentence(rows: Rows, screen: Screen, pieces: Mapping[str, str]) -> str:
    """Say where a concept stands at the output and below, and what sets as frequent do."""
    last, best = rows[-1], peak(rows)
    name = screen.quoted(last["concept"], 24)
    if best is None:
        return f"{name}: all its words stand in the prompt, where the model reads them."
    said = (
        f"{name}: {screen.quoted(last['best_token'], 18)} is at rank {last['best_rank']:,} in the output,"
        f" p {spell_prob(last['mass'])} for all {last['n_tokens']:,} tokens"
    )
    if last["n_said"]:
        said += f" ({last['n_said']} that stand in the prompt left out)"
    told = [f"{said}.", _judged(best, screen)]
    told += [
        f"{screen.quoted(word, 18)} is no token of the model: its first, {screen.quoted(token, 12)}, which"
        " other words begin with, stands for it."
        for word, token in pieces.items()
    ]
    return " ".join(told)


def _judged(best: Row, screen: Screen) -> str:
    """Say whether a concept is beyond its controls at any layer."""
    place = f"{screen.quoted(best['best_token'], 18)} at rank {best['best_rank']:,}"
    count = best["n_controls"]
    if best["p_value"] is None:
        why = (
            f"only {count} sets as frequent, and a test needs {LEAST}"
            if count
            else "no sets as frequent to compare with: they need a fitted lens (elimtool lens fit)"
        )
        return f"It is best placed after layer {best['layer']}, {place}; {why}, so this says nothing."
    worse = count + 1 - round(best["p_value"] * (count + 1))
    said = (
        f"Among sets as frequent it is best placed after layer {best['layer']}: {place}, better than"
        f" {worse} of {count} (p {best['p_value']:.2g}; over all layers {best['p_adjusted']:.2g})."
    )
    chance = f"{share(best['surface_chance'])} of such sets do so somewhere"
    if best["surfaces_at"] is None:
        said += f" It does not surface, that is be beyond 95 % of them in three layers in a row ({chance})"
    else:
        said += (
            f" It surfaces at layer {best['surfaces_at']}, the first of three in a row beyond 95 % of them"
        )
        said += f" ({chance})"
    if best["p_adjusted"] > BEYOND:
        return f"{said}: over so many layers no evidence of an association."
    return f"{said}: more than chance, in this one prompt."


def association_cells(row: Row) -> Sequence[str]:
    """One cell for each of ``HEADINGS``."""
    low, high = row["control_rank_low"], row["control_rank_high"]
    return (
        f"{row['layer']}",
        "" if row["best_token"] is None else f"'{row['best_token']}'",
        "" if row["best_rank"] is None else f"{row['best_rank']:,}",
        "" if low is None else f"{low:,} to {high:,}",
        "" if row["p_value"] is None else f"{row['p_value']:.2g}",
        "" if row["p_adjusted"] is None else f"{row['p_adjusted']:.2g}",
    )
