"""Tell what repetition does: how well copies of a text predict the next one, and what other text does."""

from __future__ import annotations

from rich.text import Text

from elimtool.analysis.closing import spell_prob
from elimtool.analysis.resonance import onset, standing
from elimtool.files.rows import Row, Rows
from elimtool.report.facts import Tables
from elimtool.report.screen import Screen, padded

HEADINGS = ("copies", "mean p", "after other text", "higher", "first of all", "rank of first")
SHOWN = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Numbers of copies that have a line, beside the last one."""
IDS = 8
"""Most token ids of a copy that are named."""
WIDTHS = (6, 7, 23, 7, 13, 14)


def resonance_lines(tables: Tables, prompt: Row, screen: Screen) -> list[Text]:
    """Lines of a prompt that was repeated; nothing where it was not."""
    rows = tables.rows("resonance", prompt["prompt_id"])
    if not rows:
        return []
    lines = screen.titled(
        "Repeated",
        "mean p of the next copy's tokens; higher: tokens above their p in the first copy; first of all:"
        " tokens that are the most probable; rank of first: of the copy's first token",
    )
    lines += screen.wrap(resonance_sentence(rows), hang=2)
    told = [row for row in rows if row["copies"] in SHOWN or row is rows[-1]]
    for number, cells in enumerate([HEADINGS, *map(resonance_cells, told)]):
        line = " ".join(padded(one, width, right=True) for one, width in zip(cells, WIDTHS, strict=True))
        lines.append(Text(screen.shorten(line, screen.width), style="" if number else "dim"))
    return lines


def resonance_sentence(rows: Rows) -> str:
    """Say whether copies call the next one more than other text of that length does."""
    last, begun = rows[-1], onset(rows)
    beside = (
        f"mean p {spell_prob(last['tp'])} after {last['copies']} {_copies(last['copies'])}, and"
        f" {spell_prob(last['tp_control'])} after as much other text"
        f" ({spell_prob(last['tp_control_low'])} to {spell_prob(last['tp_control_high'])} in 95 % of draws)"
    )
    words = {
        "echo": "an echo",
        "none": "no echo: other text of that length does as much",
        "less": "less than after other text",
        "constant": "nothing changes with the number of copies, as every place sees the same",
    }
    place = (
        f"its first token is at rank {last['first_rank']:,}"
        if begun is None
        else f"its first token is first from copy {begun + 1} on"
    )
    where = "In the reply the" if last["in_chat"] else "The"
    said = f"{where} next copy has {beside}; {place}: {words[standing(rows)]}."
    if last["reply_control_rank"] is not None:
        also = ", so that being first says nothing" if last["reply_control_rank"] == 1 else ""
        said += f" It begins the reply to another message at rank {last['reply_control_rank']:,}{also}."
    ids = last.get("token_ids") or ()
    more = ", ..." if len(ids) > IDS else ""
    tokens = "1 token" if len(ids) == 1 else f"{len(ids):,} tokens"
    return f"{said} A copy is {tokens}, id {', '.join(map(str, ids[:IDS]))}{more}." if len(ids) else said


def resonance_cells(row: Row) -> tuple[str, ...]:
    """One cell for each of ``HEADINGS``."""
    between = f"{spell_prob(row['tp_control_low'])} to {spell_prob(row['tp_control_high'])}"
    return (
        f"{row['copies']}",
        spell_prob(row["tp"]),
        between,
        "" if row["ip"] is None else f"{row['ip']:.0%}",
        f"{row['wr']:.0%}",
        f"{row['first_rank']:,}",
    )


def _copies(number: int) -> str:
    return "copy" if number == 1 else "copies"
