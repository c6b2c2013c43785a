"""Controls: apply the rule for lost targets to tokens that are as frequent as the target.

Table ``controls``, one row per followed target; filled where the lens has p_0, the mean output on its
reference text. Any token may reach the first ranks of some layer by chance, so the rule is also applied to
``MATCHED_TOKENS`` tokens that have only their frequency in common with the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from elimtool.metrics.columns import Columns, place
from elimtool.metrics.metric import Followed, Here, Metric, ReadoutView, RowFacts, Settings
from elimtool.model.view import Batch
from elimtool.numerics.ranking import largest, nucleus, rank
from elimtool.numerics.transfer import sent
from elimtool.run.rules import NUCLEUS, SURFACED

MATCHED_TOKENS = 99
"""Control tokens per target; with 99 the least p-value is 0.01."""


class FrequencyControls(Metric):
    """Applies the rule for late elimination to frequency-matched tokens."""

    tables: ClassVar[tuple[str, ...]] = ("controls",)

    def __init__(self, batch: Batch, settings: Settings) -> None:
        super().__init__(batch, settings)
        self.matching = None if settings.reference is None else matching(settings.reference.prior)

    def read(self, view: ReadoutView) -> None:
        """Match the followed targets of some rows, and apply the rule to their controls."""
        if self.matching is None:
            return
        followed = torch.from_numpy(view.followed.here["ids"])
        targets = followed.masked_fill(torch.from_numpy(view.followed.here["is_foil"]), -1)
        controls = self.matching.controls(targets, followed)
        flat = sent(controls.clamp(min=0).reshape(len(controls), -1), view.logits.device)
        leading = view.shapes.leading_of(slice(1, None), slice(None))
        lost, severity = late_eliminated(view.logits, view.output, flat, leading)
        facts = view.facts
        self.bring(
            {"lost": lost, "severity": severity},
            lambda here: {"controls": self._columns(facts, targets, controls, here)},
        )

    def _columns(
        self,
        facts: RowFacts,
        targets: Int[Tensor, "rows k"],
        controls: Int[Tensor, "rows k controls"],
        here: Here,
    ) -> Columns:
        assert self.matching is not None
        lost, severity = (torch.from_numpy(here[name]).view(controls.shape) for name in ("lost", "severity"))
        lost = lost & (controls >= 0)
        row, k = (targets >= 0).numpy().nonzero()
        prior = self.matching.prior
        known = (controls >= 0)[row, k]
        matched = prior[controls.clamp(min=0)].exp()[row, k]
        return {
            **place(self.batch, facts.rows, row),
            **facts.followed.names(row, k),
            "token_id": targets.numpy()[row, k],
            "prior": prior[targets.clamp(min=0)].exp().numpy()[row, k],
            "prior_low": matched.masked_fill(~known, torch.inf).amin(-1).numpy(),
            "prior_high": matched.masked_fill(~known, 0.0).amax(-1).numpy(),
            "n_controls": known.sum(-1).numpy(),
            "n_lost": lost.sum(-1).numpy()[row, k],
            "lost_severities": [
                sorted(severity[i, j][lost[i, j]].tolist()) for i, j in zip(row, k, strict=True)
            ],
        }


class Matching:
    """Finds tokens about as frequent as a given one.

    Args:
        prior: Logarithm of p_0.
        count: Tokens to find for each.
    """

    def __init__(self, prior: Float[Tensor, "vocab"], count: int = MATCHED_TOKENS) -> None:
        self.count = count
        self.prior = prior.double().cpu()
        # sorted once: neighbours in this order are the candidates for every target
        self.order = self.prior.numpy().argsort(kind="stable")
        self.place = np.empty_like(self.order)
        self.place[self.order] = np.arange(len(self.order))
        self._last: tuple[tuple[list[list[int]], ...], Tensor] | None = None

    def controls(
        self, targets: Int[Tensor, "rows k"], excluded: Int[Tensor, "rows e"]
    ) -> Int[Tensor, "rows k controls"]:
        """Find the tokens nearest to each target in log p_0, by id among ties.

        Args:
            targets: Vocabulary indices; negative ones get the controls of token 0, to be ignored.
            excluded: Tokens that cannot be controls in a row: all that it follows.

        Returns:
            Vocabulary indices, padded with -1 where a small vocabulary has too few.
        """
        asked = targets.tolist(), excluded.tolist()
        if self._last is not None and self._last[0] == asked:  # two metrics ask for the same rows
            return self._last[1]
        found = torch.full((*targets.shape, self.count), -1, dtype=torch.long)
        for row, (ids, out) in enumerate(zip(*asked, strict=True)):
            for k, target in enumerate(ids):
                nearest = self.nearest(max(target, 0), out, self.count)
                found[row, k, : len(nearest)] = torch.from_numpy(nearest)
        self._last = asked, found
        return found

    def nearest(self, target: int, excluded: Sequence[int], count: int) -> npt.NDArray[np.int64]:
        """Find the tokens nearest to one in log p_0, nearest first, by id among ties; fewer if there are."""
        prior, reach = self.prior.numpy(), count + len(excluded) + 1
        place = int(self.place[target])
        near = self.order[max(0, place - reach) : place + reach + 1]
        near = np.sort(near[~np.isin(near, [*excluded, target])])  # by id, for the stable sort below
        distance = np.abs(prior[near] - prior[target])
        nearest: npt.NDArray[np.int64] = near[distance.argsort(kind="stable")[:count]]
        return nearest


@dataclass(frozen=True)
class ControlTokens:
    """Control tokens of what some rows follow.

    Attributes:
        ids: Controls of each followed token, one after the other.
        known: Which of them there are.
    """

    ids: Int[Tensor, "rows all_controls"]
    known: Bool[Tensor, "rows k controls"]

    @classmethod
    def of(cls, matched: Matching, followed: Followed, some: slice) -> ControlTokens:
        """Match the targets of some rows."""
        ids = torch.from_numpy(followed.here["ids"][some])
        is_foil = torch.from_numpy(followed.here["is_foil"][some])
        found = matched.controls(ids.masked_fill(is_foil, -1), ids)
        there = followed.ids.device
        return cls(sent(found.clamp(min=0).flatten(1), there), sent(found >= 0, there))

    def spread(self, values: Float[Tensor, "rows all_controls parts"]) -> Float64[Tensor, "rows k parts"]:
        """Compute the standard deviation over each token's controls; NaN for 0 or one control.

        Args:
            values: What each part gave each control.
        """
        known = self.known.double()[..., None]
        each = values.view(*self.known.shape, -1)
        count = known.sum(2)
        away = (each - ((each * known).sum(2) / count)[:, :, None]) * known
        spread = (away.square().sum(2) / (count - 1)).sqrt()
        return spread.where(spread > 0, torch.nan)


@lru_cache(maxsize=1)
def matching(prior: Float[Tensor, "vocab"]) -> Matching:
    """Make the matching of a prior, once for all metrics of a pass."""
    return Matching(prior)


def late_eliminated(
    logits: Float[Tensor, "layers rows vocab"],
    output: Float[Tensor, "rows vocab"],
    tokens: Int[Tensor, "rows k"],
    leading: Sequence[npt.NDArray[Any]] | None = None,
) -> tuple[Bool[Tensor, "rows k"], Float[Tensor, "rows k"]]:
    """Find tokens that surface after a block and are lost at the end, and how severely.

    The rule of ``elimtool.analysis.verdict`` for many tokens at once: among the ``SURFACED`` first after
    some block, and at the end neither among them nor in the output's ``NUCLEUS``.

    Args:
        logits: Layer -1 (the embedding, which does not count) first, the model's output last.
        output: The output's log-probabilities.
        tokens: Vocabulary indices.
        leading: The best scores of every block and row, as in ``Shapes``, if they are known.

    Returns:
        ``(lost, severity)``: severity is log10 of the final rank over the best, float64, NaN for those not
        lost.
    """
    blocks = logits[1:]
    first = largest(blocks.flatten(0, 1), min(SURFACED, blocks.shape[-1]), leading)
    first = first.view(*blocks.shape[:2], -1)
    scores = blocks.gather(-1, tokens.expand(len(blocks), -1, -1))
    inside = scores >= first[..., -1:]
    lost = inside.any(0) & ~inside[-1] & (output.gather(-1, tokens) < _least_in_nucleus(output))
    better = (first[:, :, None] > scores[..., None]).sum(-1)
    best = better.masked_fill(~inside, first.shape[-1]).amin(0) + 1
    final = _ranks_of(blocks[-1], tokens, lost)
    return lost, (final / best.double()).log10().masked_fill(~lost, torch.nan)


def _ranks_of(
    logits: Float[Tensor, "rows vocab"], tokens: Int[Tensor, "rows k"], wanted: Bool[Tensor, "rows k"]
) -> Int[Tensor, "rows k"]:
    """Rank the wanted tokens of each row, and others as it comes."""
    if not logits.is_cpu:  # all cost as much, and which are wanted would have to be waited for
        return rank(logits, tokens)[0]
    found = torch.ones_like(tokens)
    for row in wanted.any(-1).nonzero()[:, 0].tolist():
        chosen = wanted[row]
        found[row, chosen] = rank(logits[row : row + 1], tokens[row : row + 1, chosen])[0][0]
    return found


def _least_in_nucleus(output: Float[Tensor, "rows vocab"]) -> Float[Tensor, "rows 1"]:
    """Return the smallest log-probability in each row's nucleus."""
    return output.masked_fill(~nucleus(output, NUCLEUS), torch.inf).amin(-1, keepdim=True)
