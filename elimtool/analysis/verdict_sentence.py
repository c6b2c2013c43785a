"""Write the one sentence that says what became of a target, for a reader who never saw the tool."""

from __future__ import annotations

from collections.abc import Sequence

from elimtool.analysis.closing import Leader, at_layer, cuts_in_words, listed, spell_prob
from elimtool.analysis.fate import ChainFate
from elimtool.files.rows import Row
from elimtool.run.rules import BEATS_CHANCE, NEAR_TIE, SURFACED


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


def _survived(name: str, _: Row, fates: Sequence[ChainFate], leader: Leader | None) -> str:
    first = f"{name} survived: it is the model's first choice"
    cut = cuts_in_words(fates, leader)
    against = [part for part in (cut, _without_chance(fates)) if part]
    if against:
        return f"{first}, though {listed(against)}."
    if not fates:
        return f"{first}."
    return f"{first} and {'every sampler' if len(fates) > 1 else fates[0].chain} keeps it."


def _without_chance(fates: Sequence[ChainFate]) -> str:
    """Name the chains that remove a target by no stage and leave it at probability 0; empty for none."""
    idle = [fate.chain for fate in fates if fate.survived and not fate.drawable]
    does = "leave" if len(idle) > 1 else "leaves"
    return f"{listed(idle)} {does} it no chance to be drawn (p 0)" if idle else ""


def _sampler_eliminated(name: str, row: Row, fates: Sequence[ChainFate], leader: Leader | None) -> str:
    stands = f"the model has it at rank {row['final_rank']:,} (p = {spell_prob(row['final_prob'])})"
    kept = [fate.chain for fate in fates if fate.drawable]
    still = f"; {listed(kept)} keep{'' if len(kept) > 1 else 's'} it" if kept else ""
    cut = cuts_in_words(fates, leader) or f"{row['cut_stage']} of {row['cut_chain']} cuts it"
    return f"{name} was eliminated by a sampler: {stands}, but {cut}{still}."


def _outranked(name: str, row: Row, fates: Sequence[ChainFate], leader: Leader | None) -> str:
    other, told = leader.name if leader else "another token", f"{name} was outranked"
    against = f"p = {spell_prob(leader.prob)} against {spell_prob(row['final_prob'])}" if leader else ""
    if leader and row["final_prob"] >= NEAR_TIE * leader.prob:
        told, against = f"{name} was narrowly outranked", f"{against}, nearly a tie"
    cut = cuts_in_words(fates, leader)
    told = f"{told} by {other}{against and f' ({against})'}"
    left = _left(fates)
    if cut:
        return f"{told}, and {cut}; {left}."
    return f"{told}, and {left}." if left else f"{told}."


def _left(fates: Sequence[ChainFate]) -> str:
    """Say whether an outranked target can be drawn all the same; empty where no chain ran."""
    kept = next((fate for fate in fates if fate.drawable), None)
    if kept is None:
        return _without_chance(fates) or ("no chain keeps it" if fates else "")
    at = "" if kept.prob is None else f"p {spell_prob(kept.prob)} "
    return f"it can still be drawn ({at}with {kept.chain})"


def _late_eliminated(name: str, row: Row, fates: Sequence[ChainFate], leader: Leader | None) -> str:
    p, layer = row.get("lost_p"), row["lost_layer"]  # runs of earlier versions have no p-value
    course = (
        f"it was in the top-{SURFACED} from layer {row['entry_layer']} (best rank {row['best_rank']:,},"
        f" {at_layer(row['best_layer'])}), and ends at rank {row['final_rank']:,}"
    )
    told = f"{name} {'was' if p is not None and p <= BEATS_CHANCE else 'may have been'} lost at layer {layer}"
    if p is None:
        tested = "Not tested against chance."
    else:
        alike = f"{100 * p:.0f}% of control tokens (as frequent in text as {name}) are lost as badly"
        tested = f"Only about {alike}." if p <= BEATS_CHANCE else f"That may be chance: about {alike}."
    return f"{told}: {course}. {tested}{_anyway(fates, leader)}"


def _never_surfaced(name: str, row: Row, fates: Sequence[ChainFate], leader: Leader | None) -> str:
    best = f"its best rank is {row['best_rank']:,}, {at_layer(row['best_layer'])}"
    end = f"it ends at rank {row['final_rank']:,}"
    told = f"{name} never surfaced: no layer has it in its top-{SURFACED} ({best}); {end}."
    return told + _anyway(fates, leader)


def _anyway(fates: Sequence[ChainFate], leader: Leader | None) -> str:
    """Say what chains do to the target, apart from what the layers did."""
    cut = cuts_in_words(fates, leader)
    return f" At that rank, whatever the layers did, {cut}." if cut else ""
