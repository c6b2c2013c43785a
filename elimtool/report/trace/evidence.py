"""Write the evidence of the first screen: a line a target for layers, a line a fate for samplers."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.text import Text

from elimtool.analysis.closing import at_layer, from_layer, listed, spell_prob
from elimtool.analysis.evidence import findings_in_words
from elimtool.analysis.verdict import attribution_in_words
from elimtool.report.facts import Probe, Trajectory
from elimtool.report.ledger import ChainLedger, shipped
from elimtool.report.screen import Screen, padded
from elimtool.report.trace.judgement import told_targets
from elimtool.report.trace.trajectory import rank_title, spark
from elimtool.run.rules import SURFACED

NAME = 18
WIDEST_SPARK = 31
MOST = 5


def layer_lines(probe: Probe, screen: Screen) -> list[Text]:
    """The rank path of each target, and what its logit owes to which part of the model."""
    followed = probe.trajectories
    if not followed:
        return []
    lines = [rank_title(probe, screen)]
    worst = max(rank for one in followed for _, rank in one.ranks)
    shown = followed[:MOST]
    names = [screen.quoted(one.target, min(NAME, screen.width // 3)) for one in shown]
    width = max(cell_len(name) for name in names)
    for name, one in zip(names, shown, strict=True):
        lines += _layers(padded(name, width), one, worst, screen)
    return lines + _attributed(probe, screen)


def _layers(name: str, one: Trajectory, worst: int, screen: Screen) -> list[Text]:
    line = Text(f"  {name}  ", style="dim" if one.is_foil else "")
    room = max(min(len(one.ranks), WIDEST_SPARK, screen.width - line.cell_len - 2), 4)
    line.append_text(spark(one, worst, room, screen))
    told = path_in_words(one.ranks) + (" (foil)" if one.is_foil else "")
    if line.cell_len + 2 + len(told) <= screen.width:
        return [line.append(f"  {told}")]
    return [line, *screen.wrap(told, indent=4)]


def path_in_words(ranks: Sequence[tuple[int, int]]) -> str:
    """Sum up the ranks after each block: where a token led, where it was in the top-10, or its best rank."""
    blocks = [(layer, rank) for layer, rank in ranks if layer >= 0] or list(ranks)
    final = blocks[-1][1]
    for bound, name in ((1, "rank 1"), (SURFACED, f"top-{SURFACED}")):
        inside = [layer for layer, rank in blocks if rank <= bound]
        if final <= bound:
            outside = [layer for layer, rank in blocks if rank > bound]
            return f"{name} from {from_layer(outside[-1] + 1 if outside else blocks[0][0])} on"
        if inside and bound == SURFACED:
            return f"{name} {_between(inside)}, then out"
    best = min(rank for _, rank in blocks)
    return f"best rank {best:,}, {at_layer(next(layer for layer, rank in blocks if rank == best))}"


def _between(layers: Sequence[int]) -> str:
    first, last = layers[0], layers[-1]
    if first == last:
        return at_layer(first)
    whole = last - first + 1 == len(layers)
    return f"at layers {first}-{last}" if whole else f"at {len(layers)} layers of {first}-{last}"


def _attributed(probe: Probe, screen: Screen) -> list[Text]:
    """The heads or MLPs with the largest direct logit attribution, and the causal test if there was one."""
    lines: list[Text] = []
    told = {one.target for one in told_targets(probe)[0]}
    for row in probe.rows("verdicts"):
        if row["target"] not in told:
            continue
        of = f"{screen.quoted(row['target'], NAME)}: " if len(told) > 1 else ""
        for said in attribution_in_words(row):
            lines += screen.wrap(f"{of}{said}", indent=2, hang=2)
        for finding in findings_in_words(row):
            lines += screen.wrap(finding, indent=4, hang=2)
    return lines


def sampler_lines(probe: Probe, chains: list[ChainLedger], screen: Screen) -> list[Text]:
    """One line for all chains that do the same to the targets."""
    keys = [(one.target, one.token_id) for one in told_targets(probe)[0]]
    groups: dict[tuple[str, ...], list[ChainLedger]] = {}
    for chain in chains:
        told = [key for key in keys if chain.targets.get(key)]
        groups.setdefault(tuple(chain.fate(key).stage for key in told), []).append(chain)
    if not groups or not keys:
        return []
    lines = screen.titled("Samplers", "p of the target among what is left")
    for alike in groups.values():
        lines += screen.wrap(_group(alike, keys, screen), indent=2, hang=2)
    own: dict[str, list[str]] = {}
    for chain in chains:
        own.setdefault(shipped(chain), []).append(chain.name)
    for values, names in own.items():
        line = screen.visible(f"{listed(names)}: {values}")
        lines += screen.wrap(line, indent=2, style="dim", hang=2) if values else []
    return lines


def _group(alike: list[ChainLedger], keys: Sequence[tuple[str, int]], screen: Screen) -> str:
    first = alike[0]
    cut, kept = [], []
    for key in keys:
        name = screen.quoted(key[0], NAME)
        fate = first.fate(key)
        if fate.survived:
            probs = [spell_prob(_left(chain, key)) for chain in alike]
            kept.append(f"{name} (p {listed(probs)})")
        elif fate.dead:
            cut.append(f"{name} (its logit is minus infinity)")
        else:
            needs = f"; {fate.needed}" if fate.needed and len(alike) == 1 else ""
            cut.append(f"{name} at {fate.stage}{needs and f' ({fate.needed})'}")
    several = len(alike) > 1
    does = [f"{'leave' if several else 'leaves'} {_sizes(alike)}"]
    if cut:
        does.append(f"{'cut' if several else 'cuts'} {listed(cut)}")
    if kept:
        does.append(f"{'keep' if several else 'keeps'} {listed(kept)}")
    return f"{listed([screen.visible(chain.name) for chain in alike])} {listed(does)}"


def _left(chain: ChainLedger, key: tuple[str, int]) -> float:
    row = chain.targets[key][chain.stages[-1]["stage_index"]]
    return float(row["prob_after"] or 0.0)


def _sizes(alike: list[ChainLedger]) -> str:
    """How many tokens each chain leaves to draw from."""
    counts = [(chain.stages[0]["n_before"], chain.stages[-1]["n_after"]) for chain in alike]
    told = [f"all {after:,}" if before == after else f"{after:,}" for before, after in counts]
    return f"{listed(told[:1] if len(set(told)) == 1 else told)} {'token' if told == ['1'] else 'tokens'}"
