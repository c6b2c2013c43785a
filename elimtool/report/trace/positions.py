"""Tell the course of a prompt's targets over its probed positions, and what the model predicts at each."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from elimtool.analysis.closing import spell_prob
from elimtool.files.rows import Row, Rows
from elimtool.report.facts import Tables
from elimtool.report.numbering import Numbering
from elimtool.report.screen import Screen, padded
from elimtool.run.rules import SURFACED

MOST = 40
RANK_COLUMNS = 3
WORD = 14
CELL = 17
NUMBER = 9

Ranks = dict[int, dict[str, Row]]
"""Position -> target -> its row of ``lens`` at the last layer or of ``survival``."""


def position_lines(tables: Tables, prompt: Row, places: Numbering, screen: Screen) -> list[Text]:
    """A sentence for each target, and one line a position; of many positions the first and the last.

    Where the model wrote, the walk has said what it predicts, so that only targets are told.
    """
    shown = _shown(places.positions)
    ranks = target_ranks(tables, prompt, shown)
    written = places.first is not None and bool(tables.rows("walk", prompt["prompt_id"]))
    if written and not ranks:
        return []
    word = min(WORD, max((screen.width - NUMBER - 8) // 3, 6))
    left = NUMBER + 2 + word + (0 if written else word + 10)
    names = _names(ranks, (screen.width - left) // (CELL + 1))
    title = "Targets at each written token" if written else "Prediction by position"
    lines = screen.titled(title, "rank and p in the model's output") if names else [Text(title, style="bold")]
    for name in _names(ranks, RANK_COLUMNS):
        said = _course(name, ranks, places, screen) + _otherwise(name, ranks, tables, prompt, places, screen)
        lines += screen.wrap(f"{said}.", indent=2, hang=2)
    head = padded(places.word, NUMBER, right=True) + "  " + padded("token", word)
    head += "" if written else "  " + padded("predicts", word) + padded("p", 8)
    head += "".join(padded(screen.quoted(name, CELL), CELL + 1, right=True) for name in names)
    lines.append(Text(head.rstrip(), style="dim"))
    for place, position in enumerate(shown):
        if place and position != places.positions[places.positions.index(shown[place - 1]) + 1]:
            gap = f"{screen.glyph('…')} {len(places.positions) - len(shown):,} more positions, not shown"
            lines.append(Text(gap, style="dim"))
        line = Text(padded(f"{places.number(position):,}", NUMBER, right=True) + "  ")
        line.append(padded(screen.quoted(places.token(prompt, position), word), word))
        if not written:
            line.append_text(_predicted(tables, prompt, position, word, screen))
        for name in names:
            line.append(padded(_place(ranks.get(position, {}).get(name)), CELL + 1, right=True))
        line.rstrip()
        lines.append(line)
    return lines


def target_ranks(tables: Tables, prompt: Row, positions: Sequence[int]) -> Ranks:
    """Find where the targets that the user named stand in the output, position by position."""
    asked, last = set(prompt["targets"] or ()), (tables.run.n_layers or 0) - 1
    found: Ranks = {}
    for position in positions if asked else ():
        rows = tables.rows("survival", prompt["prompt_id"], position)
        rows = rows or [row for row in _at(tables, "lens", prompt, position, last) if not row["is_foil"]]
        if own := {row["target"]: row for row in rows if row["target"] in asked}:
            found[position] = own
    return found


def likeliest(tables: Tables, prompt: Row, places: Numbering) -> int:
    """The position to tell in full: where the first target is most probable; the last without targets."""
    ranks = target_ranks(tables, prompt, places.positions)
    name = next(iter(prompt["targets"] or ()), None)
    known = [(row[name]["prob"] or 0.0, position) for position, row in ranks.items() if name in row]
    return max(known)[1] if known else places.positions[-1]


def _course(name: str, ranks: Ranks, places: Numbering, screen: Screen) -> str:
    """Say where a target is likeliest, and at how many positions it is in sight."""
    rows = {position: row[name] for position, row in ranks.items() if name in row}
    best = max(rows, key=lambda position: (rows[position]["prob"] or 0.0, position))
    said = f"{screen.quoted(name, 24)} is likeliest at {places.name(best)}:"
    said += f" rank {rows[best]['rank']:,}, p {spell_prob(rows[best]['prob'] or 0.0)}"
    inside = sum(row["rank"] <= SURFACED for row in rows.values())
    return f"{said}; in the top-{SURFACED} at {inside:,} of {len(rows):,} positions"


def _otherwise(
    name: str, ranks: Ranks, tables: Tables, prompt: Row, places: Numbering, screen: Screen
) -> str:
    """Say where the same word with or without its space is the likelier one, as far as a walk shows it."""
    told = []
    for step in tables.rows("walk", prompt["prompt_id"]):
        row = ranks.get(step["position"], {}).get(name)
        for token, prob in _seen(step) if row else ():
            if token != name and token.strip() == name.strip() and prob > ((row or {})["prob"] or 0.0):
                where = places.name(step["position"])
                told.append(f"as {screen.quoted(token, WORD)} p {spell_prob(prob)} at {where}")
    more = f" and at {len(told) - 1:,} more" if len(told) > 1 else ""
    return f"; {told[0]}{more}" if told else ""


def _seen(step: Row) -> list[tuple[str, float]]:
    """The two tokens of a step that a walk keeps, with their probabilities in the model's output."""
    both = (step["token"], step["model_prob"]), (step.get("runner_up"), step.get("runner_up_prob"))
    return [(token, prob) for token, prob in both if token is not None and prob is not None]


def _place(row: Row | None) -> str:
    if row is None:
        return ""
    return f"{row['rank']:,}  {spell_prob(row['prob'] or 0.0):<7}"


def _predicted(tables: Tables, prompt: Row, position: int, word: int, screen: Screen) -> Text:
    """The most probable token at a position and its probability; blank where the run does not say."""
    last = (tables.run.n_layers or 0) - 1
    tops = [
        (row["token"], row["prob"])
        for row in tables.rows("top_tokens", prompt["prompt_id"], position)
        if row["place"] == 1
    ]
    tops = tops or [
        (row["top_token"], row["top_prob"]) for row in _at(tables, "lens_layers", prompt, position, last)
    ]
    if not tops:
        return Text(" " * (word + 10))
    token, prob = tops[-1]
    follows = prompt["tokens"][position + 1 : position + 2]
    style = "green" if follows == [token] else ""
    return (
        Text("  ").append(padded(screen.quoted(token, word), word), style).append(padded(spell_prob(prob), 8))
    )


def _shown(positions: Sequence[int]) -> list[int]:
    half = MOST // 2
    return list(positions) if len(positions) <= MOST else [*positions[:half], *positions[-half:]]


def _at(tables: Tables, name: str, prompt: Row, position: int, layer: int) -> Rows:
    return [row for row in tables.rows(name, prompt["prompt_id"], position) if row["layer"] == layer]


def _names(ranks: Ranks, most: int) -> list[str]:
    """Targets that are told: the first ones."""
    return list(dict.fromkeys(name for row in ranks.values() for name in row))[
        : min(RANK_COLUMNS, max(most, 0))
    ]
