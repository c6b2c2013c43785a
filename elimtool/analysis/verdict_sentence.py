"""Write the one sentence that says what became of a target, for a reader who never saw the tool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from elimtool.analysis.closing import at_layer, cuts_in_words, listed, spell_prob
from elimtool.analysis.fate import ChainFate
from elimtool.files.rows import Row
from elimtool.run.rules import BEATS_CHANCE, NEAR_TIE, SURFACED


@dataclass(frozen=True)
class Leader:
    """The most probable token of the output.

    Attributes:
        name: The token as it is shown, quotes included.
        prob: Its probability in the model's output, 0 .. 1.
    """

    name: str
    prob: float


def verdict_sentence(name: str, verdict: Row, fates: Sequence[ChainFate], leader: Leader | None) -> str:
    """Say what became of a target.

    Args:
        name: The target as it is shown, quotes included.
        verdict: Its row of the table ``verdicts``.
        fates: What each chain did to it.
        leader: The most probable token; None where the run does not say.
    """
    tell = {
        "survived": _survived,
        "sampler_eliminated": _sampler_eliminated,
        "outranked": _outranked,
        "late_eliminated": _late_eliminated,
        "never_surfaced": _never_surfaced,
    }
    return tell[verdict["outcome"]](name, verdict, fates, leader)


def _survived(name: str, _: Row, fates: Sequence[ChainFate], __: Leader | None) -> str:
    first = f"{name} survived: it is the model's first choice"
    cut = cuts_in_words(fates)
    if cut:
        return f"{first}, though {cut}."
    if not fates:
        return f"{first}."
    return f"{first} and {'every sampler' if len(fates) > 1 else fates[0].chain} keeps it."


def _sampler_eliminated(name: str, row: Row, fates: Sequence[ChainFate], _: Leader | None) -> str:
    stands = f"the model has it at rank {row['final_rank']:,} (p = {spell_prob(row['final_prob'])})"
    kept = [fate.chain for fate in fates if fate.survived]
    still = f"; {listed(kept)} keep{'' if len(kept) > 1 else 's'} it" if kept else ""
    cut = cuts_in_words(fates) or f"{row['cut_stage']} of {row['cut_chain']} cuts it"
    return f"{name} was eliminated by a sampler: {stands}, but {cut}{still}."


def _outranked(name: str, row: Row, fates: Sequence[ChainFate], leader: Leader | None) -> str:
    other, told = leader.name if leader else "another token", f"{name} was outranked"
    against = f"p = {spell_prob(leader.prob)} against {spell_prob(row['final_prob'])}" if leader else ""
    if leader and row["final_prob"] >= NEAR_TIE * leader.prob:
        told, against = f"{name} was narrowly outranked", f"{against}, nearly a tie"
    cut = cuts_in_words(fates)
    told = f"{told} by {other}{against and f' ({against})'}"
    return f"{told}, and {cut}." if cut else f"{told}."


def _late_eliminated(name: str, row: Row, fates: Sequence[ChainFate], _: Leader | None) -> str:
    p, layer = row.get("lost_p"), row["lost_layer"]  # runs of earlier versions have no p-value
    course = (
        f"it was in the top-{SURFACED} from layer {row['entry_layer']} (best rank {row['best_rank']:,},"
        f" {at_layer(row['best_layer'])}), and ends at {_end(row, fates)}"
    )
    if p is None:
        return f"{name} may have been lost at layer {layer}: {course}. Not tested against chance."
    alike = f"{100 * p:.0f}% of the tokens as frequent as it fare as badly here (p-value {spell_prob(p)})"
    if p > BEATS_CHANCE:
        return f"{name} may have been lost at layer {layer}: {course}; but that may be chance: about {alike}."
    return f"{name} was lost at layer {layer}: {course}. By chance only about {alike}."


def _never_surfaced(name: str, row: Row, fates: Sequence[ChainFate], _: Leader | None) -> str:
    best = f"its best rank is {row['best_rank']:,}, {at_layer(row['best_layer'])}"
    end = f"it ends at {_end(row, fates)}"
    return f"{name} never surfaced: no layer has it in its top-{SURFACED} ({best}); {end}."


def _end(row: Row, fates: Sequence[ChainFate]) -> str:
    """Say at which rank a target ends, and what cuts it there."""
    cut = cuts_in_words(fates)
    return f"rank {row['final_rank']:,}{cut and f', where {cut}'}"
