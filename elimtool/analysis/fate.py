"""Decide what a sampler chain did to a target, for stories, pages, checks, verdicts and comparisons."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil, exp, floor, isfinite, log10
from typing import Any, TypeGuard

from elimtool.files.rows import Row


@dataclass(frozen=True)
class ChainFate:
    """What a chain did to a target.

    Attributes:
        chain: Name of the chain.
        stage: The stage that cut the target; empty if none did.
        needed: The setting of that stage that would have kept it, in words; empty if unknown.
        left: Number of tokens that the chain leaves, with or without the target.
        dead: The target was removed before the chain began (its logit is minus infinity).
        cut: The row of ``sampling_targets`` of the stage that cut the target: its margin, unit and reason.
    """

    chain: str
    stage: str = ""
    needed: str = ""
    left: int = 0
    dead: bool = False
    cut: Row | None = None

    @property
    def survived(self) -> bool:
        """Whether the target can be drawn."""
        return not self.stage and not self.dead


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
    cut = next(filter(removes, in_order), None)
    if cut is None:
        return ChainFate(chain, left=left)
    stage = known.get(cut["stage_index"])
    params = json.loads(stage["params"]) if stage else {}
    words = needed(kind_of(cut), params, cut["rank_before"], cut["margin"])
    return ChainFate(chain, cut["stage"], words, left, cut=cut)


def removes(rows: Any) -> Any:
    """Return whether a stage removes its target, for a row of ``sampling_targets`` or a frame of rows."""
    return rows["alive_before"] > rows["alive_after"]  # > is "and not" for booleans and for columns of them


def kind_of(row: Row) -> str:
    """Return the kind of a row's stage; runs of an earlier elimtool have its name only."""
    return str(row["kind"] or row["stage"])


def needed(kind: str, params: Mapping[str, Any], rank: int | None, margin: float | None) -> str:
    """Say which setting of a stage would have kept the target that it cut, the stages before it unchanged.

    Args:
        kind: Kind of the stage.
        params: Its parameters.
        rank: Rank of the target among the tokens that the stage was given.
        margin: How far the target is beyond the cut (negative), in the stage's unit.

    Returns:
        ``needed p > 0.96`` and the like; empty if the numbers do not say.
    """
    setting = params.get({"typical": "mass", "top_n_sigma": "n"}.get(kind, "p"))
    words = ""
    if kind == "xtc":
        words = "too probable to stay"
    elif kind in ("greedy", "temperature", "dynamic_temperature"):
        words = "needed rank 1"
    elif kind == "top_k" and rank:
        words = f"needed k of at least {rank:,}"
    elif margin is not None and isfinite(margin) and _number(setting):
        if kind in ("top_p", "typical"):
            words = _above("p" if kind == "top_p" else "mass", setting, margin)
        elif kind == "min_p":
            words = f"needed min_p of at most {_down(setting * exp(margin), setting)}"
        elif kind == "top_n_sigma":
            words = f"needed n of at least {ceil((setting - margin) * 100) / 100:g}"
    return words


def _above(name: str, setting: float, margin: float) -> str:
    """Write ``needed NAME > x``, rounded up by less than a fifth of the gap, so that it stays true."""
    least = setting - margin
    for digits in range(_digits(margin), 10):
        rounded = ceil(least * 10**digits) / 10**digits
        if setting < rounded < 1:
            return f"needed {name} > {rounded:.{digits}f}"
    return f"needed {name} = 1"


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
