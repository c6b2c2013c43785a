"""Tell what grammars and JSON schemas remove and force, step by step, and how far they accept each target."""

from __future__ import annotations

from collections.abc import Iterator

from rich.cells import cell_len
from rich.text import Text

from elimtool.analysis.closing import spell_prob
from elimtool.files.rows import Row, Rows
from elimtool.report.facts import Tables
from elimtool.report.screen import Screen, padded

MOST_STEPS = 24
"""Steps that are listed, those with the most removed."""
ROOM = 12
"""Least cells for where in the JSON a step stands."""
WORDS = {"json_schema": "JSON schema", "grammar": "grammar", "regex": "regular expression"}
HEADINGS = ("step", "token", "allowed", "removed", "likeliest", "p", "where")
_WIDTHS = (4, 11, 7, 8, 11, 8)


def grammar_lines(tables: Tables, prompt: Row, screen: Screen) -> list[Text]:
    """Lines of a prompt's grammars; nothing where no chain has one."""
    steps, places, targets = (
        tables.rows(name, prompt["prompt_id"]) for name in ("walk_grammar", "grammar", "grammar_targets")
    )
    said = [*grammar_sentences(steps, at_the_end(places), screen)]
    said += target_sentences(at_the_end(targets), screen)
    if not said:
        return []
    lines = screen.titled(
        "Grammar", "removed: probability that it takes from what the chain left before it; p: of one token"
    )
    for sentence in dict.fromkeys(said):
        lines += screen.wrap(sentence, hang=2)
    tokens = written_tokens(tables, prompt)
    listed = sorted(most_removed(steps), key=lambda row: row["step"])
    for cells in [HEADINGS, *(step_cells(row, tokens, screen) for row in listed)] if listed else []:
        line = " ".join(
            padded(screen.shorten(one, width), width, right=at not in (1, 4))
            for at, (one, width) in enumerate(zip(cells, _WIDTHS, strict=False))
        )
        room = screen.width - cell_len(line) - 2
        line += f"  {screen.shorten(cells[-1], room)}" if room >= ROOM else ""
        style = "dim" if cells is HEADINGS else ""
        lines.append(Text(screen.shorten(line.rstrip(), screen.width), style=style))
    if left := len(steps) - len(listed):
        lines.append(Text(f"  {left:,} steps at which less is removed are not shown", style="dim"))
    return lines


def at_the_end(rows: Rows) -> Rows:
    """Choose the rows of the last probed position."""
    last = max((row["position"] for row in rows), default=None)
    return [row for row in rows if row["position"] == last]


def written_tokens(tables: Tables, prompt: Row) -> dict[int, str]:
    """Return the tokens of the walk by their step, as far as the table is there."""
    return {row["step"]: row["token"] for row in tables.rows("walk", prompt["prompt_id"])}


def most_removed(steps: Rows) -> Rows:
    """Choose the steps with the most removed."""
    return sorted(steps, key=lambda row: (-row["mass_removed"], row["step"]))[:MOST_STEPS]


def grammar_sentences(steps: Rows, places: Rows, screen: Screen) -> Iterator[str]:
    """Say what each grammar did to the written text or, where none was written, to the output."""
    if steps:
        worst, last = most_removed(steps)[0], steps[-1]
        forced = sum(row["forced"] is True for row in steps)
        whole = f"{_name(worst, screen)}: {forced} of {_counted(len(steps), 'token')} forced"
        if worst["mass_removed"] > 0:
            whole += f"; most is removed at step {worst['step']}: {_removed(worst, screen)}"
        if last["distortion_so_far"] is not None:
            whole += f"; in all {last['distortion_so_far']:.3g} nats of distortion"
        yield whole
        if last["refused"] is not None:
            yield (
                f"{_name(last, screen)}: the text leaves it at its token {last['n_valid'] + 1},"
                f" {screen.quoted(last['refused'])}: nothing is removed from there on"
            )
        return
    for row in places:
        if row["refused"] is not None:
            yield f"{_name(row, screen)}: the text has left it at {screen.quoted(row['refused'])}"
            continue
        allowed = f"{_counted(row['n_allowed'], 'token')} allowed"
        stop = ", the text may end here" if row["may_stop"] else ""
        yield f"{_name(row, screen)}: {_removed(row, screen)}; {allowed}{stop}"


def target_sentences(rows: Rows, screen: Screen) -> list[str]:
    """Say how far grammars accept targets, one sentence for all that are refused at their beginning."""
    fates: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        key = screen.visible(row["chain"]), _accepted(row, screen)
        fates.setdefault(key, []).append(screen.quoted(row["target"]))
    return [f"{', '.join(names)} in the grammar of {chain}: {fate}" for (chain, fate), names in fates.items()]


def _accepted(row: Row, screen: Screen) -> str:
    """Say how far a grammar accepts a target, and what it would have allowed instead."""
    if row["refused"] is None:
        return f"accepted, {'a whole text' if row['complete'] else 'as the beginning of a text'}"
    some = ", ".join(map(screen.quoted, row["allowed"]))
    instead = f"{_counted(row['n_allowed'], 'token')} allowed there" + (f", such as {some}" if some else "")
    if not row["n_valid"]:
        return f"refused from the first token on; {instead}"
    begun, refused = screen.quoted(row["valid_prefix"]), screen.quoted(row["refused"])
    return f"accepted up to {begun}, refused at {refused}; {instead}"


def step_cells(row: Row, tokens: dict[int, str], screen: Screen) -> tuple[str, ...]:
    """One cell for each of ``HEADINGS``."""
    token = tokens.get(row["step"])
    return (
        f"{row['step']}",
        "" if token is None else screen.quoted(token),
        "any" if row["n_allowed"] is None else "forced" if row["forced"] else f"{row['n_allowed']:,}",
        spell_prob(row["mass_removed"]),
        "" if row["cut"] is None else screen.quoted(row["cut"]),
        "" if row["cut_prob"] is None else spell_prob(row["cut_prob"]),
        screen.visible(row["state"] or ""),
    )


def _name(row: Row, screen: Screen) -> str:
    how = ", which checks what is drawn" if row.get("mode") == "check" else ""
    by = screen.visible(row["engine"])
    return f"{WORDS[row['syntax']]} of {screen.visible(row['chain'])}, by {by}{how}"


def _removed(row: Row, screen: Screen) -> str:
    if row["cut"] is None:
        return "nothing is removed"
    said = "to draw again, the likeliest refused" if row.get("mode") == "check" else "in all, the likeliest"
    return (
        f"p {spell_prob(row['mass_removed'])} {said} {screen.quoted(row['cut'])}"
        f" (p {spell_prob(row['cut_prob'])})"
    )


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
