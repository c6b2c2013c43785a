"""Decide whether the stages behind a cut would cut the target too, once that cut were undone.

Stages that only remove tokens leave the others in order, and their probabilities in proportion. So what a
later stage would do to a target that an earlier one no longer removes mostly follows from what is known at
the cut; where it does not, that is said.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import isclose

from elimtool.analysis.fate import kind_of
from elimtool.files.rows import Row

ORDERED = ("top_k", "top_p", "min_p", "top_n_sigma")
"""Kinds that remove from the least probable token on: every token above the target stays."""
RESCALES = ("temperature", "dynamic_temperature")
"""Kinds that cut nothing above temperature 0."""
NEAR = 1e-4
"""Relative distance from a border within which number types may decide differently."""


@dataclass(frozen=True)
class AtStage:
    """Where a target stands as a stage begins.

    Attributes:
        rank: Its rank among the tokens alive.
        prob: Its probability among them, 0 .. 1.
        above: Probability of the tokens above it, 0 .. 1; None if unknown.
        ratio: Its probability over that of the most probable token, 0 .. 1; None if unknown.
        sure: Whether all tokens above it are still alive.
    """

    rank: int
    prob: float
    above: float | None
    ratio: float | None
    sure: bool


@dataclass(frozen=True)
class Later:
    """Stages behind a cut that would cut the target too.

    Attributes:
        cuts: The first that surely would; empty if none.
        may: The first of which it is not known; empty if none, or if one surely would.
    """

    cuts: str = ""
    may: str = ""


def later(stages: Iterable[Row], cut: Row, holds: float | None, first: float | None) -> Later:
    """Look at the stages behind a cut.

    Args:
        stages: The chain's rows of ``sampling``.
        cut: The row of ``sampling_targets`` of the stage that cuts the target.
        holds: What the cutting stage, a top-p, saw the likelier tokens hold, 0 .. 1; None for other stages.
        first: Probability of the most probable token in the model's output, 0 .. 1; None if unknown.
    """
    in_order = sorted(stages, key=lambda row: int(row["stage_index"]))
    index, rank, prob = cut["stage_index"], cut["rank_before"] or 0, cut["prob_before"] or 0.0
    before = [row["top_prob"] for row in in_order if row["stage_index"] < index]
    top = before[-1] if before else first
    above = holds if holds is not None else top if rank == 2 else None
    at = AtStage(rank, prob, above, prob / top if top else None, kind_of(cut) in ORDERED)
    may = ""
    for row in in_order:
        if row["stage_index"] <= index or not row["active"]:
            continue
        kept, at = _kept(kind_of(row), json.loads(row["params"]), at)
        if kept is False:
            return Later(cuts=row["stage"])
        may = may or ("" if kept else row["stage"])
    return Later(may=may)


def _kept(kind: str, params: Row, at: AtStage) -> tuple[bool | None, AtStage]:
    """Whether a stage keeps the target, None if unknown; and where it stands behind the stage."""
    setting = params.get({"top_k": "k", **dict.fromkeys(RESCALES, "temperature")}.get(kind, "p"), 0)
    if kind == "greedy" or (kind in RESCALES and not setting):
        return (False if at.sure and at.rank > 1 else None), at
    if kind in RESCALES:  # a dynamic temperature is known only where it does not move
        moves = bool(params.get("delta"))
        ratio = None if moves or at.ratio is None else at.ratio ** (1 / setting)
        return True, replace(at, above=None, ratio=ratio)
    if at.rank <= (params.get("min_keep") or 0):
        return True, replace(at, above=None)
    if kind == "top_k":
        return _beyond(at.rank <= setting, at), replace(at, above=None)
    if kind == "top_p" and at.above is not None:
        # renormalised, the tokens above hold at least this, and at most this beside the target alone
        most = at.above / (at.above + at.prob) if at.prob else 1.0
        sure = _beyond(at.above < setting, at) if most < setting or at.above >= setting else None
        return (None if isclose(at.above, setting, rel_tol=NEAR) else sure), replace(at, above=None)
    if kind == "min_p" and at.ratio is not None:
        kept = None if isclose(at.ratio, setting, rel_tol=NEAR) else _beyond(at.ratio >= setting, at)
        return kept, replace(at, above=None)
    return None, replace(at, sure=False, above=None, ratio=None)


def _beyond(kept: bool, at: AtStage) -> bool | None:
    """What is kept among all tokens above is kept among fewer; what is cut may then be kept."""
    return True if kept else (False if at.sure else None)
