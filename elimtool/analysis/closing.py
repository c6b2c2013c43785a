"""Write the closing sentence of a target: the course of its ranks, and what each chain did to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10

from elimtool.analysis.fate import ChainFate
from elimtool.run.rules import SURFACED


@dataclass(frozen=True)
class Leader:
    """The most probable token of the output.

    Attributes:
        name: The token as it is shown, quotes included.
        prob: Its probability in the model's output, 0 .. 1.
        text: The token itself; empty if unknown.
    """

    name: str
    prob: float
    text: str = ""


def closing_sentence(
    name: str, ranks: Sequence[tuple[int, int]], final: int, prob: float, fates: Sequence[ChainFate]
) -> str:
    """Describe how a target was kept or lost.

    Layers before the last are described by rank only: a raw lens misleads about probabilities.

    Args:
        name: The target as it is shown, quotes included.
        ranks: (layer, rank) in order of layers, -1 first, the last is the model's output; none if unknown.
        final: Rank in the model's output.
        prob: Probability in the model's output, 0 .. 1.
        fates: One per chain.
    """
    how = f"with p = {spell_prob(prob)}" if final == 1 else f"(p = {spell_prob(prob)})"
    ends = f"{name} ends at rank {final:,} {how}"
    if ranks:
        ends += f", {course(ranks)}"
    if prob == 0:
        return f"{ends}: no setting keeps a token of probability 0."
    fate = _fate(fates)
    return f"{ends}; it {fate}." if fate else f"{ends}."


def course(ranks: Sequence[tuple[int, int]]) -> str:
    """Sum up a target's ranks after each block: where it led, where it was in the top-10, or its best rank.

    Args:
        ranks: (layer, rank) in order of layers; the embedding (-1) counts only if it is alone.
    """
    blocks = [(layer, rank) for layer, rank in ranks if layer >= 0] or list(ranks)
    final = blocks[-1][1]
    for bound, name in ((1, "rank 1"), (SURFACED, f"top-{SURFACED}")):
        inside = [layer for layer, rank in blocks if rank <= bound]
        if final <= bound:
            outside = [layer for layer, rank in blocks if rank > bound]
            since = outside[-1] + 1 if outside else blocks[0][0]
            earlier = _earlier([layer for layer in inside if layer < since]) if bound == 1 else _led(blocks)
            return f"{name} {_since(since, len(blocks) > 1 and since == blocks[-1][0])}{earlier}"
        if inside and bound == SURFACED:
            return f"{name} {_between(inside)}, then out{_led(blocks)}"
    best = min(rank for _, rank in blocks)
    return f"best rank {best:,}, {at_layer(next(layer for layer, rank in blocks if rank == best))}"


def _since(layer: int, last: bool) -> str:
    return f"{at_layer(layer)}, the last" if last else f"from {from_layer(layer)} on"


def _earlier(layers: Sequence[int]) -> str:
    return f" (and {_between(layers)})" if layers else ""


def _led(blocks: Sequence[tuple[int, int]]) -> str:
    led = [layer for layer, rank in blocks if rank == 1]
    return f" (rank 1 {_between(led)})" if led else ""


def _between(layers: Sequence[int]) -> str:
    first, last = layers[0], layers[-1]
    if first == last:
        return at_layer(first)
    whole = last - first + 1 == len(layers)
    return f"at layers {first}-{last}" if whole else f"at {len(layers):,} layers of {first}-{last}"


def commit_layer(ranks: Sequence[tuple[int, int]]) -> int:
    """Find the first layer from which the rank stays what it is at the end."""
    start, final = ranks[-1]
    for layer, rank in reversed(ranks):
        if rank != final:
            break
        start = layer
    return start


def at_layer(layer: int) -> str:
    """Name a layer as a place: ``at the embedding``, ``at layer 12``."""
    return f"at {from_layer(layer)}"


def from_layer(layer: int) -> str:
    """Name a layer: ``the embedding``, ``layer 12``."""
    return "the embedding" if layer < 0 else f"layer {layer}"


def _fate(fates: Sequence[ChainFate]) -> str:
    lost = []
    if any(fate.dead for fate in fates):
        lost.append("was ruled out before any stage (its logit is minus infinity)")
    if any(fate.stage for fate in fates):
        lost.append("was cut by " + listed(_cuts(fates)))
    alone = [fate.chain for fate in fates if fate.survived and fate.left == 1]
    among = [fate.chain for fate in fates if fate.drawable and fate.left != 1]
    if idle := [fate.chain for fate in fates if fate.survived and not fate.drawable]:
        lost.append(f"was left with no chance to be drawn (p 0) by {listed(idle)}")
    kept = ["is the only token left by " + listed(alone)] if alone else []
    kept += ["survived " + listed(among)] if among else []
    return ", but ".join(listed(words) for words in (lost, kept) if words)


def cuts_in_words(fates: Sequence[ChainFate], leader: Leader | None = None) -> str:
    """Say which stages cut a target: ``min_p of llama.cpp cuts it (needed ...)``; empty if none does.

    Args:
        fates: What each chain did to it.
        leader: The most probable token, to be named where it alone stands above the target; None if unknown.
    """
    count = sum(bool(fate.stage) for fate in fates)
    return f"{listed(_cuts(fates, leader))} cut{'' if count > 1 else 's'} it" if count else ""


def _cuts(fates: Sequence[ChainFate], leader: Leader | None = None) -> list[str]:
    """Name the stages that cut a target and why; chains whose stage saw and needed the same share words."""
    groups: dict[tuple[str, str, str], list[ChainFate]] = {}
    for fate in fates:
        if fate.stage:
            groups.setdefault((fate.stage, seen(fate, leader), fate.bound.words), []).append(fate)
    told = []
    for (stage, saw, _), alike in groups.items():
        chains = [fate.chain for fate in alike]
        where = stage if chains == [stage] else f"{stage} of {listed(chains)}"
        why = "; ".join(part for part in (saw, told_bound(alike)) if part)
        told.append(f"{where} ({why})" if why else where)
    return told


def seen(fate: ChainFate, leader: Leader | None = None) -> str:
    """Say what a cutting stage saw: ``p 0.38 after top_k, likelier tokens hold 0.396``; may be empty."""
    cut, words = fate.cut, []
    if cut is not None and fate.after:
        words.append(f"p {spell_prob(cut['prob_before'])} after {fate.after}")
    if cut is not None and fate.bound.holds:
        words.append(f"{_ahead(fate, leader)} {fate.bound.holds}")
    return ", ".join(words)


def _ahead(fate: ChainFate, leader: Leader | None) -> str:
    """Say who stands above a target: one token by its name where it is the most probable one."""
    if fate.cut is None or fate.cut["rank_before"] != 2:
        return "likelier tokens hold"
    alone = leader is not None and fate.first == leader.text
    return f"{leader.name} alone holds" if leader and alone else "one likelier token holds"


def told_bound(alike: Sequence[ChainFate]) -> str:
    """Say which setting a stage needed and which it has: ``needed k of at least 74, is 40 and 50``."""
    words = alike[0].bound.words
    given = [f"{fate.bound.given:g}" for fate in alike if fate.bound.given is not None]
    return f"{words}, is {listed(list(dict.fromkeys(given)))}" if words and given else words


def reason(fate: ChainFate) -> str:
    """Say what the cutting stage saw and which setting it needed."""
    return "; ".join(part for part in (seen(fate), told_bound([fate])) if part)


def listed(words: Sequence[str]) -> str:
    """Join words: ``a, b and c``."""
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else "".join(words)


def spell_prob(prob: float) -> str:
    """Write a probability in two significant digits; near 1 in as many as show the distance from 1."""
    missing = 1 - prob
    return f"{prob:.{-floor(log10(missing))}f}" if 1e-9 < missing <= 0.005 else f"{prob:.2g}"
