"""Decide what a sampler chain did to a target, for stories, pages, checks, verdicts and comparisons."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, exp, floor, isclose, isfinite, log10
from typing import Any, TypeGuard

from elimtool.files.rows import Row


@dataclass(frozen=True)
class Bound:
    """The setting of a stage that would have kept a target.

    Attributes:
        words: ``needed top_p > 0.96`` and the like; empty if the numbers do not say.
        value: Such a value of the stage's main parameter; None if unknown, or if no value would.
        given: Its value in the chain; None if unknown.
        holds: For top_p, what the likelier tokens hold, in the digits of ``words``; else empty.
    """

    words: str = ""
    value: float | None = None
    given: float | None = None
    holds: str = ""


@dataclass(frozen=True)
class ChainFate:
    """What a chain did to a target.

    Attributes:
        chain: Name of the chain.
        stage: The stage that cut the target; empty if none did.
        bound: The setting of that stage that would have kept it.
        left: Number of tokens that the chain leaves, with or without the target.
        dead: The target was removed before the chain began (its logit is minus infinity).
        cut: The row of ``sampling_targets`` of the stage that cut the target: its margin, unit and reason.
        after: The last stage before it that changed the target's probability by over 1 %; empty if none did.
        first: The most probable token that the cutting stage left; empty if unknown.
        prob: Probability of the target after the chain, 0 .. 1; None if unknown.
    """

    chain: str
    stage: str = ""
    bound: Bound = Bound()
    left: int = 0
    dead: bool = False
    cut: Row | None = None
    after: str = ""
    first: str = ""
    prob: float | None = None

    @property
    def survived(self) -> bool:
        """Whether no stage removed the target for good."""
        return not self.stage and not self.dead

    @property
    def drawable(self) -> bool:
        """Whether it survived and can be drawn: a stage that lifts one token far up leaves others at 0."""
        return self.survived and self.prob != 0


def fate_of(chain: str, rows: Iterable[Row], stages: Iterable[Row]) -> ChainFate:
    """Decide what a chain did to a target.

    Args:
        chain: Name of the chain.
        rows: The target's rows of ``sampling_targets`` in the chain, at one position; at least one.
        stages: The chain's rows of ``sampling`` at that position; none if the run lacks the table.
    """
    in_order = sorted(rows, key=lambda row: int(row["stage_index"]))
    known = {stage["stage_index"]: stage for stage in stages}
    left = known[max(known)]["n_after"] if known else 0
    if not in_order[0]["alive_before"]:
        return ChainFate(chain, left=left, dead=True)
    # of a target that came back, the last stage that removed it counts
    cut = None if in_order[-1]["alive_after"] else next(filter(removes, reversed(in_order)), None)
    if cut is None:
        return ChainFate(chain, left=left, prob=in_order[-1].get("prob_after"))
    stage = known.get(cut["stage_index"])
    params = json.loads(stage["params"]) if stage else {}
    needs = bound(kind_of(cut), params, cut["rank_before"], cut["margin"])
    after, first = _changed(in_order, cut), (stage.get("top_token") or "") if stage else ""
    return ChainFate(chain, cut["stage"], needs, left, cut=cut, after=after, first=first)


def _changed(rows: Sequence[Row], cut: Row) -> str:
    """Name the last stage before the cut that changed the target's probability by more than 1 %."""
    before = [row for row in rows if row["stage_index"] < cut["stage_index"]]
    changed = [
        row["stage"] for row in before if not isclose(row["prob_before"], row["prob_after"], rel_tol=0.01)
    ]
    return changed[-1] if changed else ""


def removes(rows: Any) -> Any:
    """Return whether a stage removes its target, for a row of ``sampling_targets`` or a frame of rows."""
    return rows["alive_before"] > rows["alive_after"]  # > is "and not" for booleans and for columns of them


def kind_of(row: Row) -> str:
    """Return the kind of a row's stage; runs of an earlier elimtool have its name only."""
    return str(row["kind"] or row["stage"])


def bound(kind: str, params: Mapping[str, Any], rank: int | None, margin: float | None) -> Bound:
    """Find the setting of a stage that would have kept the target that it cut, the stages before unchanged.

    Args:
        kind: Kind of the stage.
        params: Its parameters.
        rank: Rank of the target among the tokens that the stage was given.
        margin: How far the target is beyond the cut (negative), in the stage's unit.
    """
    setting = params.get({"top_k": "k", "typical": "mass", "top_n_sigma": "n"}.get(kind, "p"))
    given = setting if _number(setting) else None
    if kind == "xtc":
        return Bound("too probable to stay")
    if kind in ("greedy", "temperature", "dynamic_temperature"):
        return Bound("needed rank 1")
    if kind == "top_k" and rank:
        return Bound(f"needed k of at least {rank:,}", rank if given else None, given)
    if margin is None or not isfinite(margin) or given is None:
        return Bound()
    if kind in ("top_p", "typical"):
        past, border = _above(given, margin)
        words = f"> {border}" if border else "= 1"
        return Bound(f"needed {kind} {words}", past, given, border if kind == "top_p" else "")
    if kind == "min_p":
        words = _down(given * exp(margin), given)
        return Bound(f"needed min_p of at most {words}", float(words), given)
    if kind == "top_n_sigma":
        least = ceil((given - margin) * 100) / 100
        return Bound(f"needed n of at least {least:g}", least, given)
    return Bound()


def _above(setting: float, margin: float) -> tuple[float, str]:
    """Find a short value past the bound that a cumulative mass must exceed, and the bound to more digits.

    Returns:
        The value, over the bound as written by at most about a fifth of the gap; and the bound, rounded up,
        empty where only 1 is past it.
    """
    least = setting - margin
    for digits in range(_digits(margin), 10):
        bound = _up(least, digits + 1)
        value = _up(bound, digits)
        if value <= bound:  # the value must be past what is written, not on it
            value = round(value + 10.0**-digits, digits)
        if setting < bound and value < 1:
            return value, f"{bound:.{digits + 1}f}"
    return 1.0, ""


def _up(value: float, digits: int) -> float:
    """Round up; what is over by less than the rounding of floating point is not."""
    return float(ceil(value * 10.0**digits - 1e-6) / 10.0**digits)


def _down(value: float, setting: float) -> str:
    """Round down to two significant digits, or more if that is needed to differ from the setting."""
    if value <= 0:
        return "0"
    digits = max(1 - floor(log10(value)), _digits(setting - value))
    rounded = floor(value * 10.0**digits) / 10.0**digits
    return f"{rounded:.{max(digits + floor(log10(value)) + 1, 2)}g}"


def _digits(difference: float) -> int:
    """Count the decimals that resolve a fifth of a difference, at least two."""
    return max(2, -floor(log10(max(abs(difference) / 5, 1e-9)))) if difference else 9


def _number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
