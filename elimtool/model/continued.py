"""Go on from the states of a few runs: patch a place, and run only what the patch can change.

Layers below the patch, and positions before it, are those of the run that is patched. So the layers are left
out, and of the positions only the cached keys and values are used. Runs that go on from different layers
share one pass: each joins it where it starts. Families for which one of these does not give what a whole run
gives do without it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from elimtool.model.affine import tolerance
from elimtool.model.interventions.edits import Change, Kind, Site
from elimtool.model.interventions.install import putting, watching
from elimtool.model.memory import out_of_memory
from elimtool.model.partial import Beginning, KeysAndValues, PartialPass, batch_of

if TYPE_CHECKING:
    from elimtool.model.model import Model

log = logging.getLogger(__name__)

ENTRY = Site(-1, "residual")
"""The input of the first block."""

AT_ONCE = 8192
"""Tokens of one pass, keys included."""


@dataclass(frozen=True, slots=True)
class PatchCell:
    """A place to patch: one kind of site in some layers, at some positions.

    Attributes:
        kind: Kind of site.
        first_layer, last_layer: Layers; -1 with ``residual`` is the embedding.
        first, last: Positions, the last one included.
        head: One head of a ``heads`` site; ``None`` for all of the site.
    """

    kind: Kind
    first_layer: int
    last_layer: int
    first: int
    last: int
    head: int | None = None

    @property
    def sites(self) -> list[Site]:
        """The sites, in order of layers."""
        return [Site(layer, self.kind) for layer in range(self.first_layer, self.last_layer + 1)]

    @property
    def start(self) -> int:
        """The layer after which runs go on: what comes up to it does not depend on the patch."""
        return self.first_layer if self.kind == "residual" else self.first_layer - 1


Patch = tuple[PatchCell, int, int]
"""A cell, the number of the run in which it is patched, and of the run whose states are put in."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A run that goes on from after a layer: the cell to patch, in which run, and with which run's states."""

    start: int
    base: int
    source: int = 0
    cell: PatchCell | None = None


