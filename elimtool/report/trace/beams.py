"""Tell which texts a beam search finds, where it drops targets, and how many beams would keep them."""

from __future__ import annotations

from rich.text import Text

from elimtool.files.rows import Row, Rows
from elimtool.report.facts import Tables
from elimtool.report.screen import Screen, padded

MOST_TEXTS = 8
"""Texts of the result that are listed."""
HEADINGS = ("place", "score", "log p", "text")


def beam_lines(tables: Tables, prompt: Row, screen: Screen) -> list[Text]:
    """Lines of a prompt's beam search; nothing where there was none."""
    texts, steps, targets = (
        tables.rows(name, prompt["prompt_id"]) for name in ("beams", "beam_steps", "beam_targets")
    )
    if not (texts or steps or targets):
        return []
    lines = screen.titled(
        "Beams",
        "score: sum of log-probabilities after the chain, divided by the length as asked; log p: of the text"
        " in the model's output",
    )
    counted = [screen.visible(counts_sentence(texts, steps))] if steps else []
    for said in [*counted, *(target_sentence(row, screen) for row in targets)]:
        lines += screen.wrap(said, hang=2)
    found = [row for row in texts if row["place"] is not None]
    for cells in [HEADINGS, *(_cells(row, screen) for row in found[:MOST_TEXTS])] if found else []:
        line = "".join(
            f"{padded(one, width, right=True)} " for one, width in zip(cells, (6, 8, 8), strict=False)
        )
        style = "" if cells is not HEADINGS else "dim"
        lines.append(Text(screen.shorten(f"{line} {cells[-1]}", screen.width), style=style))
    if len(found) > MOST_TEXTS:
        lines.append(Text(f"  {len(found) - MOST_TEXTS:,} more texts are not shown", style="dim"))
    return lines


def counts_sentence(texts: Rows, steps: Rows) -> str:
    """Say how many continuations the search looked at and dropped, and which text it found."""
    dropped = sum(row["fate"] == "dropped" for row in steps)
    said = (
        f"Through {steps[0]['chain']}, without its stages for draws: {len(steps):,} continuations were looked"
        f" at in {_counted(steps[-1]['step'] + 1, 'step')}, {dropped:,} dropped"
    )
    lost = [sum(row["fate"] == fate for row in texts) for fate in ("displaced", "unfinished")]
    words = ("finished texts gave way to better ones", "were unfinished when the search ended")
    told = [f"{count} {what}" for count, what in zip(lost, words, strict=True) if count]
    return "; ".join([said, *told])


def target_sentence(row: Row, screen: Screen) -> str:
    """Say whether a target stays, where it is dropped and by how much, and how many beams would keep it."""
    name = screen.quoted(row["target"])
    if row["stays"]:
        where = "is not in the result" if row["best_place"] is None else f"begins text {row['best_place']}"
        return f"{name} stays to its last token and {where}; {_least(row)}"
    where = f"at {screen.quoted(row['dropped_token'])}, step {row['dropped_step'] + 1}"
    if row["removed_by"] is not None:
        return f"{name} is dropped {where}: {row['removed_by']} removes it, for every number of beams"
    if row["lead"] is not None and row["lead"] < 0:
        behind = f"place {row['place']:,}, {-row['lead']:.2f} nats behind the last that goes on"
        return f"{name} is dropped {where}: {behind}; {_least(row)}"
    return f"{name} is dropped {where}: the search ended first; {_least(row)}"


def _least(row: Row) -> str:
    if row["least_beams"] is None:
        return f"no number of beams up to {row['most_beams']} keeps it"
    return f"the least that keeps it is {_counted(row['least_beams'], 'beam')}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _cells(row: Row, screen: Screen) -> tuple[str, ...]:
    ended = "" if row["ended"] else " ..."
    score, logprob = f"{row['final_score']:.2f}", f"{row['logprob']:.2f}"
    return f"{row['place']}", score, logprob, f"{screen.quoted(row['text'])}{ended}"
