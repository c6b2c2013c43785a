"""Sum up what of each head's attention, and of what it writes, is as its role would have it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from elimtool.model.affine import wide
from elimtool.model.carried import by_head
from elimtool.model.heads import Heads
from elimtool.model.model import Model
from elimtool.model.rows import Formed
from elimtool.model.view import Batch, LayerView
from elimtool.tasks.map.hidden import NeedleSums
from elimtool.tasks.map.options import MapOptions
from elimtool.tasks.map.part import Arrays, Watch
from elimtool.tasks.map.successors import MemberSums
from elimtool.tasks.map.units import (
    CONTROL,
    HALF,
    MEMBER,
    NEEDLE,
    OTHER_NEEDLE,
    REPEATS,
    TEXT,
    Unit,
    usable_ids,
)

FARTHEST = 8
"""The null of the token before is the mean of the keys 2 to this many before."""
DORMANT = 0.9
"""Share of a query's attention on the sinks above which the head is dormant there."""

OTHERS, NEARLY = 999, 990
"""Random tokens that a value's own token is compared with, and of how many it is to be above, or below."""
SEED = 2
"""Seed of these tokens, the same for all."""
FIRST, STEP = 2, 2
"""First position whose value is read, and the step between two."""

ATTENTION = frozenset({"attention"})
VALUES = ATTENTION | {"block", "values"}
Counted = tuple[Tensor, Tensor | int]
"""Sums over rows, [units, heads], and the number of rows, which broadcasts to that."""


class Roles:
    """Reads heads on repeats and their control, on text, on hidden sentences, and on single words."""

    needs: ClassVar[Mapping[str, frozenset[str] | None]] = {
        **dict.fromkeys((REPEATS, CONTROL, NEEDLE, OTHER_NEEDLE), ATTENTION), TEXT: VALUES, MEMBER: None
    }  # fmt: skip

    def __init__(self, model: Model, asked: MapOptions) -> None:
        del asked
        self.model = model

    def watch(self, units: Sequence[Unit], batch: Batch) -> Watch:
        """Begin a pass."""
        return SUMS[units[0].kind](self.model, units, batch)


class RoleSums(ABC):
    """Sums of one pass.

    For each name an array [units, layers, heads], summed over the rows that count, and one called
    ``NAME.rows`` of how many these are: 0 in a layer where it cannot be read.
    """

    names: ClassVar[tuple[str, ...]]

    def __init__(self, model: Model, units: Sequence[Unit], batch: Batch) -> None:
        del batch
        shape = len(units), model.n_layers, model.n_heads
        names = (name for one in self.names for name in (one, f"{one}.rows"))
        self.found = {name: torch.zeros(shape, dtype=torch.float64) for name in names}

    def observe(self, view: LayerView, rows: Formed | None) -> None:
        """Sum up one layer."""
        if rows is not None:
            for name, (total, count) in self.read(rows, view).items():
                self.found[name][:, view.layer] = total.double().cpu()
                self.found[f"{name}.rows"][:, view.layer] = count

    @abstractmethod
    def read(self, rows: Formed, view: LayerView, /) -> Mapping[str, Counted]:
        """Return sums over rows and the number of rows, by name."""

    def sums(self) -> Arrays:
        """Return all arrays."""
        return {name: one.numpy() for name, one in self.found.items()}

    def totals(self) -> Arrays:
        """Return nothing: every number is of a unit."""
        return {}


class PatternSums(RoleSums):
    """Attention at one key of each row: what previous-token, duplicate and induction heads attend to."""

    names = ("previous", "far", "duplicate", "induction")

    def __init__(self, model: Model, units: Sequence[Unit], batch: Batch) -> None:
        super().__init__(model, units, batch)
        length, first = batch.ids.shape[1], units[0].first
        sinks = {position for unit in units for position in unit.encoded.sinks}
        places = [at for at in range(length) if at not in sinks]
        second = [at for at in range(first + HALF, length) if at not in sinks]
        self.cells = {
            "previous": [(at, at - 1) for at in places if at - 1 in places],
            "far": [
                (at, at - back) for at in places for back in range(2, FARTHEST + 1) if at - FARTHEST in places
            ],
            "duplicate": [(at, at - HALF) for at in second if at - HALF in places],
            "induction": [(at, at - HALF + 1) for at in second],
        }

    def read(self, rows: Formed, _: LayerView, /) -> Mapping[str, Counted]:
        """Sum the weights of each role's cells."""
        found: dict[str, Counted] = {}
        for name, cells in self.cells.items():
            query, key = (torch.tensor(one, device=rows.weights.device) for one in zip(*cells, strict=True))
            found[name] = rows.weights[:, :, query, key].sum(-1), len(cells)
        return found