class Runs:
    """Some runs of one length, each of which can be patched with states of another.

    Args:
        model: The model, under no intervention.
        ids: Token ids; the first ``patched`` runs are those that will be patched.
        patched: Number of runs that will be patched.
        enter: Turns the inputs of the first block, [runs, keys, width], into those that are run.

    Attributes:
        tokens: Tokens run so far, a token that goes on from a layer counted by its share of the layers.
    """

    def __init__(
        self,
        model: Model,
        ids: Int[Tensor, "runs keys"],
        patched: int,
        enter: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.model = model
        self.ids = ids.to(model.device)
        self.patched = patched
        self.tokens = 0.0
        self.states: dict[Site, Tensor] = {}
        self._pass = PartialPass(model)
        self._inputs: Tensor | None = None
        if enter is not None:
            self._inputs = enter(self._recorded([ENTRY])[ENTRY]).to(model.dtype)
        self.states = self._recorded(self._stream)

    @property
    def length(self) -> int:
        """Number of tokens of every run."""
        return self.ids.shape[1]

    @property
    def last(self) -> Float[Tensor, "runs width"]:
        """Every run's last residual at the last position."""
        return self.states[self._stream[-1]][:, -1]

    def record(self, kind: Kind) -> None:
        """Record all runs' values of one kind of site, at every layer; those of other kinds are dropped.

        Raises:
            ElimError: The architecture does not show the site.
        """
        self.states = {site: self.states[site] for site in self._stream}
        if kind != "residual":
            self.states |= self._recorded([Site(layer, kind) for layer in range(self.model.n_layers)])

    def patch(self, patches: Sequence[Patch]) -> Float[Tensor, "patches width"]:
        """Patch cells of runs with other runs' states.

        Args:
            patches: Each a cell of a kind that has been recorded, the number of the run that is patched, and
                of the run whose states are put in.

        Returns:
            The last residuals at the last position.
        """
        skips, shares, grows = self.abilities
        rows = [
            (cell.first if shares else 0, at, _Row(cell.start if skips else -1, base, source, cell))
            for at, (cell, base, source) in enumerate(patches)
        ]
        rows.sort(key=lambda entry: (entry[0], entry[2].start))
        found = self.last.new_zeros(len(patches), self.model.width)
        for (position, _), group in groupby(rows, lambda entry: (entry[0], -1 if grows else entry[2].start)):
            together = list(group)
            for first in range(0, len(together), size := max(1, AT_ONCE // self.length)):
                some = together[first : first + size]
                places = torch.tensor([place for _, place, _ in some], device=found.device)
                found[places] = self._go_on([row for _, _, row in some], position)
        return found

    @cached_property
    def abilities(self) -> tuple[bool, bool, bool]:
        """Whether layers can be left out, positions can, and runs can join: tried on the runs themselves."""
        middle, half = max(self.model.n_layers // 2 - 1, 0), self.length // 2
        skips = self._agrees([middle] * self.patched, 0)
        start = middle if skips else -1
        shares = half > 0 and self.model.shares_prefixes and self._agrees([start] * self.patched, half)
        joining = [-1, *[start] * (self.patched - 1)]
        return skips, shares, self._agrees(joining, half if shares else 0)

    def _agrees(self, starts: Sequence[int], position: int) -> bool:
        """Tell whether going on from some layers and a position gives what the whole runs gave."""
        try:
            again = self._go_on([_Row(start, base) for base, start in enumerate(starts)], position)
        except Exception as error:  # code of an unknown architecture may raise anything
            if out_of_memory(error):
                raise
            log.debug("%s: going on from layers %s failed", self.model.name, starts, exc_info=True)
            return False
        whole = self.last[: len(starts)]
        scale = max(1.0, float(whole.abs().max()))
        return float((again - whole).abs().max()) <= tolerance(self.model.dtype) * scale

    def _go_on(self, rows: Sequence[_Row], position: int) -> Float[Tensor, "rows width"]:
        """Run rows, ordered by where they start, from there on: the last residuals at the last position."""
        joining = {start: list(some) for start, some in groupby(rows, lambda row: row.start)}
        states = {start: self._entering(start, some, position) for start, some in joining.items()}
        final = self.model.n_layers - 1
        ready = states.pop(final)[:, -1:] if final in states else None
        done = self._joined(rows, states, position) if states else None
        return torch.cat([part[:, -1] for part in (done, ready) if part is not None])

    def _joined(self, rows: Sequence[_Row], states: dict[int, Tensor], position: int) -> Tensor:
        """Run the blocks, with states that join after their layers: the last residuals of all of them."""
        counts = {start: len(state) for start, state in states.items()}
        kept = None
        if position:
            runs = torch.tensor([row.base for row in rows], device=self.ids.device)
            kept = Beginning(self._kept, runs, position)
        # one row of ids for all that join: the states decide how many rows the blocks see
        n = 1 if len(states) > 1 else next(iter(counts.values()))
        with self._patching(rows, counts, position):
            done = self._pass.run(self.ids[:1, position:].expand(n, -1), states, kept)
        for start, count in counts.items():
            share = (self.model.n_layers - 1 - start) / self.model.n_layers
            self.tokens += share * count * (self.length - position)
        return done

    def _entering(self, start: int, rows: Sequence[_Row], position: int) -> Tensor:
        """The states after a layer with which rows go on, patched where their cells say so."""
        site = Site(start, "residual")
        state = self.states[site][[row.base for row in rows], position:].clone()
        for at, row in enumerate(rows):
            if row.cell is not None and site in row.cell.sites:
                where = slice(row.cell.first, row.cell.last + 1)
                state[at, where.start - position : where.stop - position] = self.states[site][
                    row.source, where
                ]
        return state

    @contextmanager
    def _patching(self, rows: Sequence[_Row], counts: dict[int, int], position: int) -> Iterator[None]:
        """While open, put the sources' values in at the sites of cells that come after the start."""
        changes: dict[Site, list[tuple[int, Change]]] = {}
        for at, row in enumerate(rows):
            if row.cell is None:
                continue
            where = tuple(range(row.cell.first - position, row.cell.last + 1 - position))
            for site in row.cell.sites:
                if site.layer > row.start:
                    values = self.states[site][row.source, row.cell.first : row.cell.last + 1]
                    if row.cell.head is not None:
                        values = values.view(len(where), self.model.n_heads, -1)[:, row.cell.head]
                    changes.setdefault(site, []).append((at, Change(site, row.cell.head, where, values)))
        with ExitStack() as hooks:
            for site, edits in changes.items():
                running = sum(count for start, count in counts.items() if start < site.layer)
                batch = batch_of(self.ids[:1, position:].expand(running, -1))
                hooks.enter_context(putting(self.model.bridge, batch, site, edits))
            yield

    @property
    def _stream(self) -> list[Site]:
        return [Site(layer, "residual") for layer in range(-1, self.model.n_layers)]

    def _recorded(self, sites: Sequence[Site]) -> dict[Site, Tensor]:
        """Run everything, some runs at a time, and keep the values of some sites."""
        values: dict[Site, list[Tensor]] = {site: [] for site in sites}

        def keep(site: Site, out: Tensor) -> None:
            values[site].append(out.detach().clone())

        for first in range(0, len(self.ids), size := max(1, AT_ONCE // self.length)):
            some = slice(first, first + size)
            states = None if self._inputs is None else {-1: self._inputs[some]}
            with watching(self.model.bridge, batch_of(self.ids[some]), sites, keep):
                self._pass.run(self.ids[some], states)
            self.tokens += self.ids[some].numel()
        found = {site: torch.cat(parts) for site, parts in values.items()}
        if self._inputs is not None and ENTRY in found:
            found[ENTRY] = self._inputs  # they come in behind the place that was watched
        return found

    @cached_property
    def _kept(self) -> KeysAndValues:
        """Keys and values of the runs that will be patched, by layer."""
        states = {-1: self.states[ENTRY][: self.patched]}
        return self._pass.keys_and_values(self.ids[: self.patched], states)
