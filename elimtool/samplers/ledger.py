"""Hold what a whole chain did to a batch of rows: the records of its stages, and what is left."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.order import sum_products
from elimtool.samplers.stage_record import StageRecord, spread


@dataclass(frozen=True, eq=False)
class Ledger:
    """What a chain did to a batch of rows.

    Attributes:
        chain: Name of the chain.
        targets: Token ids followed, -1 = none.
        records: Records of all stages in order, including those that are off.
        end: The distribution after the chain.
    """

    chain: str
    targets: Int[Tensor, "rows k"]
    records: tuple[StageRecord, ...]
    end: Candidates

    def before(self, stage: int) -> Candidates:
        """Return the distribution before a stage, given by index; after the last stage, the end."""
        return self.records[stage].before if stage < len(self.records) else self.end

    def drawn_at(self, stage: int, tokens: Int[Tensor, " rows"]) -> Float64[Tensor, " rows"]:
        """Return the probabilities before a stage of tokens that were drawn, in the pass that drew each.

        Args:
            stage: Index of the stage.
            tokens: One token per row; which pass drew it is not known: the likelier one is taken.
        """
        first = self.before(stage).prob_of(tokens)
        for index in range(stage, len(self.records)):
            if (second := self.records[index].second) is not None:
                ways = self.before(index).prob_of(tokens), second.end.prob_of(tokens)
                likelier = self.records[index].mass_pruned * ways[1] > ways[0]
                return torch.where(likelier, second.before(stage + 1).prob_of(tokens), first)
        return first

    def output_mass(self, stage: int) -> Float64[Tensor, " rows"]:
        """Sum the survivors' probabilities in the distribution that the chain was given.

        Args:
            stage: Index of the stage after which they are alive.
        """
        return self.output_masses[stage]

    @cached_property
    def output_masses(self) -> list[Float64[Tensor, " rows"]]:
        """What ``output_mass`` returns of every stage; one that changes nothing costs nothing."""
        begun = last = self.before(0)
        mass = begun.held
        found = []
        for stage in range(len(self.records)):
            after = self.before(stage + 1)
            if after is not last:
                given = begun.exact if after.tokens is None else begun.exact.gather(1, after.tokens)
                mass, last = sum_products(given, torch.ones_like(given), after.alive), after
            found.append(mass.clamp(max=1.0))
        return found

    @cached_property
    def final(self) -> Float64[Tensor, "rows vocab"]:
        """Logits after the chain, ``-inf`` for removed tokens."""
        return self.end.wide().double()

    def probs(self) -> Float64[Tensor, "rows vocab"]:
        """Return the probabilities after the chain; all 0 in a row that it emptied."""
        return torch.softmax(self.final, -1).masked_fill((self.end.n == 0)[:, None], 0.0)

    @cached_property
    def kept(self) -> Bool[Tensor, "rows vocab"]:
        """Survivors of the whole chain."""
        return spread(self.end, self.end.alive)
