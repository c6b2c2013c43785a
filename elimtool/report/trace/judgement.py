"""Say in one sentence what became of each target, and what is unusual about the prediction."""

from __future__ import annotations

from rich.text import Text

from elimtool.analysis.closing import closing_sentence
from elimtool.analysis.regime_sentence import regime_sentence
from elimtool.analysis.verdict_sentence import verdict_sentence
from elimtool.files.rows import Row
from elimtool.report.facts import Probe
from elimtool.report.followed import Trajectory
from elimtool.report.ledger import ChainLedger
from elimtool.report.screen import Screen
from elimtool.report.trace.answer import leader
from elimtool.report.trace.trajectory import FEW

MOST_SENTENCES = 5
"""Up to this many targets get a sentence each; of more, the three with the best final rank."""
NAME = 24


def judgement_lines(probe: Probe, chains: list[ChainLedger], screen: Screen) -> list[Text]:
    """A sentence for each target, or for the first choice where no target was named; then the regime."""
    lines: list[Text] = []
    told, others = told_targets(probe)
    verdicts = {row["target"]: row for row in probe.rows("verdicts")}
    for one in told:
        lines += screen.wrap(_sentence(one, probe, chains, verdicts.get(one.target), screen), hang=2)
    if others:
        lines.append(Text(f"{others} more targets are told in the detailed story only.", style="dim"))
    return lines + regime_lines(probe, screen)


def regime_lines(probe: Probe, screen: Screen) -> list[Text]:
    """What kind of text the prediction is made in, where that was judged."""
    told = filter(None, map(regime_sentence, probe.rows("regimes")))
    return [line for said in told for line in screen.wrap(said, hang=2)]


def told_targets(probe: Probe) -> tuple[list[Trajectory], int]:
    """The targets that get a sentence, and the number of those that get none."""
    asked = set(probe.prompt["targets"] or ())
    # of what the model wrote, the token that came next is followed too, which nobody asked for
    targets = [one for one in probe.trajectories if not one.is_foil and one.target in (asked or {one.target})]
    if not probe.asked:  # the model's own candidates: only what became of the first is news
        return [one for one in targets if one.rank == 1][:1], 0
    if len(targets) <= MOST_SENTENCES:
        return targets, 0
    return sorted(targets, key=lambda one: one.rank)[:FEW], len(targets) - FEW


def _sentence(
    one: Trajectory, probe: Probe, chains: list[ChainLedger], verdict: Row | None, screen: Screen
) -> str:
    key = (one.target, one.token_id)
    fates = [chain.fate(key) for chain in chains if chain.targets.get(key)]
    name = screen.quoted(one.target, NAME)
    if verdict is None:  # a run without this table still tells the course of the ranks
        return closing_sentence(name, one.ranks, one.rank, one.prob, fates)
    return verdict_sentence(name, verdict, fates, leader(probe, screen))
