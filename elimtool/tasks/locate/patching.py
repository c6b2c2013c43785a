"""Run the patches of one pair of prompts, and as many of the null as it takes to judge each cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from elimtool.analysis.evidence import null_quantile
from elimtool.analysis.locate import locatable, random_gap, settled
from elimtool.model.continued import Patch, PatchCell, Runs
from elimtool.tasks.locate.options import DRAWS, UNRELATED, LocateOptions
from elimtool.tasks.locate.pair import CorruptedPair, unrelated, with_noise

if TYPE_CHECKING:
    from elimtool.model.model import Model

READOUT_BYTES = 64 * 2**20
"""Bytes of logits held at a time."""

ROUNDS = (2, 5, 10)
"""Unrelated prompts after which it is asked which cells are settled. Of cells that do not count, most are
after the first few: at the last token nearly any foreign state does more than either prompt's."""


@dataclass(frozen=True, slots=True)
class CellEffect:
    """What patching a cell does in one direction.

    Attributes:
        value: Share of the gap; ``None`` where the gap is 0.
        null: 95th percentile of what all unrelated prompts do; ``None`` where they were not all needed.
        seen: Unrelated prompts that were run.
    """

    value: float | None
    null: float | None = None
    seen: int = 0


@dataclass(slots=True)
class _Null:
    """The null of one cell in one direction, as it grows.

    Attributes:
        cell: What is patched.
        clean: Whether the clean run is patched (q), not the corrupt one (r).
        value: The effect that is judged.
        others: Effects of the unrelated prompts so far.
    """

    cell: PatchCell
    clean: bool
    value: float
    others: list[float] = field(default_factory=list)

    def effect(self, count: int) -> CellEffect:
        """Sum up; the quantile is only that of all ``count`` prompts."""
        null = null_quantile(self.others) if len(self.others) == count else None
        return CellEffect(self.value, null, len(self.others))


class Patching:
    """The runs of one pair, and what is measured on them.

    Runs are numbered: 0 is the clean one, then the corrupt ones (one, or the draws of noise), then unrelated.
    """

    def __init__(self, model: Model, pair: CorruptedPair, options: LocateOptions) -> None:
        self.model = model
        self.pair = pair
        self.whole = options.fine
        self.draws = 1 if pair.corrupt is not None else DRAWS
        clean = pair.clean.token_ids
        corrupt = clean if pair.corrupt is None else pair.corrupt.token_ids
        self.others = unrelated(model, pair.length, UNRELATED)
        ids = torch.tensor([clean, *[corrupt] * self.draws, *self.others])

        def noisy(inputs: Tensor) -> Tensor:
            return with_noise(inputs, pair.changed, self.draws, options.seed)

        self.runs = Runs(model, ids, 1 + self.draws, None if pair.corrupt is not None else noisy)
        values = self.read(self.runs.last).tolist()
        self.clean: float = values[0]
        self.each: list[float] = values[1 : 1 + self.draws]
        self.corrupt = sum(self.each) / self.draws
        self.random = random_gap(self._replaced() if pair.corrupt is not None else self.each)

    @property
    def gap(self) -> float:
        """The clean run's value minus the corrupt runs' mean (nats)."""
        return self.clean - self.corrupt

    @property
    def located(self) -> bool:
        """Whether the gap is large enough to locate anything."""
        return locatable(self.gap, self.random)

    def read(self, residuals: Tensor) -> Tensor:
        """Read values off last residuals [rows, width], some rows at a time."""
        size = max(1, READOUT_BYTES // (self.model.vocab * 4))
        return torch.cat(
            [self.pair.values(self.model.readout(part)) for part in torch.split(residuals, size)]
        ).cpu()

    def effects(self, cells: Sequence[PatchCell]) -> list[tuple[CellEffect, CellEffect]]:
        """Measure for each cell what the clean state restores (r) and what the corrupt state destroys (q)."""
        corrupt = range(1, 1 + self.draws)
        there: list[Patch] = [(cell, base, 0) for cell in cells for base in corrupt]
        back: list[Patch] = [(cell, 0, source) for cell in cells for source in corrupt]
        values = self._patched([*there, *back]).view(2, len(cells), self.draws).mean(-1)
        if self.gap == 0:
            return [(CellEffect(None), CellEffect(None))] * len(cells)
        # + 0.0: no minus zero
        r, q = (values[0] - self.corrupt) / self.gap + 0.0, (self.clean - values[1]) / self.gap + 0.0
        nulls = [
            [_Null(cell, clean, value) for cell, value in zip(cells, some, strict=True)]
            for clean, some in ((False, r.tolist()), (True, q.tolist()))
        ]
        self._fill([*nulls[0], *nulls[1]])
        count = len(self.others)
        return [(one.effect(count), other.effect(count)) for one, other in zip(*nulls, strict=True)]

    def _fill(self, nulls: Sequence[_Null]) -> None:
        """Run unrelated prompts, in rounds, until each effect is settled: whether it counts is known."""
        if not (self.located or self.whole):
            return
        first, count = 0, len(self.others)
        for last in (count,) if self.whole else (*ROUNDS, count):
            waiting = [one for one in nulls if self.whole or not settled(one.value, one.others, count)]
            numbers = range(first, last)
            bases = {number: 1 + number % self.draws for number in numbers}
            patches = [
                (one.cell, 0 if one.clean else bases[number], 1 + self.draws + number)
                for one in waiting
                for number in numbers
            ]
            if not patches:
                return
            values = self._patched(patches).view(len(waiting), len(numbers)).tolist()
            for one, found in zip(waiting, values, strict=True):
                one.others += [
                    ((self.clean if one.clean else self.each[bases[number] - 1]) - value) / self.gap
                    for number, value in zip(numbers, found, strict=True)
                ]
            first = last

    def _patched(self, patches: Sequence[Patch]) -> Tensor:
        return self.read(self.runs.patch(patches))

    def _replaced(self) -> list[float]:
        """The clean prompt's values where the changed tokens are those of unrelated prompts."""
        ids = torch.tensor([self.pair.clean.token_ids] * len(self.others))
        where = torch.tensor(self.pair.changed)
        ids[:, where] = torch.tensor(self.others)[:, where]
        return self.read(Runs(self.model, ids, 0).last).tolist()
