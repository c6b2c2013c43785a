"""Hold what one stage of a chain saw, what it cut, and what happened to each target; say why."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.numerics.ranking import top
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.distribution import NEG_INF
from elimtool.samplers.order import count_larger
from elimtool.samplers.stage import Detail, Effect, Fate, Stage

if TYPE_CHECKING:
    from elimtool.samplers.ledger import Ledger

ROUNDING = 1e-5
"""Margins under this, in a unit that is not a count, are within rounding: engines compute in float32, and
sums of many terms can fall on the other side of a threshold there."""
COUNTS = ("tokens",)
"""Units of margins that are whole numbers, which rounding does not touch."""


@dataclass(frozen=True, eq=False)
class StageRecord:
    """What one stage of a chain did.

    "Before" means the distribution that the stage was given, renormalised over the survivors so far.

    Attributes:
        stage: Name of the stage in its chain.
        params: Its parameters, as values of JSON.
        active: Rows on which it acted; false where its parameters (or a draw) turn it off.
        n_before: Survivors before.
        n_after: Survivors after; 0 where a ban emptied the row, and more than before where a stage brings
            removed tokens back.
        n_drawable: Survivors after that can be drawn: float32 holds their probability. A ban by a finite
            logit leaves survivors that cannot be.
        mass_pruned: Probability that it removed, 0 .. 1.
        threshold: Threshold in ``unit``; NaN = none.
        unit: Unit of the threshold.
        margin_unit: Unit of the margins.
        entropy_before: Entropy before (nats).
        entropy_after: Entropy after (nats).
        top_token: The most probable token after the stage, the lowest id among ties.
        top_prob: Its probability after the stage.
        alive_before: Whether each target had survived so far.
        alive_after: Whether each target survives.
        prob_before: Probability of each target before, 0 for a removed one, NaN for padding.
        prob_after: Probability of each target after.
        rank_before: Strict rank of each target before, 0 for a removed one or padding.
        margin: Distance of each target from removal: positive where it survives (0: a tie rule or min_keep
            decided), NaN where the stage is off or never removes tokens, and for a target removed earlier.
        notes: Remarks for the reader.
        targets: The tokens followed, -1 = none.
        before: The distribution that the stage was given.
    """

    stage: str
    params: Mapping[str, Any]
    active: Bool[Tensor, " rows"]
    n_before: Int[Tensor, " rows"]
    n_after: Int[Tensor, " rows"]
    n_drawable: Int[Tensor, " rows"]
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
    targets: Int[Tensor, "rows k"]
    before: Candidates
    _stage: Stage
    _effect: Effect
    _after: Candidates

    @property
    def within_rounding(self) -> Bool[Tensor, "rows k"]:
        """Whether each target's margin is so small that the engine itself might decide otherwise."""
        near = self.margin.abs() < ROUNDING
        return near & (self.margin_unit not in COUNTS)

    @property
    def combines(self) -> bool:
        """Whether the stage combined the distribution with another row."""
        return self._effect.other is not None

    @cached_property
    def others(self) -> tuple[Int[Tensor, "rows k"], Float64[Tensor, "rows k"]]:
        """Strict rank and log-probability (nats) of each target in the row that the stage combined with.

        Rank 0 and NaN for padding, and in a stage that combines none.
        """
        padding = self.targets < 0
        if (other := self._effect.other) is None:
            return torch.zeros_like(self.targets), torch.full_like(self.prob_before, torch.nan)
        own = other.gather(1, self.targets.clamp(min=0))
        ranks = count_larger(other, own) + 1
        return ranks.masked_fill(padding, 0), own.masked_fill(padding, torch.nan)

    @property
    def second(self) -> Ledger | None:
        """What the second pass did, where the stage runs those before it once more; else ``None``."""
        return self._effect.second

    @property
    def bound_of(self) -> str:
        """What the stage's bounds are of, see ``Stage``; empty for a stage without."""
        return self._stage.bound_of

    def least(self, k: int, row: int = 0) -> float | None:
        """Return the bound that the stage's rule or remark names for target ``k``; ``None`` for none."""
        token = int(self.targets[row, k])
        found = self.details(row).get(token) or self.rule(token, row)
        return getattr(found, "least", None)

    def back(self, k: int, row: int = 0) -> int:
        """Return how many tokens the text is taken back where target ``k`` is drawn; 0 where it is not."""
        return getattr(self.rule(int(self.targets[row, k]), row), "back", 0)

    @property
    def tells(self) -> bool:
        """Whether the stage has remarks about single tokens."""
        return bool(self._effect.details)

    def details(self, row: int = 0) -> Mapping[int, Detail]:
        """Return remarks about single tokens of a row, by token id: DRY names what would repeat."""
        return self._effect.details[row] if self._effect.details else {}

    def rule(self, token: int, row: int = 0) -> Detail | None:
        """Return the rule by which the stage removed a token; None where it has none."""
        return self._effect.rules[row].get(token) if self._effect.rules else None

    def notes_on(self, row: int, told: Callable[[Detail], str] = str) -> list[str]:
        """List the remarks about one row; ``told`` spells those about single tokens."""
        emptied = bool(self.n_before[row]) and not bool(self.n_after[row])
        said = ["no token is left: engines raise here, or emit token 0"] if emptied else []
        return [*self.notes, *said, *(told(detail) for detail in self.details(row).values())]

    def rules_on(self, row: int, count: int) -> list[Detail]:
        """List the rules that removed tokens of a row, those of the most probable first.

        Args:
            row: The row.
            count: Most rules to list; of rows of a device, no more than one is known.
        """
        rules = self._effect.rules[row] if self._effect.rules else {}
        if not rules:
            return []
        if self.before.masked:
            found = rules.get(int(self.first_removed[row])) if count else None
            return [] if found is None else [found]
        base = self._effect.base
        removed = (base.alive[row] & ~survivors(self._effect, row)).nonzero()[:, 0]
        best = removed[base.exact[row, removed].argsort(descending=True, stable=True)][:count]
        told = (rules.get(token) for token in base.ids[row, best].tolist())
        return [rule for rule in told if rule is not None]

    @property
    def has_rules(self) -> bool:
        """Whether the stage removed tokens by rules."""
        return any(self._effect.rules)

    @cached_property
    def first_removed(self) -> Int[Tensor, " rows"]:
        """The most probable of the tokens that the stage removed, -1 where it removed none."""
        base = self._effect.base
        removed = base.alive & ~survivors(self._effect)
        probs = base.exact.masked_fill(~removed, -1.0)
        first = top(probs)
        tokens = first if base.tokens is None else base.tokens.gather(1, first[:, None])[:, 0]
        return tokens.masked_fill(~removed.any(-1), -1)

    @cached_property
    def removed_mask(self) -> Bool[Tensor, "rows vocab"]:
        """Whether the stage removed each token of the vocabulary."""
        return spread(self._effect.base, self._effect.base.alive & ~survivors(self._effect))

    def why(self, token: int, row: int = 0, spell: Callable[[int], str] | None = None) -> str:
        """Say in one sentence what this stage did to a token.

        Args:
            token: The token.
            row: The row.
            spell: Spells the tokens of the sentence; without it they are ids.

        Raises:
            ElimError: The token is not in the vocabulary.
        """
        base = self._effect.base
        if not 0 <= token < base.vocab:
            raise ElimError(f"`token` must be an id from 0 to {base.vocab - 1}, got {token}")
        column = base.column(token, row)
        if column is None:
            return f"already removed before {self.stage}"
        if bool(survivors(self._effect, (row, column))):
            told = self.details(row).get(token)
            said = told and (str(told) if spell is None else told.told(spell))
            return f"kept by {self.stage}" + (f": {said}" if said else "")
        score = base.scores[row, column]
        rank = int(count_larger(base.scores[row : row + 1], score.view(1, 1))) + 1
        return self._told(row, token, float(base.exact[row, column]), rank, float(score), spell)

    def why_target(self, k: int, row: int = 0) -> str:
        """Say why this stage removed target ``k``."""
        token, prob, rank, logit = (facts[row][k] for facts in self._targets)
        return self._told(row, token, prob, rank, logit)

    def _told(
        self,
        row: int,
        token: int,
        prob: float,
        rank: int,
        logit: float,
        spell: Callable[[int], str] | None = None,
    ) -> str:
        """Return the stage's sentence about a token that it removed."""
        if (rule := self.rule(token, row)) is not None:
            return str(rule) if spell is None else rule.told(spell)
        top_prob, n_after, threshold = (facts[row] for facts in self._rows)
        return self._stage.why(Fate(token, prob, rank, logit, top_prob, n_after, threshold))

    @cached_property
    def _targets(self) -> tuple[list[list[Any]], ...]:
        """Id, probability, rank and logit of every target before the stage."""
        known = (self.targets, self.target_prob_before, self.rank_before, self.score_before)
        return tuple(facts.tolist() for facts in known)

    @cached_property
    def _rows(self) -> tuple[list[Any], ...]:
        """Best probability before the stage, number of survivors after it, and its threshold, by row."""
        return self.top_prob_before.tolist(), self.n_after.tolist(), self.threshold.tolist()

    @cached_property
    def target_prob_before(self) -> Float64[Tensor, "rows k"]:
        """Probability of each target before, 0 for a removed one and for padding."""
        return self.before.target_probs

    @cached_property
    def score_before(self) -> Float[Tensor, "rows k"]:
        """Score of each target before, minus infinity for a removed one and for padding."""
        return self.before.target_scores

    @cached_property
    def top_prob_before(self) -> Float64[Tensor, " rows"]:
        """Probability of the most probable token before the stage."""
        return self.before.top_prob

    def with_parts(self, parts: Mapping[str, Any], names: Collection[str]) -> StageRecord:
        """Return the record with tensors of the host in place of those of a device.

        Args:
            parts: The tensors by name; and what is worked out when it is asked for.
            names: Names of those that are fields.
        """
        effect = self._effect
        if effect.details and not self._stage.revives:  # none about rows in which no token was left
            left = parts["n_before"].tolist()
            details = tuple(one if n else {} for one, n in zip(effect.details, left, strict=True))
            effect = replace(effect, details=details)
        return replace(self, _effect=effect).with_tensors(parts, names)

    def with_tensors(self, parts: Mapping[str, Any], names: Collection[str]) -> StageRecord:
        """Return the record with other tensors; arguments as of ``with_parts``."""
        fresh = replace(self, **{name: parts[name] for name in names})
        fresh.__dict__.update({name: one for name, one in parts.items() if name not in names})
        return fresh

    def condensed(self, none: Candidates) -> StageRecord:
        """Return the record without distributions, but for one without columns that stands for them."""
        effect = Effect(
            none,
            notes=self._effect.notes,
            details=self._effect.details,
            rules=self._effect.rules,
            other=none.scores.double() if self.combines else None,
        )
        return replace(self, before=none, _after=none, _effect=effect)

    @cached_property
    def collision_after(self) -> Float64[Tensor, " rows"]:
        """Sum of the squared probabilities after the stage: the chance that two draws are the same token."""
        return self._after.collision


def survivors(effect: Effect, at: Any = ...) -> Bool[Tensor, "..."]:
    """Mark the columns of the effect's base that survive; ``at`` selects some of them."""
    kept = effect.base.alive[at]
    if effect.keep is not None:
        kept = kept & effect.keep[at]
    if effect.scores is not None:
        kept = kept & (effect.scores[at] > NEG_INF)
    if effect.revived is not None:
        kept = kept & (effect.revived.gather(1, effect.base.ids)[at] > NEG_INF)
    return kept


def spread(c: Candidates, mask: Bool[Tensor, "rows width"]) -> Bool[Tensor, "rows vocab"]:
    """Convert a mask of columns to a mask of token ids."""
    if c.tokens is None:
        return mask
    # added, not assigned: padding columns repeat token 0 and must not clear it
    wide = torch.zeros((mask.shape[0], c.vocab), dtype=torch.int8, device=mask.device)
    return wide.scatter_add_(1, c.ids, mask.to(torch.int8)) > 0
