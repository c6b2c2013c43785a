"""Tell how many different choices the survivors of each chain are, and which of them go on alike."""

from __future__ import annotations

from itertools import pairwise

from rich.text import Text

from elimtool.files.rows import Row, Rows
from elimtool.report.facts import Tables
from elimtool.report.screen import Screen

ALIKE = 0.5
"""Least likeness of two futures that are called alike."""
LEAST = 0.05
"""A stage that removes fewer futures than this is not named."""


def future_lines(tables: Tables, prompt: Row, screen: Screen) -> list[Text]:
    """Lines of a prompt's survivors at its last probed position; nothing where they were not compared."""
    sets = at_last(tables.rows("survivor_sets", prompt["prompt_id"]))
    pairs = at_last(tables.rows("survivor_pairs", prompt["prompt_id"]))
    if not sets:
        return []
    lines = screen.titled(
        "Survivors and what would follow them",
        "1: one choice, in however many words; likeness 1: the model goes on alike after both",
    )
    for chain in dict.fromkeys(row["chain"] for row in sets):
        own = [row for row in sets if row["chain"] == chain]
        lines += screen.wrap(set_sentence(own, screen), hang=2)
        told = [row for row in pairs if row["chain"] == chain]
        lines += screen.wrap(alike_sentence(told, screen), indent=2, hang=2) if told else []
    return lines


def at_last(rows: Rows) -> Rows:
    """Choose the rows of the last probed position."""
    last = max((row["position"] for row in rows), default=None)
    return [row for row in rows if row["position"] == last]


def null_words(pairs: Rows) -> str:
    """Say how alike other tokens would go on in the survivors' place."""
    return f"likely tokens of other text in their place: {pairs[0]['same_future_null']:.2f}"


def set_sentence(sets: Rows, screen: Screen) -> str:
    """Say how many survivors a chain leaves, how many choices they are, and which stages took choices."""
    end = sets[-1]
    name = screen.visible(end["chain"])
    if not end["n"]:
        return f"no token survives {name}"
    whole = f"{end['n']:,} tokens survive {name}" if end["n"] > 1 else f"1 token survives {name}"
    read = f", of which the first {end['n_read']} are compared" if end["n"] > end["n_read"] else ""
    said = f"{whole}{read}: {end['hill1']:.1f} effective tokens, {end['futures']:.1f} different futures"
    cut = [
        f"{after['stage']} removed {before['n'] - after['n']:,} tokens and"
        f" {_taken(before, after):.1f} futures"
        for before, after in pairwise(sets)
        if after["n"] < before["n"] and _taken(before, after) >= LEAST
    ]
    return f"{said}; {', '.join(cut)}" if cut else said


def _taken(before: Row, after: Row) -> float:
    """Count the different futures that are gone; a stage that leaves no token takes all."""
    return float((before["futures"] or 0.0) - (after["futures"] or 0.0))


def alike_sentence(pairs: Rows, screen: Screen) -> str:
    """Name the survivors that go on alike, and say how alike other tokens would go on in their place."""
    kinds = {kind: _pairs_of(pairs, kind, screen) for kind in ("same word", "substitute", "successor")}
    words = {"same word": "the same word", "substitute": "alike", "successor": "one leads to the other"}
    told = [f"{words[kind]}: {', '.join(found[:3])}" for kind, found in kinds.items() if found]
    return f"{'; '.join(told) or 'no two go on alike'} ({null_words(pairs)})"


def _pairs_of(pairs: Rows, kind: str, screen: Screen) -> list[str]:
    """Name the pairs of one kind, the most alike first; of a symmetric kind each pair once."""
    some = [
        row
        for row in pairs
        if row["kind"] == kind and (kind == "successor" or row["token_a_id"] < row["token_b_id"])
    ]
    some.sort(key=lambda row: -row["same_future"])
    return [
        f"{screen.quoted(row['token_a'])} and {screen.quoted(row['token_b'])} ({row['same_future']:.2f})"
        for row in some
    ]
