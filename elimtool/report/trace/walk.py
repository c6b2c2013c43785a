"""Show a decoding walk as a table: each written token, its place in the output, and what competed with it."""

from __future__ import annotations

from rich.text import Text

from elimtool.analysis.closing import spell_prob
from elimtool.files.rows import Row, Rows
from elimtool.report.facts import Tables
from elimtool.report.ledger import stage_label
from elimtool.report.risk import risk_sentence
from elimtool.report.screen import Screen, padded

MOST_STEPS = 40
MOST_BACK = 12
"""Times that the text was taken back which are told."""
TOKEN_WIDTH = 14
NARROW_WORD = 11
WIDE = 70
"""Columns from which a step is one line; on a narrower screen the other token has a line of its own."""


def walk_lines(tables: Tables, prompt: Row, screen: Screen) -> list[Text]:
    """Lines of a prompt's walk; nothing where the model wrote nothing."""
    steps = tables.rows("walk", prompt["prompt_id"])
    if not steps:
        return [*_taken_back(tables, prompt, screen), *_emptied(tables, prompt, 0, screen)]
    stages = [row for row in tables.rows("walk_stages", prompt["prompt_id"]) if row["step"] == 0]
    title = _title(steps[0], stages, tables.run.manifest.seed, screen)
    one_left = all(step["n_survivors"] == 1 for step in steps)
    legend = "p and rank in the model's output, before any sampler; "
    legend += "the chain left one token at each step" if one_left else "drawn at: p among what the chain left"
    lines = screen.titled(
        title, f"{legend}; beside it the likeliest other token and what the chain did to it"
    )
    written = screen.visible("".join(step["token"] for step in steps))
    lines += screen.wrap(f"\u201c{written}\u201d", indent=2)
    lines += _rows(HEADINGS, one_left, screen, style="dim")
    for step in steps[:MOST_STEPS]:
        lines += _rows(walk_cells(step, screen), one_left, screen)
    if len(steps) > MOST_STEPS:
        lines.append(Text(f"  {len(steps) - MOST_STEPS:,} more steps are not shown", style="dim"))
    lines += _taken_back(tables, prompt, screen)
    lines += _emptied(tables, prompt, len(steps), screen)
    for row in tables.rows("risk", prompt["prompt_id"]):
        lines += screen.wrap(risk_sentence(row), hang=2)
    return lines


def _taken_back(tables: Tables, prompt: Row, screen: Screen) -> list[Text]:
    """Say what was taken back, one sentence for each time."""
    rows = tables.rows("walk_rewinds", prompt["prompt_id"])
    lines = [line for row in rows[:MOST_BACK] for line in screen.wrap(back_sentence(row, screen), hang=2)]
    if len(rows) > MOST_BACK:
        lines.append(
            Text(f"taken back {len(rows) - MOST_BACK:,} more times (table walk_rewinds)", style="dim")
        )
    return lines


def back_sentence(row: Row, screen: Screen) -> str:
    """Say what was taken back, to which step, by which rule, and what the ban there costs."""
    return (
        f"taken back to step {row['step']}: {screen.quoted(row['text'])} {screen.visible(row['why'])}"
        f" (p = {spell_prob(row['back_prob'])}, of which {spell_prob(row['collateral'])} would have gone on"
        " otherwise)"
    )


def _emptied(tables: Tables, prompt: Row, written: int, screen: Screen) -> list[Text]:
    """Say which stage left no token, where one ended the walk."""
    stages = [row for row in tables.rows("walk_stages", prompt["prompt_id"]) if row["step"] == written]
    ended = next((row for row in stages if row["n_before"] and not row["n_after"]), None)
    if ended is None:
        return []
    said = f"ended before token {written}: {ended['stage']} of {ended['chain']} left no token"
    return screen.wrap(screen.visible(said), indent=2, style="red", hang=2)


def _title(first: Row, stages: Rows, seed: int | None, screen: Screen) -> str:
    """The chain, the seed and the stages that are on: what it takes to write the same again."""
    on = ", ".join(stage_label(row, screen) for row in stages if row["active"])
    title = f"Written through {screen.visible(first['chain'])}"
    return title + (f" with seed {seed}" if seed is not None else "") + (f": {on}" if on else "")


HEADINGS = ("written", "token", "p", "rank", "drawn at", "other token", "p", "chain")


def walk_cells(step: Row, screen: Screen) -> tuple[str, ...]:
    """One cell for each of ``HEADINGS``: the step of a walk in words; ``drawn at`` is p after the chain."""
    rival, prob, fate = competitor(step)
    return (
        f"{step['step']}",
        screen.quoted(step["token"]),
        spell_prob(step["model_prob"]),
        f"{step['model_rank']:,}",
        spell_prob(step["prob"]),
        "" if rival is None else screen.quoted(rival),
        "" if prob is None else spell_prob(prob),
        screen.visible(fate),
    )


def competitor(step: Row) -> tuple[str | None, float | None, str]:
    """The likeliest other token, its probability and its fate; of an older run, what was almost written."""
    if step.get("runner_up") is not None:
        cut = step["runner_up_cut"]
        kept = "kept, p 0" if step.get("runner_up_left") == 0 else "kept"
        return step["runner_up"], step["runner_up_prob"], f"cut: {cut}" if cut else kept
    if step["almost"] is None:
        return None, None, ""
    return step["almost"], step["almost_prob"], f"cut: {str(step['almost_why']).partition(':')[0]}"


def _rows(cells: tuple[str, ...], one_left: bool, screen: Screen, style: str = "") -> list[Text]:
    number, token, prob, rank, drawn, rival, rival_prob, fate = cells
    wide = screen.width >= WIDE
    word = min(TOKEN_WIDTH, (screen.width - 56) // 2) if wide else NARROW_WORD
    left = (
        padded(number, 7, right=True)
        if wide
        else padded("#" if number == HEADINGS[0] else number, 3, right=True)
    )
    own = f"{left}  {padded(screen.shorten(token, word), word)}"
    own += f" {padded(prob, 7, right=True)} {padded(rank, 6, right=True)}"
    if not one_left:
        own += f" {padded(drawn, 8, right=True)}"
    other = f"{padded(screen.shorten(rival, word), word)} {padded(rival_prob, 7, right=True)}  {fate}"
    parts = [f"{own}  {other}"] if wide else [own, f"     {other}"]
    return [Text(screen.shorten(part.rstrip(), screen.width), style=style) for part in parts if part.strip()]
