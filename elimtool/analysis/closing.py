"""Write the closing sentence of a target: the course of its ranks, and what each chain did to it."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log10

from elimtool.analysis.fate import ChainFate


def closing_sentence(
    name: str, ranks: Sequence[tuple[int, int]], prob: float, fates: Sequence[ChainFate]
) -> str:
    """Describe how a target was kept or lost.

    Layers before the last are described by rank only: a raw lens misleads about probabilities.

    Args:
        name: The target as it is shown, quotes included.
        ranks: (layer, rank) in order of layers, -1 first; the last is the model's output.
        prob: Probability in the model's output, 0 .. 1.
        fates: One per chain.
    """
    final = ranks[-1][1]
    chance = f"p = {spell_prob(prob)}"
    how = f"with {chance}" if final == 1 else f"({chance})"
    reached = f"reached the samplers at rank {final:,} {how}"
    if prob == 0:
        return f"{name} {_course(ranks)} and {reached}: no setting keeps a token of probability 0."
    fate = _fate(fates)
    if not fate:  # no chain was run, or what it did was not kept
        return f"{name} {_course(ranks)} and {reached}."
    return f"{name} {_course(ranks)}, {reached} and {fate}."


def _course(ranks: Sequence[tuple[int, int]]) -> str:
    """Describe where the target led, or how close it came."""
    last, final = ranks[-1]
    led = [layer for layer, rank in ranks if rank == 1]
    if not led:
        best = min(rank for _, rank in ranks)
        if best == final:
            return "never led"
        where = next(layer for layer, rank in ranks if rank == best)
        return f"never led (best rank {best:,} {at_layer(where)})"
    if final > 1:
        return f"led {_stretch(led)} but lost the lead {at_layer(led[-1] + 1)}"
    start = commit_layer(ranks)
    earlier = [layer for layer in led if layer < start]
    since = "took the lead at the last layer" if start == last else f"led from {from_layer(start)} on"
    return f"{since}, after an earlier lead {_stretch(earlier)}" if earlier else since


def commit_layer(ranks: Sequence[tuple[int, int]]) -> int:
    """Find the first layer from which the rank stays what it is at the end."""
    start, final = ranks[-1]
    for layer, rank in reversed(ranks):
        if rank != final:
            break
        start = layer
    return start


def _stretch(layers: Sequence[int]) -> str:
    """Name layers: one, an unbroken stretch, or how many there are between two."""
    if len(layers) == 1:
        return at_layer(layers[0])
    first, last = layers[0], layers[-1]
    if last - first + 1 == len(layers):
        return f"from {from_layer(first)} to layer {last}"
    return f"at {len(layers)} layers between {from_layer(first)} and layer {last}"


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
        lost.append("was cut by " + listed([_cut(fate) for fate in fates if fate.stage]))
    alone = [fate.chain for fate in fates if fate.survived and fate.left == 1]
    among = [fate.chain for fate in fates if fate.survived and fate.left != 1]
    kept = ["is the only token left by " + listed(alone)] if alone else []
    kept += ["survived " + listed(among)] if among else []
    return ", but ".join(listed(words) for words in (lost, kept) if words)


def cuts_in_words(fates: Sequence[ChainFate]) -> str:
    """Say which stages cut a target: ``min_p of llama.cpp cuts it (needed ...)``; empty if none does."""
    cuts = [_cut(fate) for fate in fates if fate.stage]
    return f"{listed(cuts)} cut{'' if len(cuts) > 1 else 's'} it" if cuts else ""


def _cut(fate: ChainFate) -> str:
    where = fate.stage if fate.stage == fate.chain else f"{fate.stage} of {fate.chain}"
    return f"{where} ({fate.needed})" if fate.needed else where


def listed(words: Sequence[str]) -> str:
    """Join words: ``a, b and c``."""
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else "".join(words)


def spell_prob(prob: float) -> str:
    """Write a probability in two significant digits; near 1 in as many as show the distance from 1."""
    missing = 1 - prob
    return f"{prob:.{-floor(log10(missing))}f}" if 1e-9 < missing <= 0.005 else f"{prob:.2g}"
