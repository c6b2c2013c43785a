"""Say which token of a target is read: after what, of how many, and in which spelling."""

from __future__ import annotations

from math import exp, isnan
from typing import Any

from rich.text import Text

from elimtool.analysis.closing import spell_prob
from elimtool.files.rows import Row
from elimtool.report.facts import Probe
from elimtool.report.screen import Screen

NAME = 24
MOST = 5
ALIKE = 0.01
"""Nats by which one of two spellings must be ahead to be called the likelier one."""
CLOSE = 0.01
"""Share of the likelier spelling's probability from which on the other one matters."""
NAMED = {" ": "the space", "\n": "the line break", "\t": "the tab"}


def appended_line(probe: Probe, screen: Screen) -> str:
    """Say after which tokens that are not the prompt's the answer is read; empty for none."""
    count = probe.prompt["n_appended"] or 0
    if not count:
        return ""
    added = "".join(probe.tokens[-count:])
    what = named(added, screen)
    logprob = probe.prompt.get("appended_logprob")
    if logprob is None or isnan(logprob):
        return f"read after {what}, with which all targets and foils begin"
    prob = exp(logprob)
    if prob >= 0.5:
        return f"read after {what} that the model writes first, p {spell_prob(prob)}"
    return f"read after {what}, which the model writes here with p {spell_prob(prob)}"


def named(text: str, screen: Screen) -> str:
    """Name white space by its word, any other text by itself."""
    return NAMED.get(text) or screen.quoted(text, NAME)


def target_lines(probe: Probe, verbose: bool, screen: Screen) -> list[Text]:
    """A line for each target that was asked for of which less is read than was asked, or something else."""
    rows = probe.rows("survival") if probe.prompt["targets"] else []
    told = dict.fromkeys(line for row in rows for line in _told(row, probe, verbose, screen))
    return [line for one in list(told)[:MOST] for line in screen.wrap(one, hang=2)]


def _told(row: Row, probe: Probe, verbose: bool, screen: Screen) -> list[str]:
    if row["spelling"] is None:  # a run of schema version 1
        return []
    name, token = screen.quoted(row["target"], NAME), row["target_token"]
    count = probe.prompt["n_appended"] or 0
    own = row["spelling"].removeprefix("".join(probe.tokens[-count:]) if count else "")
    lines = []
    if not token.strip() and own.strip():
        lines.append(
            f"{name} is read by the white space before it alone, which says nothing of it: ask for it by"
            " itself, at the last position"
        )
    elif token != own:
        lines.append(
            f"only the first token {screen.quoted(token, NAME)} of {screen.quoted(own, NAME)} is read"
        )
    return lines + _spellings(row, probe, verbose, screen)


def _spellings(row: Row, probe: Probe, verbose: bool, screen: Screen) -> list[str]:
    other, mine = _number(row["other_spelling_logprob"]), _number(row["target_logprob"])
    if row["other_spelling"] is None or other is None or mine is None:
        return []
    mine += _number(probe.prompt.get("appended_logprob")) or 0.0
    if likelier_spelling(row, probe) is not None or (not verbose and exp(other - mine) < CLOSE):
        return []  # a likelier one is told with the target's place
    first, second = (screen.quoted(row[one], NAME) for one in ("spelling", "other_spelling"))
    chances = spell_prob(exp(mine)), spell_prob(exp(other))
    return [f"written {first}, p {chances[0]} for all of it; {second} has p {chances[1]}"]


def likelier_spelling(row: Row, probe: Probe) -> float | None:
    """Probability, 0 .. 1, of all of the other spelling where it is the likelier one; else None."""
    other, mine = _number(row.get("other_spelling_logprob")), _number(row["target_logprob"])
    if other is None or mine is None or row.get("other_spelling") is None:
        return None
    mine += _number(probe.prompt.get("appended_logprob")) or 0.0
    return exp(other) if other > mine + ALIKE else None


def _number(value: Any) -> float | None:
    return None if value is None or isnan(value) else float(value)
