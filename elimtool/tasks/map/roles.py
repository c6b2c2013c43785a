"""Sum up how much attention of each head goes where its role would have it go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from elimtool.model.model import Model
from elimtool.model.rows import Formed
from elimtool.model.view import Batch, LayerView
from elimtool.tasks.map.part import Arrays
from elimtool.tasks.map.units import CONTROL, HALF, REPEATS, TEXT, Unit

FARTHEST = 8
"""The null of the token before is the mean of the keys 2 to this many before."""
DORMANT = 0.9
"""Share of a query's attention on the sinks above which the head is dormant there."""

ATTENTION = frozenset({"attention"})


class Roles:
    """Reads attention on repeats and their control, and on text what goes to the sinks."""

    needs: ClassVar[Mapping[str, frozenset[str]]] = {REPEATS: ATTENTION, CONTROL: ATTENTION, TEXT: ATTENTION}

    def __init__(self, model: Model) -> None:
        self.model = model

    def watch(self, units: Sequence[Unit], batch: Batch) -> RoleSums:
        """Begin a pass."""
        made = SinkSums if units[0].kind == TEXT else PatternSums
        return made(self.model, units, batch)


class RoleSums:
    """Sums of one pass.

    For each name an array [units, layers, heads], summed over the rows that count, and one called
    ``NAME.rows``, [units, layers], of how many these are: 0 in a layer without attention weights.
    """

    names: ClassVar[tuple[str, ...]]

    def __init__(self, model: Model, units: Sequence[Unit], batch: Batch) -> None:
        self.units, self.batch = units, batch
        shape = len(units), model.n_layers, model.n_heads
        self.found = {name: torch.zeros(shape, dtype=torch.float64) for name in self.names}
        self.found |= {f"{name}.rows": torch.zeros(shape[:2], dtype=torch.float64) for name in self.names}

    def observe(self, view: LayerView, rows: Formed | None) -> None:
        """Sum up one layer."""
        if rows is not None:
            for name, (total, count) in self.read(rows, view.visible).items():
                self.found[name][:, view.layer] = total.double().cpu()
                self.found[f"{name}.rows"][:, view.layer] = count

    def read(self, rows: Formed, visible: Tensor | None) -> Mapping[str, tuple[Tensor, Tensor | int]]:
        """Return sums over rows, [units, heads], and the number of rows, by name."""
        raise NotImplementedError

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

    def read(self, rows: Formed, visible: Tensor | None) -> Mapping[str, tuple[Tensor, Tensor | int]]:
        """Sum the weights of each role's cells."""
        del visible
        found: dict[str, tuple[Tensor, Tensor | int]] = {}
        for name, cells in self.cells.items():
            query, key = (torch.tensor(one, device=rows.weights.device) for one in zip(*cells, strict=True))
            found[name] = rows.weights[:, :, query, key].sum(-1), len(cells)
        return found


class SinkSums(RoleSums):
    """Attention on the sinks, and for how many queries that is nearly all."""

    names = ("sink", "uniform", "dormant")

    def __init__(self, model: Model, units: Sequence[Unit], batch: Batch) -> None:
        super().__init__(model, units, batch)
        self.sinks = torch.zeros(batch.ids.shape, dtype=torch.bool, device=batch.ids.device)
        for row, unit in enumerate(units):
            self.sinks[row, list(unit.encoded.sinks)] = True

    def read(self, rows: Formed, visible: Tensor | None) -> Mapping[str, tuple[Tensor, Tensor | int]]:
        """Sum over the queries that are no sinks."""
        assert visible is not None
        queries = (~self.sinks).double()[:, None]
        mass = rows.weights.double() @ self.sinks.double()[:, None, :, None]
        mass = mass[..., 0] if rows.null is None else mass[..., 0] + rows.null
        seen = (visible & self.sinks[:, None]).sum(-1) / visible.sum(-1)
        count = queries.sum(-1).cpu()[:, 0]
        uniform = (seen[:, None] * queries).sum(-1).expand(-1, mass.shape[1])
        return {
            "sink": ((mass * queries).sum(-1), count),
            "uniform": (uniform, count),
            "dormant": (((mass > DORMANT) * queries).sum(-1), count),
        }