class TextSums(RoleSums):
    """Attention on the sinks and for how many queries it is nearly all, and whose token values write."""

    names = ("sink", "uniform", "dormant", "output", "copying", "suppressing")

    def __init__(self, model: Model, units: Sequence[Unit], batch: Batch) -> None:
        super().__init__(model, units, batch)
        self.sinks = torch.zeros(batch.ids.shape, dtype=torch.bool, device=batch.ids.device)
        for row, unit in enumerate(units):
            self.sinks[row, list(unit.encoded.sinks)] = True
        self.copies = Copies(model, batch, self.sinks)

    def read(self, rows: Formed, view: LayerView, /) -> Mapping[str, Counted]:
        """Sum over the queries, and over the keys, that are no sinks."""
        assert view.visible is not None
        queries = (~self.sinks).double()[:, None]
        mass = rows.weights.double() @ self.sinks.double()[:, None, :, None]
        mass = mass[..., 0] if rows.null is None else mass[..., 0] + rows.null
        seen = (view.visible & self.sinks[:, None]).sum(-1) / view.visible.sum(-1)
        count = queries.sum(-1).cpu()
        uniform = (seen[:, None] * queries).sum(-1).expand(-1, mass.shape[1])
        found: dict[str, Counted] = {
            "sink": ((mass * queries).sum(-1), count),
            "uniform": (uniform, count),
            "dormant": (((mass > DORMANT) * queries).sum(-1), count),
        }
        if view.block is not None and view.block.heads is not None:
            found["output"] = (output_sizes(view.block.heads).double() * queries).sum(-1), count
        # in layer 0 a value is little but its own token
        if view.carried is not None and view.layer > 0:
            found.update(self.copies.read(wide(view.carried.values), view.carried.map))
        return found


def output_sizes(heads: Heads) -> Float[Tensor, "units heads queries"]:
    """Return the Euclidean norm of what each head writes, without forming it."""
    inputs = by_head(wide(heads.inputs), heads.count).transpose(1, 2)
    weight = by_head(wide(heads.weight), heads.count).transpose(0, 1)
    products = weight.transpose(1, 2) @ weight
    return ((inputs @ products) * inputs).sum(-1).clamp(min=0).sqrt()


SUMS: Mapping[str, Callable[[Model, Sequence[Unit], Batch], Watch]] = {
    REPEATS: PatternSums,
    CONTROL: PatternSums,
    TEXT: TextSums,
    NEEDLE: NeedleSums,
    OTHER_NEEDLE: NeedleSums,
    MEMBER: MemberSums,
}
"""By kind of units, what reads them."""


class Copies:
    """Tells whether the value of a token, written by a head, raises that token above others or below them.

    Args:
        model: The model.
        batch: The passages.
        sinks: Positions that are left out.
    """

    def __init__(self, model: Model, batch: Batch, sinks: Bool[Tensor, "units keys"]) -> None:
        known = np.asarray(usable_ids(model))
        drawn = np.random.Generator(np.random.PCG64(SEED)).choice(known, OTHERS, replace=len(known) < OTHERS)
        self.others = model.written(torch.tensor(drawn, device=batch.ids.device))
        self.read_at = torch.arange(FIRST, batch.ids.shape[1], STEP, device=batch.ids.device)
        ids = batch.ids[:, self.read_at]
        self.own = model.written(ids.flatten()).reshape(*ids.shape, -1)
        self.places = ~sinks[:, self.read_at]

    def read(
        self, values: Float[Tensor, "units groups keys size"], maps: Float[Tensor, "heads width size"]
    ) -> Mapping[str, Counted]:
        """Count the values that stand above, and below, nearly all other tokens.

        Args:
            values: What attention weighs, of each group of heads.
            maps: Each head's part of the output projection.
        """
        shape = len(values), len(maps)
        above, below, rows = (torch.zeros(shape, dtype=torch.float64) for _ in range(3))
        for head, output in enumerate(maps):
            each = values[:, head * values.shape[1] // len(maps), self.read_at]
            others = each @ (self.others @ output).T
            own = (each * (self.own @ output)).sum(-1, keepdim=True)
            above[:, head] = (((own > others).sum(-1) >= NEARLY) & self.places).sum(-1).cpu()
            below[:, head] = (((own < others).sum(-1) >= NEARLY) & self.places).sum(-1).cpu()
            if bool(output.any()):
                rows[:, head] = self.places.sum(-1).double().cpu()
        return {"copying": (above, rows), "suppressing": (below, rows)}
