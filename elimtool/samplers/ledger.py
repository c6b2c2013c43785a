"""The ledger: for every stage of a chain, what it saw, what it cut, and what became of each target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.samplers.candidates import NEG_INF, Candidates
from elimtool.samplers.stage import Detail, Effect, Fate, Stage

NAN = float("nan")


@dataclass(frozen=True, eq=False)
class StageRecord:
    """One stage of a chain at work.

    Masses, probabilities, ranks and entropies "before" are of the distribution that the stage was given,
    renormalised over the survivors so far.

    Attributes:
        stage: Name of the stage in its chain.
        params: Its parameters, JSON-able.
        active: Rows on which it acted; false where its parameters (or a draw) turn it off.
        n_before: Survivors before.
        n_after: Survivors after, >= 1.
        mass_pruned: Probability that it removed, 0 .. 1.
        threshold: In ``unit``; NaN = none.
        unit: Unit of the threshold.
        margin_unit: Unit of the margins.
        entropy_before: nats.
        entropy_after: nats.
        top_token: The most probable token after the stage, the lowest id among ties.
        top_prob: Its probability after the stage.
        alive_before: Whether each target had survived so far.
        alive_after: Whether each target survives.
        prob_before: Probability of each target before, 0 for a dead one, NaN for padding.
        prob_after: Probability of each target after.
        rank_before: Strict rank of each target, 0 for a dead one or padding.
        margin: Positive where the target survives (0: a tie rule or min_keep decided), NaN where the stage by
            nature removes nothing or is off, -inf for a target already dead.
        notes: Remarks for the reader.
    """

    stage: str
    params: Mapping[str, Any]
    active: Bool[Tensor, " rows"]
    n_before: Int[Tensor, " rows"]
    n_after: Int[Tensor, " rows"]
    mass_pruned: Float64[Tensor, " rows"]
    threshold: Float64[Tensor, " rows"]
    unit: str
    margin_unit: str
    entropy_before: Float64[Tensor, " rows"]
    entropy_after: Float64[Tensor, " rows"]
    top_token: Int[Tensor, " rows"]
    top_prob: Float64[Tensor, " rows"]
    alive_before: Bool[Tensor, "rows k"]
    alive_after: Bool[Tensor, "rows k"]
    prob_before: Float64[Tensor, "rows k"]
    prob_after: Float64[Tensor, "rows k"]
    rank_before: Int[Tensor, "rows k"]
    margin: Float64[Tensor, "rows k"]
    notes: tuple[str, ...]
    _stage: Stage
    _effect: Effect
    _after: Candidates

    @property
    def _kept(self) -> Bool[Tensor, "rows width"]:
        """Columns of the stage's base that survive."""
        return survivors(self._effect)

    def removed(self, row: int = 0) -> Int[Tensor, " removed"]:
        """Ids of the tokens that the stage removed from a row, ascending."""
        base = self._effect.base
        gone = base.alive[row] & ~self._kept[row]
        return base.ids[row][gone].sort().values

    def details(self, row: int = 0) -> Mapping[int, Detail]:
        """What the stage tells about single tokens of a row, by token id: DRY names what would repeat."""
        return self._effect.details[row] if self._effect.details else {}

    @cached_property
    def removed_mask(self) -> Bool[Tensor, "rows vocab"]:
        """Which tokens of the vocabulary the stage removed."""
        return spread(self._effect.base, self._effect.base.alive & ~self._kept)

    @cached_property
    def kept_mask(self) -> Bool[Tensor, "rows vocab"]:
        """Which tokens of the vocabulary survive the stage."""
        return spread(self._effect.base, self._kept)

    def why(self, token: int, row: int = 0) -> str:
        """One sentence that says what this stage did to a token.

        Raises:
            ElimError: The token is not in the vocabulary.
        """
        base = self._effect.base
        if not 0 <= token < base.vocab:
            raise ElimError(f"token {token} is outside the vocabulary (valid: 0 .. {base.vocab - 1})")
        place = ((base.ids[row] == token) & base.alive[row]).nonzero()
        if not place.numel():
            return f"already removed before {self.stage}"
        column = int(place[0, 0])
        told = self.details(row).get(token)
        detail = "" if told is None else str(told)
        if bool(self._kept[row, column]):
            return f"kept by {self.stage}" + (f": {detail}" if detail else "")
        score = base.scores[row, column]
        fate = Fate(
            token=token,
            prob=float(base.exact[row, column]),
            rank=int((base.scores[row] > score).sum()) + 1,
            logit=float(score),
            top_prob=float(base.exact[row].max()),
            n_after=int(self.n_after[row]),
            threshold=float(self.threshold[row]),
            detail=detail,
        )
        return self._stage.why(fate)

    def prob_of(self, tokens: Int[Tensor, " rows"]) -> Float64[Tensor, " rows"]:
        """Probability of one token a row after the stage, 0 where it is removed."""
        after = self._after
        return torch.where(after.ids == tokens[:, None], after.exact, 0.0).sum(-1)


