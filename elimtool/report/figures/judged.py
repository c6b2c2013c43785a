"""Write the verdicts of one position: for each token a sentence and the facts behind it."""

from __future__ import annotations

from math import exp
from typing import Any

from elimtool.analysis.closing import Leader, closing_sentence, spell_prob
from elimtool.analysis.evidence import findings_in_words
from elimtool.analysis.regime_sentence import regime_sentence, regime_words
from elimtool.analysis.verdict import attribution_in_words
from elimtool.analysis.verdict_sentence import verdict_sentence
from elimtool.files.rows import Row
from elimtool.report.facts import Probe
from elimtool.report.figures.overview import spelled
from elimtool.report.figures.words import quoted
from elimtool.report.followed import Trajectory
from elimtool.report.ledger import ChainLedger, ledgers
from elimtool.report.trace.answer import first_tokens


def judged(probe: Probe) -> list[dict[str, Any]]:
    """Gather ``token, outcome, outcome_words, evidence, regime, sentence, more, findings`` of each target.

    Texts are empty where the run has no verdict; foils are left out.
    """
    chains = ledgers(probe)
    verdicts = {row["target"]: row for row in probe.rows("verdicts")}
    targets = [one for one in probe.trajectories if not one.is_foil]
    first = next(iter(first_tokens(probe)), None)
    leader = Leader(quoted(first["token"]), first["prob"], first["token"]) if first else None
    return [_judged(one, chains, verdicts.get(one.target), leader) for one in targets]


def regime(probe: Probe) -> str:
    """Say that the prediction is unusual, in a sentence; empty where it is not, or was not judged."""
    return "".join(map(regime_sentence, probe.rows("regimes")))


def _judged(
    one: Trajectory, chains: list[ChainLedger], verdict: Row | None, leader: Leader | None
) -> dict[str, Any]:
    key = (one.target, one.token_id)
    fates = [chain.fate(key) for chain in chains if chain.targets.get(key)]
    found, name = verdict or {}, quoted(one.target)
    more = [*(attribution_in_words(verdict) if verdict else ()), *_marks(one)]
    if verdict is None:  # a run without this table still tells the course of the ranks
        sentence = closing_sentence(name, one.ranks, one.rank, one.prob, fates)
    else:
        sentence = verdict_sentence(name, verdict, fates, leader)
    return {
        "token": name,
        "outcome": found.get("outcome") or "",
        "outcome_words": spelled(found.get("outcome") or ""),
        "evidence": found.get("evidence") or "",
        "regime": regime_words(found.get("regime")),
        "sentence": sentence,
        "more": "; ".join(part for part in more if part),
        "findings": list(findings_in_words(verdict)) if verdict else [],
    }


def _marks(one: Trajectory) -> list[str]:
    same = f"read by the same first token as {quoted(one.same_as)}" if one.same_as else ""
    marks = [same or "another followed token has the same first token"] if same or one.ambiguous else []
    if one.ties:
        marks.append(f"tied with {one.ties:,}")
    if one.whole_logprob is not None and one.prob > 0 and exp(one.whole_logprob) < 0.999 * one.prob:
        marks.append(f"all its tokens together p = {spell_prob(exp(one.whole_logprob))}")
    return marks
