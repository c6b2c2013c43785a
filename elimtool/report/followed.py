"""Follow one token over the layers: its ranks and its end, from rows of tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from elimtool.files.rows import Row, Rows

UNKNOWN = -1
"""Stands for a token id that a run does not keep."""


@dataclass(frozen=True)
class Trajectory:
    """Ranks of one followed token over the layers.

    Attributes:
        target: The string as it was asked for.
        token_id: Its first token, the one that is read.
        is_foil: Whether it is only contrasted with the targets.
        ambiguous: Whether another target or foil has the same token.
        ranks: (layer, rank), the embedding (-1) first, the model's output last; none without the table lens.
        rank: Rank in the model's output.
        prob: Probability in the model's output.
        ties: Other tokens with the same logit in the output.
        whole_logprob: Joint log-probability of all tokens of the target; None where not measured.
        same_as: The first target that is read by the same token, of those before it; empty for none.
    """

    target: str
    token_id: int
    is_foil: bool
    ambiguous: bool
    ranks: tuple[tuple[int, int], ...]
    rank: int
    prob: float
    ties: int
    whole_logprob: float | None
    same_as: str = ""


def named_once(found: Sequence[Trajectory]) -> list[Trajectory]:
    """Of targets that are read by one token let the later ones say so, and name the first."""
    firsts: dict[int, int] = {}
    named = list(found)
    for at, one in enumerate(found):
        known = one.ambiguous and one.token_id != UNKNOWN
        first = firsts.setdefault(one.token_id, at) if known else at
        if first != at:
            named[first] = replace(found[first], ambiguous=False)
            named[at] = replace(one, ambiguous=False, same_as=found[first].target)
    return named


def trajectory(rows: Rows, survival: Row, ambiguous: bool) -> Trajectory:
    """Make the trajectory of a target.

    Args:
        rows: Its rows of ``lens``, one for each layer.
        survival: Its row of ``survival``; empty where there is none.
        ambiguous: Whether another target has the same token, where ``survival`` does not say.
    """
    ordered = sorted(rows, key=lambda row: int(row["layer"]))
    last = ordered[-1]
    return Trajectory(
        target=last["target"],
        token_id=last["token_id"],
        is_foil=last["is_foil"],
        ambiguous=bool(survival.get("ambiguous", ambiguous)),
        ranks=tuple((row["layer"], row["rank"]) for row in ordered),
        rank=last["rank"],
        prob=last["prob"] or 0.0,
        ties=last["rank_ties"],
        whole_logprob=survival.get("target_logprob"),
    )


def ended(row: Row) -> Trajectory:
    """Make the trajectory of a target of which only the end is known.

    Args:
        row: Its row of ``survival`` or of ``verdicts``.
    """
    return Trajectory(
        target=row["target"],
        token_id=row.get("token_id", UNKNOWN),
        is_foil=False,
        ambiguous=bool(row.get("ambiguous")),
        ranks=(),
        rank=row["rank"] if "rank" in row else row["final_rank"],
        prob=(row["prob"] if "prob" in row else row["final_prob"]) or 0.0,
        ties=0,
        whole_logprob=row.get("target_logprob"),
    )