def survivors(effect: Effect) -> Bool[Tensor, "rows width"]:
    """Columns of the effect's base that are alive after it."""
    kept = effect.base.alive
    if effect.keep is not None:
        kept = kept & effect.keep
    if effect.scores is not None:
        kept = kept & (effect.scores > NEG_INF)
    return kept


def spread(c: Candidates, mask: Bool[Tensor, "rows width"]) -> Bool[Tensor, "rows vocab"]:
    """A mask of columns as a mask of token ids."""
    if c.tokens is None:
        return mask
    wide = torch.zeros((mask.shape[0], c.vocab), dtype=torch.int8, device=mask.device)
    return wide.scatter_add_(1, c.ids, mask.to(torch.int8)) > 0


def record(
    stage: Stage, before: Candidates, after: Candidates, effect: Effect, padding: Tensor
) -> StageRecord:
    """Write down what a stage did.

    Args:
        stage: The stage.
        before: What it was given.
        after: What it left.
        effect: What it reported; its ``base`` holds the tokens of ``before``, possibly in another order.
        padding: Which targets are none, Bool [rows, k].
    """
    rows = before.scores.shape[0]
    acted = effect.active
    if acted is None:
        acted = torch.full((rows,), not stage.is_off(), device=before.scores.device)
    base = effect.base
    pruned = base.exact.new_zeros(rows)
    if not torch.equal(before.n, after.n):
        lost = (base.alive & ~survivors(effect)).to(base.exact.dtype)
        pruned = torch.bmm(base.exact[:, None], lost[:, :, None])[:, 0, 0]
    threshold = effect.threshold if effect.threshold is not None else pruned.new_full((rows,), NAN)
    return StageRecord(
        stage=stage.name,
        params=stage.params(),
        active=acted,
        n_before=before.n,
        n_after=after.n,
        mass_pruned=pruned,
        threshold=threshold.double().masked_fill(~acted, NAN),
        unit=stage.unit,
        margin_unit=stage.margin_unit,
        entropy_before=before.entropy,
        entropy_after=after.entropy,
        top_token=after.top_token,
        top_prob=after.top_prob,
        alive_before=~before.gone,
        alive_after=~after.gone,
        prob_before=before.target_probs.masked_fill(padding, NAN),
        prob_after=after.target_probs.masked_fill(padding, NAN),
        rank_before=before.ranks,
        margin=_margin(effect, before, after, acted, padding),
        notes=effect.notes,
        _stage=stage,
        _effect=effect,
        _after=after,
    )


def _margin(
    effect: Effect, before: Candidates, after: Candidates, acted: Tensor, padding: Tensor
) -> Float64[Tensor, "rows k"]:
    """The effect's margins: null or -inf by the ledger's rules, and never against the outcome."""
    if effect.margin is None:
        return torch.full(before.slots.shape, NAN, dtype=torch.float64, device=before.scores.device)
    alive = ~after.gone
    margin = effect.margin.double()
    margin = torch.where(alive, margin.nan_to_num(torch.inf, torch.inf, -torch.inf).clamp(min=0.0), margin)
    margin = torch.where(alive, margin, margin.nan_to_num(0.0, torch.inf, -torch.inf).clamp(max=0.0))
    margin = margin.masked_fill(before.gone, NEG_INF)
    return margin.masked_fill(padding | ~acted[:, None], NAN)


@dataclass(frozen=True, eq=False)
class Ledger:
    """A chain at work on a batch of rows.

    Attributes:
        chain: Name of the chain.
        targets: Token ids followed, -1 = none.
        records: One for every stage, in order, those that are off too.
    """

    chain: str
    targets: Int[Tensor, "rows k"]
    records: tuple[StageRecord, ...]
    _end: Candidates

    @cached_property
    def final(self) -> Float64[Tensor, "rows vocab"]:
        """Logits after the chain, ``-inf`` for removed tokens."""
        return self._end.wide().double()

    def probs(self) -> Float64[Tensor, "rows vocab"]:
        """Probabilities after the chain."""
        return torch.softmax(self.final, -1)

    @cached_property
    def kept(self) -> Bool[Tensor, "rows vocab"]:
        """Survivors of the whole chain."""
        return spread(self._end, self._end.alive)

    @cached_property
    def survived(self) -> Bool[Tensor, "rows k"]:
        """Whether each target survives the whole chain; false for padding."""
        return self._end.slots >= 0

    @cached_property
    def killer(self) -> Int[Tensor, "rows k"]:
        """Index of the stage that removed each target, -1 where none did."""
        found = torch.full_like(self.targets, -1)
        for index, entry in enumerate(self.records):
            found = torch.where(entry.alive_before & ~entry.alive_after, index, found)
        return found
