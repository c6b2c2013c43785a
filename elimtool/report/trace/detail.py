"""Tell the whole course of each target: where it led, what each chain did to it, and by which component."""

from __future__ import annotations

from rich.text import Text

from elimtool.analysis.closing import closing_sentence
from elimtool.analysis.evidence import findings_in_words
from elimtool.analysis.verdict import in_words
from elimtool.report.facts import Probe
from elimtool.report.ledger import ChainLedger
from elimtool.report.screen import Screen

NAME = 24


def detail_lines(probe: Probe, chains: list[ChainLedger], screen: Screen) -> list[Text]:
    """A sentence for every target, and under it its outcome with what raised and lowered its logit."""
    verdicts = {row["target"]: row for row in probe.rows("verdicts")}
    lines: list[Text] = []
    for one in probe.trajectories:
        if one.is_foil:
            continue
        key = (one.target, one.token_id)
        fates = [chain.fate(key) for chain in chains if chain.targets.get(key)]
        name = screen.quoted(one.target, NAME)
        lines += screen.wrap(closing_sentence(name, one.ranks, one.rank, one.prob, fates), hang=2)
        judged = verdicts.get(one.target)
        if judged and (more := in_words(judged)):
            outcome = judged["outcome"].replace("_", " ")
            lines += screen.wrap(f"{outcome}: {more}", indent=2, hang=2, style="dim")
            for said in findings_in_words(judged):
                lines += screen.wrap(said, indent=2, hang=2)
    return [Text("Course of each target", style="bold"), *lines] if lines else []
