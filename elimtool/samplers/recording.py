"""Make the record of a stage from the distributions before and after it and from what it reports."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.stage import MAY_REMOVE, Effect, Stage
from elimtool.samplers.stage_record import StageRecord, survivors


@dataclass(frozen=True, eq=False)
class Standing:
    """Survival and probability of the targets, computed once for the records before and after."""

    alive: Bool[Tensor, "rows k"]
    probs: Float64[Tensor, "rows k"]

    @cached_property
    def idle(self) -> dict[str, Tensor]:
        """Fields of the record of a stage that is off."""
        rows = self.alive.shape[0]
        return {
            "active": self.alive.new_zeros(rows),
            "mass_pruned": self.probs.new_zeros(rows),
            "threshold": self.probs.new_full((rows,), torch.nan),
            "margin": torch.full_like(self.probs, torch.nan),
        }

    @staticmethod
    def of(c: Candidates, targets: Int[Tensor, "rows k"]) -> Standing:
        """Compute them for a distribution; probabilities are NaN for padding."""
        return Standing(~c.gone, c.target_probs.masked_fill(targets < 0, torch.nan))


def record(
    stage: Stage,
    before: Candidates,
    after: Candidates,
    effect: Effect,
    targets: Int[Tensor, "rows k"],
    standings: tuple[Standing, Standing],
) -> StageRecord:
    """Record what a stage did.

    Args:
        stage: The stage.
        before: Distribution before the stage.
        after: Distribution after it.
        effect: What it reported; ``base`` has the tokens of ``before``, possibly in another order.
        targets: The tokens followed, -1 = none.
        standings: Standings of ``before`` and ``after``.
    """
    return StageRecord(
        stage=stage.name,
        params=stage.params(),
        n_before=before.n,
        n_after=after.n,
        n_drawable=after.n_drawable,
        unit=stage.unit,
        margin_unit=stage.margin_unit,
        entropy_before=before.entropy,
        entropy_after=after.entropy,
        top_token=after.top_token,
        top_prob=after.top_prob,
        alive_before=standings[0].alive,
        alive_after=standings[1].alive,
        prob_before=standings[0].probs,
        prob_after=standings[1].probs,
        rank_before=before.ranks,
        notes=effect.notes,
        targets=targets,
        before=before,
        _stage=stage,
        _effect=effect,
        _after=after,
        **(standings[0].idle if stage.is_off() else _acts(stage, before, after, effect, targets)),
    )


def _removes(stage: Stage, before: Candidates, after: Candidates, effect: Effect) -> bool:
    """Return whether a stage removed tokens; on a device, whether one of its role could have."""
    if before.masked:
        return effect.keep is not None or (effect.scores is not None and stage.role in MAY_REMOVE)
    return not torch.equal(before.n, after.n)


def _acts(
    stage: Stage, before: Candidates, after: Candidates, effect: Effect, targets: Int[Tensor, "rows k"]
) -> dict[str, Tensor]:
    """Compute the fields of the record of a stage that is on."""
    rows, base = before.scores.shape[0], effect.base
    acted = before.n.new_ones(rows, dtype=torch.bool) if effect.active is None else effect.active
    pruned = before.n.new_zeros(rows, dtype=torch.float64)
    if effect.revived is not None or _removes(stage, before, after, effect):
        pruned = base.mass(~survivors(effect))
    threshold = effect.threshold if effect.threshold is not None else pruned.new_full((rows,), torch.nan)
    return {
        "active": acted,
        "mass_pruned": pruned,
        "threshold": threshold.double().masked_fill(~acted, torch.nan),
        "margin": _margin(effect, before, after, acted, targets < 0),
    }


def _margin(
    effect: Effect, before: Candidates, after: Candidates, acted: Tensor, padding: Tensor
) -> Float64[Tensor, "rows k"]:
    """Apply the ledger's rules to the effect's margins: null, and a sign that fits the outcome."""
    if effect.margin is None:
        return torch.full(before.slots.shape, torch.nan, dtype=torch.float64, device=before.scores.device)
    # rounding, ties and min_keep can give a survivor a negative margin, and a removed token a positive one
    alive = ~after.gone
    margin = effect.margin.double()
    margin = torch.where(alive, margin.nan_to_num(torch.inf, torch.inf, -torch.inf).clamp(min=0.0), margin)
    margin = torch.where(alive, margin, margin.nan_to_num(0.0, torch.inf, -torch.inf).clamp(max=0.0))
    return margin.masked_fill(before.gone | padding | ~acted[:, None], torch.nan)
