"""Make the sampler funnel: the stages of each chain in order, and the fate of each followed token."""

from __future__ import annotations

from elimtool.analysis.closing import reason
from elimtool.analysis.fate import ChainFate
from elimtool.report.facts import Probe
from elimtool.report.figures.figure import Funnel, FunnelChain, FunnelStage, FunnelToken, Listing
from elimtool.report.figures.words import SCREEN, quoted
from elimtool.report.ledger import ChainLedger, distance, ledgers, stage_label

NOTE = (
    "Tokens before and after each stage (bars on a logarithmic scale) and the probability that it cuts."
    " Followed tokens are listed below by rank; those cut are greyed."
)


def funnel(probe: Probe) -> list[Funnel]:
    """Make the funnel of all chains of the position; empty where none was run."""
    chains = [_chain(ledger) for ledger in ledgers(probe)]
    if not chains:
        return []
    return [Funnel(name="funnel", title="Samplers, stage by stage", note=NOTE, chains=chains)]


def _chain(ledger: ChainLedger) -> FunnelChain:
    stages = [
        FunnelStage(
            label=stage_label(stage, SCREEN) if stage["active"] else SCREEN.visible(stage["stage"]),
            active=stage["active"],
            before=stage["n_before"],
            after=stage["n_after"],
            pruned=stage["mass_pruned"],
            notes=[SCREEN.visible(note) for note in stage.get("notes") or ()]
            + ledger.combined(stage["stage_index"], SCREEN),
        )
        for stage in ledger.stages
    ]
    fates = [_fate(ledger, key) for key in ledger.targets]
    fates.sort(key=lambda fate: float("inf") if fate.rank is None else fate.rank)
    return FunnelChain(
        name=SCREEN.visible(ledger.name), engine=SCREEN.visible(ledger.engine), stages=stages, fates=fates
    )


def _fate(ledger: ChainLedger, key: tuple[str, int]) -> FunnelToken:
    rows, fate = ledger.targets[key], ledger.fate(key)
    first, last = rows[min(rows)], rows[max(rows)]
    return FunnelToken(
        token=quoted(key[0]),
        rank=first["rank_before"],
        before=first["prob_before"],
        after=last["prob_after"] if last["alive_after"] else None,
        cut="its logit is minus infinity" if fate.dead else _cut(fate),
        why=SCREEN.visible(fate.cut.get("why") or "") if fate.cut else "",
    )


def _cut(fate: ChainFate) -> str:
    """``cut by min_p, by 1.1 nats (needed min_p of at most 0.016)``; empty for a target that survived."""
    if fate.cut is None:
        return ""
    by = distance(fate.cut)
    told = f"cut by {SCREEN.visible(fate.stage)}" + (f", by {by}" if by else "")
    why = reason(fate)
    return f"{told} ({why})" if why else told


def differences(probe: Probe) -> list[Listing]:
    """List how far apart each pair of chains leaves the output."""
    rows = [
        [
            SCREEN.visible(row["chain"]),
            SCREEN.visible(row["other"]),
            row["total_variation"],
            _alone(row["n_only"], row["only"]),
            _alone(row["n_only_other"], row["only_other"]),
        ]
        for row in probe.rows("chain_differences")
    ]
    if not rows:
        return []
    return [
        Listing(
            name="differences",
            title="Engines side by side",
            note="Total variation: the share of draws that must differ.",
            columns=["chain", "other", "total variation", "the chain alone keeps", "the other alone keeps"],
            rows=rows,
        )
    ]


def _alone(count: int, texts: list[str]) -> str:
    named = ", ".join(quoted(text) for text in texts)
    return f"{named} and {count - len(texts):,} more" if count > len(texts) else named or "nothing"
