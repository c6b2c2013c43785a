"""Lay out the terminal story of ``elimtool trace``, readable without colour."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.constrain import Constrain
from rich.text import Text

from elimtool.analysis.closing import closing_sentence
from elimtool.analysis.evidence import findings_in_words
from elimtool.analysis.regime_sentence import regime_sentence
from elimtool.analysis.verdict import in_words
from elimtool.files.rows import Row
from elimtool.report.facts import Probe, Tables
from elimtool.report.head import chapters, failure, head, model_line
from elimtool.report.ledger import ChainLedger, ledger, ledgers
from elimtool.report.screen import MOST_PROMPTS, Screen, spaced
from elimtool.report.trace.contrast import contrast_lines
from elimtool.report.trace.effects import effect_lines
from elimtool.report.trace.engines import engines
from elimtool.report.trace.positions import position_lines
from elimtool.report.trace.strip import strip
from elimtool.report.trace.trajectory import FEW, trajectories
from elimtool.report.trace.walk import walk_lines
from elimtool.run.reader import Run

NARROWEST = 20
MOST_SENTENCES = 5
"""Up to this many targets get a sentence each; of more, the three with the best final rank."""


def story(
    run: Run, *, width: int = 80, encoding: str = "utf-8", most_prompts: int = MOST_PROMPTS
) -> RenderableType:
    """Lay out a run: each prompt's retention strip, rank trajectories, sampler ledger and closing sentences.

    Args:
        run: From ``elimtool.trace`` or ``elimtool.open_run``.
        width: Columns to lay it out for.
        encoding: Encoding of the stream; one that lacks block characters gets an ASCII story.
        most_prompts: Prompts to show; the others are only counted.

    Raises:
        ElimError: A table of the run cannot be read.
    """
    screen = Screen(max(width, NARROWEST), encoding)
    tables = Tables(run.under(None))
    table = tables.arrow("prompts")
    prompts = table.slice(0, most_prompts).to_pylist() if table is not None else []
    count = table.num_rows if table is not None else 0
    told = chapters(prompts, count, screen, lambda prompt: _prompt(tables, prompt, screen))
    return Constrain(Group(model_line(run.manifest, run.n_layers or 0, screen), *told), screen.width)


def print_story(run: Run, console: Console, *, most_prompts: int = MOST_PROMPTS) -> None:
    """Print the story in the width and encoding of a console.

    Raises:
        ElimError: A table of the run cannot be read.
    """
    told = story(run, width=console.width, encoding=console.encoding, most_prompts=most_prompts)
    console.print(told, highlight=False)


def _prompt(tables: Tables, prompt: Row, screen: Screen) -> list[RenderableType]:
    positions = tables.positions(prompt["prompt_id"]) if prompt["status"] == "ok" else []
    if not positions:
        return failure(prompt, screen)
    probe = Probe(tables, prompt, positions[-1])  # a story of every position would fill many screens
    chains = ledgers(probe)
    sections: list[list[RenderableType]] = [
        head(probe, len(positions), screen),
        list(position_lines(tables, prompt, positions, screen)) if len(positions) > 1 else [],
        list(strip(probe, screen)),
        trajectories(probe, screen),
        list(ledger(chains, screen)),
        list(engines(probe, screen)),
        list(walk_lines(tables, prompt, screen)),
        _closing(probe, chains, screen),
        list(contrast_lines(probe, screen)),
        list(effect_lines(probe, screen)),
    ]
    return spaced(sections)


def _closing(probe: Probe, chains: list[ChainLedger], screen: Screen) -> list[RenderableType]:
    """The regime of the prediction, then a sentence a target; of many targets, only the best ranked."""
    targets = [one for one in probe.trajectories if not one.is_foil]
    told = targets
    if len(targets) > MOST_SENTENCES:
        told = sorted(targets, key=lambda one: one.ranks[-1][1])[:FEW]
    verdicts = {row["target"]: row for row in probe.rows("verdicts")}
    lines: list[RenderableType] = []
    for row in probe.rows("regimes"):
        lines += screen.wrap(regime_sentence(row), hang=2)
    for one in told:
        key = (one.target, one.token_id)
        fates = [chain.fate(key) for chain in chains if chain.targets.get(key)]
        sentence = closing_sentence(screen.quoted(one.target, 24), one.ranks, one.prob, fates)
        lines += screen.wrap(sentence, hang=2)
        judged = verdicts.get(one.target)
        if judged and (more := in_words(judged)):
            lines += screen.wrap(
                f"{judged['outcome'].replace('_', ' ')}: {more}", indent=2, hang=2, style="dim"
            )
            for said in findings_in_words(judged):
                lines += screen.wrap(said, indent=2, hang=2)
    if len(targets) > len(told):
        lines.append(Text(f"{len(targets) - len(told)} more targets are in the tables.", style="dim"))
    return lines
