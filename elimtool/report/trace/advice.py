"""Offer the commands to try next, exactly as they would be typed."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from rich.text import Text

from elimtool.report.facts import Probe
from elimtool.report.screen import Screen

Commands = Mapping[str, Sequence[str]]
"""What could be typed next, as arguments, by purpose: confirm, attribute, ridge, fit, report."""

PURPOSES = {
    "confirm": "test by ablation the heads and MLPs named above",
    "attribute": "score which part of the prompt did it",
    "fit": "fit a better lens than the raw one, once",
    "ridge": "read layers through the fitted lens",
    "report": "draw it all as a page",
}
PLACEHOLDER = "PROMPT"


def advice_lines(probe: Probe, commands: Commands, verbose: bool, screen: Screen) -> list[Text]:
    """The commands that lead on from what this run shows."""
    apt = [name for name in PURPOSES if name in commands and _apt(name, probe)]
    if not apt:
        return []
    more = "" if verbose else "  (-v shows every layer, sampler stage, span and target)"
    lines = [Text("Try next", style="bold").append(more, style="not bold dim")]
    shortened = False
    for name in apt:
        words, cut = _words(commands[name], screen.width - 8)
        shortened |= cut
        lines += _command(words, PURPOSES[name], screen)
    if shortened:
        lines += screen.wrap(f"# {PLACEHOLDER}: the prompt as you gave it", indent=2, style="dim")
    return lines


def _apt(name: str, probe: Probe) -> bool:
    if name == "confirm":
        rows = probe.rows("verdicts")
        return any(row["promoter"] or row["eliminator"] for row in rows) and not any(
            row["promoter_effect"] is not None or row["eliminator_effect"] is not None for row in rows
        )
    if name == "attribute":
        return len(probe.tokens) > 1
    if name in ("fit", "ridge"):
        return probe.lens == "raw"
    return True


def _words(arguments: Sequence[str], room: int) -> tuple[list[str], bool]:
    """Quote the arguments for a shell; one that no line holds becomes a placeholder."""
    quoted = [shlex.quote(one) for one in arguments]
    kept = [PLACEHOLDER if len(one) > room or "\n" in one else one for one in quoted]
    return kept, kept != quoted


def _command(words: Sequence[str], purpose: str, screen: Screen) -> list[Text]:
    """The command, and as a comment what it is for: what is shown can be pasted into a shell as it is."""
    whole = " ".join(words)
    comment = f"# {purpose}"
    if 2 + len(whole) + 2 + len(comment) <= screen.width:
        return [Text(f"  {whole}  ").append(comment, style="dim")]
    lines = [Text(f"  {part}", style="dim") for part in _comment(purpose, screen.width - 2)]
    return lines + [Text(f"  {line}") for line in _broken(words, screen.width - 2)]


def _comment(purpose: str, width: int) -> list[str]:
    lines = ["#"]
    for word in purpose.split():
        if len(lines[-1]) + 1 + len(word) > width:
            lines.append("#")
        lines[-1] += f" {word}"
    return lines


def _broken(words: Sequence[str], width: int) -> list[str]:
    """Break a command between arguments; all lines but the last end with the backslash of a shell."""
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + 1 + len(word) > width - 2:
            lines[-1] += " \\"
            lines.append(f"    {word}")
        else:
            lines[-1] += f" {word}"
    return lines
