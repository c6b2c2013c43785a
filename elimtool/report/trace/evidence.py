"""Write the evidence of the first screen: a line a target for layers, a line a fate for samplers."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.text import Text

from elimtool.analysis.closing import course, listed, spell_prob
from elimtool.analysis.evidence import findings_in_words
from elimtool.analysis.verdict import attribution_in_words
from elimtool.report.facts import Probe
from elimtool.report.followed import Trajectory
from elimtool.report.ledger import ChainLedger, shipped, stage_label
from elimtool.report.screen import Screen, padded
from elimtool.report.trace.judgement import told_targets
from elimtool.report.trace.trajectory import rank_note, rank_title, spark

NAME = 18
WIDEST_SPARK = 31
MOST = 5
MOST_SETTINGS = 2
"""Lines of the settings of chains."""


def layer_lines(probe: Probe, screen: Screen) -> list[Text]:
    """The rank path of each target, and what its logit owes to which part of the model."""
    followed = [one for one in probe.trajectories if one.ranks]
    if not followed:
        return _attributed(probe, screen)
    worst = max(rank for one in followed for _, rank in one.ranks)
    lines = [rank_title(worst, screen)]
    shown = followed[:MOST]
    names = [screen.quoted(one.target, min(NAME, screen.width // 3)) for one in shown]
    width = max(cell_len(name) for name in names)
    for name, one in zip(names, shown, strict=True):
        lines += _layers(padded(name, width), one, worst, screen)
    return [*lines, *rank_note(probe, screen), *_attributed(probe, screen)]


def _layers(name: str, one: Trajectory, worst: int, screen: Screen) -> list[Text]:
    line = Text(f"  {name}  ", style="dim" if one.is_foil else "")
    room = max(min(len(one.ranks), WIDEST_SPARK, screen.width - line.cell_len - 2), 4)
    line.append_text(spark(one, worst, room, screen))
    told = course(one.ranks) + (" (foil)" if one.is_foil else "")
    if line.cell_len + 2 + len(told) <= screen.width:
        return [line.append(f"  {told}")]
    return [line, *screen.wrap(told, indent=4)]


def _attributed(probe: Probe, screen: Screen) -> list[Text]:
    """The heads or MLPs with the largest direct logit attribution, and the causal test if there was one."""
    verdicts = {row["target"]: row for row in probe.rows("verdicts")}
    rows = [verdicts[one.target] for one in told_targets(probe)[0] if one.target in verdicts]
    lines: list[Text] = []
    for row in rows:
        of = f"{screen.quoted(row['target'], NAME)}: " if len(rows) > 1 else ""
        for said in attribution_in_words(row):
            lines += screen.wrap(f"{of}{said}", indent=2, hang=2)
        for finding in findings_in_words(row):
            lines += screen.wrap(finding, indent=4, hang=2)
    return lines


def sampler_lines(probe: Probe, chains: list[ChainLedger], screen: Screen) -> list[Text]:
    """One line for all chains that do the same to the targets."""
    told = told_targets(probe)[0]
    keys = [(one.target, one.token_id) for one in told]
    if not told and not probe.trajectories:  # a run without ranks: its chains tell whom they followed
        keys = list(dict.fromkeys(key for chain in chains for key in chain.targets))[:MOST]
    groups: dict[tuple[str, ...], list[ChainLedger]] = {}
    for chain in chains:
        groups.setdefault(tuple(chain.fate(key).stage for key in keys if key in chain.targets), []).append(
            chain
        )
    if not groups:
        return []
    followed = any(key in chain.targets for key in keys for chain in chains)
    legend = ["what is left to draw from"] + (["p: the target's share of it"] if followed else [])
    lines = screen.titled("Samplers", "; ".join(legend))
    for alike in groups.values():
        lines += screen.wrap(_group(alike, keys, screen), indent=2, hang=2)
    lines += _settings(chains, screen)
    own: dict[str, list[str]] = {}
    for chain in chains:
        own.setdefault(shipped(chain), []).append(chain.name)
    for values, names in own.items():
        line = screen.visible(f"{listed(names)}: {values}")
        lines += screen.wrap(line, indent=2, style="dim", hang=2) if values else []
    return lines


def _settings(chains: list[ChainLedger], screen: Screen) -> list[Text]:
    """The stages that are on, in their order; of many, where they are listed."""
    on = [
        f"{screen.visible(chain.name)}: {', '.join(stage_label(stage, screen) for stage in chain.active)}"
        for chain in chains
        if chain.active
    ]
    lines = screen.wrap("; ".join(on), indent=2, style="dim", hang=2) if on else []
    if len(lines) > MOST_SETTINGS:
        return screen.wrap("-v lists the settings of each stage.", indent=2, style="dim")
    return lines


def _group(alike: list[ChainLedger], keys: Sequence[tuple[str, int]], screen: Screen) -> str:
    """Say what chains that treat the targets alike cut, keep and leave; the sentence has said why."""
    cut, kept = [], []
    for key in keys:
        chains = [chain for chain in alike if key in chain.targets]
        if not chains:
            continue
        name, fate = screen.quoted(key[0], NAME), chains[0].fate(key)
        if fate.survived:
            kept.append(f"{name} (p {listed([spell_prob(_left(chain, key)) for chain in chains])})")
        else:
            cut.append(f"{name} at {fate.stage}" if fate.stage else f"{name} (its logit is minus infinity)")
    s = "" if len(alike) > 1 else "s"
    sizes = _sizes(alike, screen) if all(chain.stages for chain in alike) else ""
    does = [f"cut{s} {listed(cut)}"] if cut else []
    does += [f"keep{s} {listed(kept)}{_among(sizes)}"] if kept else []
    does += [f"leave{s} {sizes} after all stages"] if sizes and not kept else []
    return f"{listed([screen.visible(chain.name) for chain in alike])} {listed(does)}"


def _among(sizes: str) -> str:
    return " alone" if sizes.startswith("only ") else f" among {sizes}" if sizes else ""


def _left(chain: ChainLedger, key: tuple[str, int]) -> float:
    rows = chain.targets[key]
    return float(rows[max(rows)]["prob_after"] or 0.0)


def _sizes(alike: list[ChainLedger], screen: Screen) -> str:
    """How many tokens each chain leaves to draw from; the one token where it is alone."""
    told = []
    for chain in alike:
        before, after = chain.stages[0]["n_before"], chain.stages[-1]["n_after"]
        best = chain.stages[-1]["top_token"]  # null where no token is left
        only = f"only {screen.quoted(best, NAME)}" if after == 1 else ""
        told.append(only or (f"all {after:,}" if before == after else f"{after:,}"))
    if set(told) == {told[0]} and told[0].startswith("only "):
        return told[0]
    return f"{listed(told[:1] if len(set(told)) == 1 else told)} tokens"
