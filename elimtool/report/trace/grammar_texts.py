"""Tell how probable the texts of a grammar are together, and which of them masking favours."""

from __future__ import annotations

from rich.text import Text

from elimtool.analysis.closing import spell_prob
from elimtool.files.rows import Row
from elimtool.report.facts import Tables
from elimtool.report.screen import Screen, padded
from elimtool.report.trace.grammar import WORDS

MOST_TEXTS = 8
"""Texts that are listed of each chain."""
HEADINGS = ("free", "masked", "favoured", "text")


def grammar_text_lines(tables: Tables, prompt: Row, screen: Screen) -> list[Text]:
    """Lines of the whole texts of a prompt's grammars; nothing where none were added up."""
    wholes, texts = (tables.rows(name, prompt["prompt_id"]) for name in ("grammar_whole", "grammar_texts"))
    if not wholes and not texts:
        return []
    lines = screen.titled(
        "Texts of the grammar",
        "free: log p without the mask; masked: with it; favoured: log p masked, less that of the same text"
        " among free texts of the grammar (nats)",
    )
    for whole in wholes:
        lines += screen.wrap(whole_sentence(whole, screen), hang=2)
    for chain in dict.fromkeys(row["chain"] for row in texts):
        own = [row for row in texts if row["chain"] == chain]
        for cells in [HEADINGS, *(text_cells(row, screen) for row in own[:MOST_TEXTS])]:
            line = " ".join(padded(one, 8, right=True) for one in cells[:-1])
            style = "dim" if cells is HEADINGS else ""
            lines.append(Text(screen.shorten(f"{line}  {cells[-1]}", screen.width), style=style))
        if len(own) > MOST_TEXTS:
            lines.append(Text(f"  {len(own) - MOST_TEXTS:,} more texts are not shown", style="dim"))
    return lines


def whole_sentence(row: Row, screen: Screen) -> str:
    """Say how often a free text is one of the grammar, and how far masking is from that condition."""
    name = f"{WORDS[row['syntax']]} of {screen.visible(row['chain'])}, by {screen.visible(row['engine'])}"
    found = f"{row['n_texts']:,} text" + ("" if row["n_texts"] == 1 else "s")
    if not row["exact"]:
        return (
            f"{name}: a free text is one of it with p {spell_prob(row['mass_least'])} to"
            f" {spell_prob(row['mass_most'])} ({found} found, others left out)"
        )
    if row["log_mass"] is None:
        return f"{name}: no text of it has a probability without the mask"
    return (
        f"{name}: a free text is one of it with p {spell_prob(row['mass_least'])}"
        f" (ln Z {row['log_mass']:.2f}, {found}, no others); texts through the mask are"
        f" {row['divergence']:.3g} nats from them"
    )


def text_cells(row: Row, screen: Screen) -> tuple[str, ...]:
    """One cell for each of ``HEADINGS``."""
    return (
        f"{row['logprob']:.2f}",
        f"{row['masked_logprob']:.2f}",
        "" if row["favoured"] is None else f"{row['favoured']:+.2f}",
        screen.quoted(row["text"]),
    )
