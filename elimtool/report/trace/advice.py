"""Offer the commands to try next, exactly as they would be typed."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from rich.text import Text

from elimtool.analysis.fate import ChainFate
from elimtool.analysis.later import later
from elimtool.files.rows import Row
from elimtool.report.facts import Probe
from elimtool.report.ledger import ChainLedger
from elimtool.report.numbering import Numbering
from elimtool.report.screen import Screen
from elimtool.report.targets import likelier_spelling
from elimtool.report.trace.answer import first_tokens
from elimtool.report.trace.judgement import told_targets

NAME = 24
MOST_LINES = 7
"""Lines of commands on a first screen."""


@dataclass(frozen=True)
class Wish:
    """What a command to try next is to be about.

    Attributes:
        place: The position that is told, as a user types it.
        single: Whether it is the only one that was read.
        foil: The token that is more probable than the target; empty where there is none.
        chain: Name of the sampler chain that cut the target; empty for none.
        stage: The stage that cut it.
        value: Value of the stage's main parameter that would have kept the target.
        later: What stages behind it would do to the target then; empty where all keep it.
        spelled: Whether the other spelling of the target is the likelier one.
    """

    place: str = ""
    single: bool = True
    foil: str = ""
    chain: str = ""
    stage: str = ""
    value: float = 0.0
    later: str = ""
    spelled: bool = False


Commands = Mapping[str, Callable[[Wish], Sequence[str]]]
"""What could be typed next, as arguments, by purpose; no arguments where it does not apply."""

PURPOSES = {
    "spelling": "read {target} in the spelling that the model finds likelier",
    "samplers": "the setting at which {stage} keeps {target}{later}",
    "foil": "what raises {foil} above {target}",
    "confirm": "test by ablation the heads and MLPs named above",
    "attribute": "score what each part of the prompt adds to {target}",
    "report": "draw it all as a page",
    "fit": "fit a better lens than the raw one, once",
    "ridge": "read layers through the fitted lens",
}
PLACEHOLDER = "PROMPT"


def advice_lines(
    probe: Probe,
    places: Numbering,
    chains: list[ChainLedger],
    commands: Commands,
    verbose: bool,
    screen: Screen,
) -> list[Text]:
    """The commands that lead on from what this run shows."""
    wish = _wish(probe, places, chains)
    names = {
        "stage": wish.stage,
        "later": wish.later,
        "foil": screen.quoted(wish.foil, NAME),
        "target": screen.quoted(next((one.target for one in told_targets(probe)[0]), ""), NAME),
    }
    apt = {name: commands[name](wish) for name in PURPOSES if name in commands and _apt(name, probe, wish)}
    if not any(apt.values()):
        return []
    more = "" if verbose else "  (-v shows every layer, sampler stage, span and target)"
    lines = [Text("Try next", style="bold").append(more, style="not bold dim")]
    shortened = False
    for name in [name for name in apt if apt[name]]:
        words, cut = _words(apt[name], screen.width - 8)
        own = _command(words, PURPOSES[name].format(**names), screen)
        if verbose or len(lines) + len(own) <= 1 + MOST_LINES:
            lines += own
            shortened |= cut
    if shortened:
        lines += screen.wrap(f"# {PLACEHOLDER}: the prompt as you gave it", indent=2, style="dim")
    return lines


def _wish(probe: Probe, places: Numbering, chains: list[ChainLedger]) -> Wish:
    """What became of the first target that is told, as far as a command can lead on from it."""
    wish = Wish(places.typed(probe.position), len(places.positions) == 1)
    one = next(iter(told_targets(probe)[0]), None)
    first = next(iter(first_tokens(probe)), None)
    if one is None or not probe.asked:
        return wish
    survival = next((row for row in probe.rows("survival") if row["target"] == one.target), None)
    wish = replace(wish, spelled=survival is not None and likelier_spelling(survival, probe) is not None)
    outcome = next((row["outcome"] for row in probe.rows("verdicts") if row["target"] == one.target), "")
    if outcome == "sampler_eliminated":
        key = (one.target, one.token_id)
        fates = [(chain, chain.fate(key)) for chain in chains if key in chain.targets]
        chain, cut = next((pair for pair in fates if pair[1].bound.value is not None), (None, None))
        if chain is not None and cut is not None:
            value, then = cut.bound.value or 0.0, _later(chain, cut, first)
            return replace(wish, chain=cut.chain, stage=cut.stage, value=value, later=then)
    known = {other.token_id for other in probe.trajectories if other.is_foil}
    if outcome == "outranked" and first is not None and first["token_id"] not in known:
        return replace(wish, foil=first["token"])
    return wish


def _later(chain: ChainLedger, fate: ChainFate, first: Row | None) -> str:
    """Say what the stages behind the one that cuts a target would do to it if that one kept it."""
    if fate.cut is None:
        return ""
    holds = fate.bound.given - fate.cut["margin"] if fate.bound.holds and fate.bound.given else None
    found = later(chain.stages, fate.cut, holds, first["prob"] if first else None)
    if found.cuts:
        return f"; {found.cuts} behind it still cuts it"
    return f"; {found.may} behind it may still cut it" if found.may else ""


def _apt(name: str, probe: Probe, wish: Wish) -> bool:
    if name == "spelling":
        return wish.spelled
    if name == "samplers":
        return bool(wish.chain)
    if name == "foil":
        return bool(wish.foil.strip())
    if name in ("confirm", "attribute") and (wish.chain or wish.spelled):
        return False  # neither heads nor the prompt say what a sampler or a spelling did
    if name == "confirm":
        rows = probe.rows("verdicts")
        return any(row["promoter"] or row["eliminator"] for row in rows) and not any(
            row["promoter_effect"] is not None or row["eliminator_effect"] is not None for row in rows
        )
    if name == "attribute":
        return len(probe.tokens) > 1 and bool(told_targets(probe)[0])
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
