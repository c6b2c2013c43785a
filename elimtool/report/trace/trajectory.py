"""Draw rank trajectories: a sparkline and a few words for each followed token."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log

from rich.cells import cell_len
from rich.console import RenderableType
from rich.text import Text

from elimtool.analysis.closing import course, spell_prob
from elimtool.report.facts import Probe
from elimtool.report.followed import Trajectory
from elimtool.report.numbers import rank_step
from elimtool.report.screen import Screen, padded
from elimtool.report.trace.milestones import in_words

FEW = 3
"""Up to this many tokens are shown with all their milestones; of more, each gets one line."""
WIDEST_SPARK = 40
NAME = 18


def trajectories(probe: Probe, screen: Screen) -> list[RenderableType]:
    """One or more lines for each followed token; nothing where the run has no lens table."""
    followed = [one for one in probe.trajectories if one.ranks]
    if not followed:
        return []
    names = [screen.quoted(one.target, min(NAME, screen.width // 3)) for one in followed]
    name_width = max(cell_len(name) for name in names)
    rank_width = max(len(f"{one.rank:,}") for one in followed)
    fully = len(followed) <= FEW
    spare = screen.width - name_width - rank_width - (20 if fully else 32)
    width = max(min(len(followed[0].ranks), WIDEST_SPARK, spare), 4 if fully else 10)
    worst = max(rank for one in followed for _, rank in one.ranks)
    lines: list[RenderableType] = [rank_title(worst, screen, "" if fully else "; then final rank and p")]
    for name, one in zip(names, followed, strict=True):
        line = Text(padded(name, name_width) + "  ", style="dim" if one.is_foil else "")
        line.append_text(spark(one, worst, width, screen))
        word = "rank " if fully else ""
        line.append(f"  {word}{one.rank:>{rank_width},}", style="bold" if one.rank == 1 else "")
        line.append(f"  p {spell_prob(one.prob)}" if fully else f"  {spell_prob(one.prob):<7}")
        lines += _told(line, one, fully, screen)
    return [*lines, *rank_note(probe, screen)]


def rank_title(worst: int, screen: Screen, then: str = "") -> Text:
    """Title of rank paths, with the scale of their bars; ``then`` says what stands behind the path."""
    title = Text("Rank by layer", style="bold")
    legend = f"  ({screen.steps[7]} rank 1{f', {screen.steps[0]} rank {worst:,}' if worst > 1 else ''}{then})"
    return title.append(legend, style="not bold dim") if len(legend) + 13 <= screen.width else title


def rank_note(probe: Probe, screen: Screen) -> list[Text]:
    """Say what the bars of a rank path stand for."""
    last, lens = (probe.run.n_layers or 0) - 1, screen.visible(probe.lens)
    said = f"Left to right: embedding, layers 0 to {last}, each read as if the last ({lens} lens)."
    return screen.wrap(said, style="dim")


def _told(line: Text, one: Trajectory, fully: bool, screen: Screen) -> list[RenderableType]:
    """Put the words beside the line where they fit, else below it, indented."""
    words = in_words(one.ranks, screen) if fully else course(one.ranks)
    words = "; ".join([words, *marks(one, screen)])
    if line.cell_len + 2 + len(words) <= screen.width:
        line.append(f"  {words}", style="dim")
        return [line]
    return [line, *screen.wrap(words, indent=2, style="dim")]


def marks(one: Trajectory, screen: Screen) -> list[str]:
    """Remarks on a row: foil, ambiguous, tied, or longer than the token that is read."""
    marks = ["foil"] if one.is_foil else []
    if one.same_as:
        marks.append(f"read by the same first token as {screen.quoted(one.same_as, NAME)}")
    elif one.ambiguous:
        marks.append("ambiguous: another has the same first token")
    if one.ties:
        marks.append(f"tied with {one.ties:,}")
    # a target of one token has the same probability twice, but for rounding
    if one.whole_logprob is not None and one.prob > 0 and abs(one.whole_logprob - log(one.prob)) > 1e-3:
        marks.append(f"all its tokens p {spell_prob(exp(one.whole_logprob))}")
    return marks


def spark(one: Trajectory, worst: int, width: int, screen: Screen) -> Text:
    """Draw the ranks in at most ``width`` cells, on a logarithmic scale that ends at the rank ``worst``."""
    spark = Text()
    for rank in _sampled([rank for _, rank in one.ranks], width):
        step = rank_step(rank, worst)
        spark.append(screen.steps[step], style="bold green" if rank == 1 else "cyan")
    return spark


def _sampled(ranks: Sequence[int], width: int) -> list[int]:
    """At most ``width`` evenly spaced readings, always with the first and the last."""
    if len(ranks) <= width:
        return list(ranks)
    return [ranks[round(index * (len(ranks) - 1) / (width - 1))] for index in range(width)]
