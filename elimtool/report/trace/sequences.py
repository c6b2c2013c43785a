"""Tell how probable targets of several tokens are through sampler chains, and where they die."""

from __future__ import annotations

from rich.cells import cell_len
from rich.text import Text

from elimtool.analysis.closing import spell_prob
from elimtool.files.rows import Row, Rows
from elimtool.report.facts import Tables
from elimtool.report.screen import Screen, padded

MOST_TOKENS = 24
"""Tokens of a target that are listed."""
TOKEN_WIDTH = 14
LEAST_BITS = 0.005
"""A stage that changes less than this is not named."""
HEADINGS = ("", "token", "p", "rank", "drawn at", "so far", "stages, bits")


def sequence_lines(tables: Tables, prompt: Row, screen: Screen) -> list[Text]:
    """Lines of a prompt's targets through chains; nothing where none was followed."""
    wholes = tables.rows("sequences", prompt["prompt_id"])
    if not wholes:
        return []
    lines = screen.titled(
        "Token by token through a chain",
        "each token after those before it; p and rank in the model's output, drawn at: p through the chain;"
        " bits that a stage gives or takes",
    )
    for whole in wholes:
        lines += screen.wrap(whole_sentence(whole, screen), hang=2)
        steps = of_whole(tables.rows("sequence_steps", prompt["prompt_id"]), whole)
        stages = of_whole(tables.rows("sequence_stages", prompt["prompt_id"]), whole)
        if len(steps) > 1:
            lines += _listed(steps, stages, screen)
        if removed := [row for row in steps if row["why"] is not None]:
            lines += screen.wrap(removal_sentence(removed[0], screen), indent=2, hang=2)
    return lines


def whole_sentence(whole: Row, screen: Screen) -> str:
    """Say how probable a target is through a chain, and what the chain changes."""
    name = f"{screen.quoted(whole['target'])} through {screen.visible(whole['chain'])}"
    alone = f"{spell_prob(whole['model_prob'])} in the model alone"
    if whole["dies_step"] is not None:
        place = f"its token {whole['dies_step'] + 1} of {whole['n_tokens']}"
        if whole["n_tokens"] == 1:
            place = "its only token"
        return f"{name}: p = 0, {alone}: {whole['dies_stage']} removes {place}{cost_in_words(whole)}"
    if whole["bits"] is None:
        return f"{name}: p = {spell_prob(whole['prob'])}, {alone}"
    what = "gives" if whole["bits"] >= 0 else "takes"
    changed = f"the chain {what} {abs(whole['bits']):.2g} bits"
    changed = "the chain changes nothing" if abs(whole["bits"]) < LEAST_BITS else changed
    told = f"{changed}, {whole['bits_left']:.2g} bits are left to chance"
    return f"{name}: p = {spell_prob(whole['prob'])}, {alone}; {told}"


def cost_in_words(row: Row) -> str:
    """Say what it costs to ban the token in which a phrase begins; nothing where none is taken back."""
    if row.get("back_prob") is None:
        return ""
    part = spell_prob(row["collateral"])
    return (
        f"; what is banned is its token {row['back_step'] + 1}, p = {spell_prob(row['back_prob'])}, of which"
        f" {part} would have gone on otherwise (collateral)"
    )


def removal_sentence(step: Row, screen: Screen) -> str:
    """Say by which rule a token was removed, and what is drawn instead."""
    token, top = screen.quoted(step["token"]), screen.quoted(step["top"])
    said = f"{token}: {step['removed_by']}: {screen.visible(step['why'])}"
    return f"{said}; most probable instead: {top} with p = {spell_prob(step['top_prob'])}"


def step_cells(step: Row, stages: Rows, screen: Screen) -> tuple[str, ...]:
    """One cell for each of ``HEADINGS``."""
    return (
        f"{step['step'] + 1}",
        screen.quoted(step["token"]),
        spell_prob(step["model_prob"]),
        f"{step['model_rank']:,}",
        spell_prob(step["prob"]),
        spell_prob(step["prob_so_far"]),
        stages_in_words([row for row in stages if row["step"] == step["step"]]),
    )


def stages_in_words(stages: Rows) -> str:
    """Name the stages that change a token's probability, each with its bits, or the one that removes it."""
    said: list[str] = []
    for row in stages:
        if not row["alive_after"]:
            return ", ".join([*said, f"cut: {row['stage']}"])
        if row["bits"] is not None and abs(row["bits"]) >= LEAST_BITS:
            said.append(f"{row['stage']} {row['bits']:+.2f}")
    return ", ".join(said)


def of_whole(rows: Rows, whole: Row) -> Rows:
    """Choose the rows of one target and chain."""
    return [row for row in rows if all(row[name] == whole[name] for name in ("chain", "target", "is_foil"))]


def _listed(steps: Rows, stages: Rows, screen: Screen) -> list[Text]:
    shown = steps[:MOST_TOKENS]
    cells = [HEADINGS, *(step_cells(step, stages, screen) for step in shown)]
    lines = []
    for row, (number, token, *numbers, told) in enumerate(cells):
        widths = (7, 6, 8, 8)
        line = f"{padded(number, 4, right=True)}  {padded(screen.shorten(token, TOKEN_WIDTH), TOKEN_WIDTH)}"
        line += "".join(
            f" {padded(one, width, right=True)}" for one, width in zip(numbers, widths, strict=True)
        )
        wide = cell_len(line) + 2 + cell_len(told) <= screen.width
        line = f"{line}  {told}" if wide else line
        lines.append(Text(screen.shorten(line.rstrip(), screen.width), style="" if row else "dim"))
        if not wide:
            lines += screen.wrap(told, indent=6) if row else [Text(f"{'':6}{told}", style="dim")]
    if len(steps) > MOST_TOKENS:
        lines.append(Text(f"  {len(steps) - MOST_TOKENS:,} more tokens are not shown", style="dim"))
    return lines
