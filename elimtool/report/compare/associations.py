"""Tell what two prompts call below the output: concepts beside sets as frequent, and parting tokens."""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text

from elimtool.analysis.closing import spell_prob
from elimtool.files.rows import Row, Rows
from elimtool.numerics.exchangeable import BEYOND, LEAST
from elimtool.report.screen import Screen
from elimtool.run.comparison import Comparison

TOKENS = 6
"""Tokens of the output that are named: those that part the prompts most."""


def association_lines(comparison: Comparison, pair_id: str, screen: Screen) -> Iterable[Text]:
    """Write the concepts of a pair, and the tokens that part it; nothing where none is followed."""
    if "association_contrast" not in comparison.tables:
        return
    rows = [row for row in comparison.arrow("association_contrast").to_pylist() if row["pair_id"] == pair_id]
    if not rows:
        return
    arrow = screen.glyph("→")
    yield from screen.titled("Associations", f"p of a concept's tokens in A {arrow} B; nats: B less A")
    for some in concepts_of(rows).values():
        yield from screen.wrap(contrast_sentence(some, screen), indent=2, hang=2)
    if tokens := tokens_at(rows, max(row["layer"] for row in rows))[:TOKENS]:
        told = ", ".join(f"{screen.quoted(row['token'], 18)} {_moved(row, arrow)}" for row in tokens)
        held = sum(row["term_share"] for row in tokens)
        yield from screen.wrap(
            f"The outputs part most at {told}: {held:.0%} of their divergence.", indent=2, hang=2
        )


def concepts_of(rows: Rows) -> dict[str, Rows]:
    """Sort the rows of concepts by their names, each from the embedding to the output."""
    found: dict[str, Rows] = {}
    for row in sorted(rows, key=lambda row: int(row["layer"])):
        if row["concept"] is not None:
            found.setdefault(row["concept"], []).append(row)
    return found


def tokens_at(rows: Rows, layer: int) -> Rows:
    """The tokens of a layer, those with the largest terms first."""
    some = [row for row in rows if row["layer"] == layer and row["token"] is not None]
    return sorted(some, key=lambda row: -float(row["term"]))


def contrast_sentence(rows: Rows, screen: Screen) -> str:
    """Say how far a concept moves at the output and where it moves furthest, and what sets as frequent do."""
    last, name = rows[-1], screen.quoted(rows[-1]["concept"], 24)
    if last["difference"] is None:
        return f"{name}: all its words stand in one of the prompts, where the model reads them."
    arrow = screen.glyph("→")
    said = f"{name} in the output: p {_moved(last, arrow)}, {last['difference']:+.2f} nats"
    if last["p_value"] is None:
        count = last["n_controls"]
        why = (
            f"only {count} sets as frequent, and a test needs {LEAST}"
            if count
            else "no sets as frequent to compare with: they need a fitted lens (elimtool lens fit)"
        )
        return f"{said}; {why}, so this says nothing."
    said += f" ({_beside(last)})"
    best = min(rows[1:], key=lambda row: (row["p_value"], -abs(row["difference"]), row["layer"]))
    if best is not last and best["p_value"] < last["p_value"]:
        said += f"; furthest after layer {best['layer']}: {best['difference']:+.2f} nats ({_beside(best)})"
    if best["p_adjusted"] > BEYOND:
        return f"{said}. Over all layers p {best['p_adjusted']:.2g}: no evidence of an association."
    way = "nearer in B" if best["difference"] > 0 else "nearer in A"
    return f"{said}. Over all layers p {best['p_adjusted']:.2g}: it is {way}."


def _moved(row: Row, arrow: str) -> str:
    return f"{spell_prob(row['prob_a'])} {arrow} {spell_prob(row['prob_b'])}"


def _beside(row: Row) -> str:
    between = f"{row['difference_low']:+.2f} to {row['difference_high']:+.2f}"
    return f"95 % of sets as frequent: {between}; p {row['p_value']:.2g}"
