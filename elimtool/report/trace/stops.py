"""Tell where a generated text may stop: the watched tokens at each step, and what cuts them."""

from __future__ import annotations

from collections import Counter

from rich.cells import cell_len
from rich.text import Text

from elimtool.analysis.closing import spell_prob
from elimtool.files.rows import Row, Rows
from elimtool.report.facts import Tables
from elimtool.report.screen import Screen, padded

MOST_STEPS = 8
TOKEN_WIDTH = 14
HEADINGS = ("written", "token", "p stop", "rank", "through", "by then", "chain")


def stop_lines(tables: Tables, prompt: Row, screen: Screen) -> list[Text]:
    """Lines on the watched tokens of a prompt's walk; nothing where none was watched."""
    steps = tables.rows("stops", prompt["prompt_id"])
    if not steps:
        return []
    tokens = tables.rows("stop_tokens", prompt["prompt_id"])
    written = [step for step in steps if step["token"] is not None]
    names = list(dict.fromkeys(row["token"] for row in tokens))
    lines = screen.titled(
        f"Where it may stop: {', '.join(screen.quoted(name) for name in names)}",
        "p stop and best rank in the model's output, through: p through the chain, by then: p of having"
        " stopped in a text that goes this way",
    )
    for said in stop_sentences(steps, screen):
        lines += screen.wrap(said, hang=2)
    likeliest = sorted(written, key=lambda step: -step["model_prob"])[:MOST_STEPS]
    if len(written) > MOST_STEPS:
        lines += screen.wrap(
            f"The {MOST_STEPS:,} of {len(written):,} steps where the model itself would most stop:"
        )
    cells = [HEADINGS, *(stop_cells(step, tokens, screen) for step in written if step in likeliest)]
    wide = max(cell_len(_line(row, screen)) + 2 + cell_len(row[-1]) for row in cells) <= screen.width
    for at, row in enumerate(cells):
        parts = [f"{_line(row, screen)}  {row[-1]}"] if wide else [_line(row, screen), f"{'':9}{row[-1]}"]
        lines += [Text(screen.shorten(one, screen.width), style="" if at else "dim") for one in parts]
    return lines


def stop_sentences(steps: Rows, screen: Screen) -> list[str]:
    """Say how often the watched tokens are cut, by what, and how probable the text is to stop."""
    written = [step for step in steps if step["token"] is not None]
    cut = Counter(step["removed_by"] for step in written if step["removed_by"] is not None)
    said = []
    if cut:
        by = ", ".join(f"{screen.visible(stage)} at {count}" for stage, count in cut.most_common())
        many = "every step" if cut.total() == len(written) else f"{cut.total():,} of {len(written):,} steps"
        said.append(f"The chain leaves no way to stop at {many} (cut by {by}).")
    else:
        said.append("The chain leaves a way to stop at every step.")
    last, end = written[-1], steps[-1]
    said.append(
        f"A text that goes this way has stopped within {len(written):,} tokens with p ="
        f" {spell_prob(last['stopped_by'])}, without the chain's stages with p ="
        f" {spell_prob(last['model_stopped_by'])}."
    )
    said.append(
        f"Any text has stopped within {len(steps):,} tokens with p = {spell_prob(end['stop_by'])}"
        f" (standard error {end['stop_by_se']:.1g}, over {end['n_texts']:,} texts that are let go on)."
    )
    return said


def stop_cells(step: Row, tokens: Rows, screen: Screen) -> tuple[str, ...]:
    """One cell for each of ``HEADINGS``."""
    rank = min(row["model_rank"] for row in tokens if row["step"] == step["step"])
    return (
        f"{step['step']}",
        screen.quoted(step["token"]),
        spell_prob(step["model_prob"]),
        f"{rank:,}",
        spell_prob(step["prob"]),
        spell_prob(step["stopped_by"]),
        "kept" if step["removed_by"] is None else f"cut: {screen.visible(step['removed_by'])}",
    )


def _line(cells: tuple[str, ...], screen: Screen) -> str:
    """Put all cells but the last side by side."""
    number, token, *numbers, _ = cells
    line = f"{padded(number, 7, right=True)}  {padded(screen.shorten(token, TOKEN_WIDTH), TOKEN_WIDTH)}"
    widths = (8, 7, 8, 8)
    return line + "".join(
        f" {padded(one, width, right=True)}" for one, width in zip(numbers, widths, strict=True)
    )
