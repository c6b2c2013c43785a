"""Patch the cells of a pair in both directions, with the states of unrelated prompts as the null."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from elimtool.analysis.locate import counts, locatable, null_quantile, random_gap
from elimtool.files.rows import Row, Rows
from elimtool.model.continued import PatchCell, Runs
from elimtool.tasks.locate.cells import first_cells, is_single, singles
from elimtool.tasks.locate.options import DRAWS, SITES, UNRELATED, LocateOptions
from elimtool.tasks.locate.pair import CorruptedPair, unrelated, with_noise

if TYPE_CHECKING:
    from elimtool.model.model import Model

READOUT_BYTES = 64 * 2**20
"""Bytes of logits held at a time."""

AT_ONCE = 64
"""Cells patched between two reports of progress."""

CellProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class LocatedPair:
    """The result for one pair: what its row of ``location_pairs`` and its rows of ``locations`` say."""

    pair: Row
    locations: Rows


class Patching:
    """The runs of one pair, and what is measured on them.

    Runs are numbered: 0 is the clean one, then the corrupt ones (one, or the draws of noise), then unrelated.
    """

    def __init__(self, model: Model, pair: CorruptedPair, options: LocateOptions) -> None:
        self.model = model
        self.pair = pair
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

    def effects(self, cells: Sequence[PatchCell]) -> list[tuple[float, float, float, float] | None]:
        """Measure r, q and the null quantiles of both for each cell; ``None`` where the gap is 0."""
        corrupt = range(1, 1 + self.draws)
        other = range(1 + self.draws, len(self.runs.ids))
        bases = [1 + at % self.draws for at in range(len(other))]
        there, back = [(base, 0) for base in corrupt], [(0, source) for source in corrupt]
        pairs = [*there, *back, *zip(bases, other, strict=True), *((0, source) for source in other)]
        last = self.runs.patch(cells, pairs)
        values = self.read(last.flatten(0, 1)).view(len(cells), len(pairs))
        if self.gap == 0:
            return [None] * len(cells)
        base = torch.tensor([self.each[one - 1] for one in bases], dtype=torch.float64)
        r, q, null_r, null_q = torch.split(values, [self.draws, self.draws, len(other), len(other)], 1)
        return [
            (
                (float(r[at].mean()) - self.corrupt) / self.gap + 0.0,  # + 0.0: no minus zero
                (self.clean - float(q[at].mean())) / self.gap + 0.0,
                null_quantile(((null_r[at] - base) / self.gap).tolist()),
                null_quantile(((self.clean - null_q[at]) / self.gap).tolist()),
            )
            for at in range(len(cells))
        ]

    def _replaced(self) -> list[float]:
        """The clean prompt's values where the changed tokens are those of unrelated prompts."""
        ids = torch.tensor([self.pair.clean.token_ids] * len(self.others))
        where = torch.tensor(self.pair.changed)
        ids[:, where] = torch.tensor(self.others)[:, where]
        return self.read(Runs(self.model, ids, 0).last).tolist()


def measure(
    model: Model, pair: CorruptedPair, options: LocateOptions, progress: CellProgress | None = None
) -> LocatedPair:
    """Patch all sites of a pair, coarse to fine.

    Args:
        model: The model, under no intervention.
        pair: The clean and the corrupt prompt.
        options: Sites and how finely.
        progress: Called with the cells patched and those known to be patched in all.
    """
    patching = Patching(model, pair, options)
    positions = (pair.changed[0], pair.length - 1)
    started = {
        name: first_cells(SITES[name], model.n_layers, model.n_heads, positions, options.fine)
        for name in options.sites
    }
    tell = _Tell(sum(map(len, started.values())), progress)
    rows: Rows = []
    for name, cells in started.items():
        patching.runs.record(SITES[name])
        rows += _before(name, model.n_layers, pair.changed[0])
        rows += _refined(patching, cells, tell)
        if name == "residual":
            rows += _changed_together(patching, tell)
    key = {
        "prompt_id": pair.clean.prompt_id,
        "corrupt_id": None if pair.corrupt is None else pair.corrupt.prompt_id,
        "target": pair.target.text,
        "foil": None if pair.foil is None else pair.foil.text,
    }
    facts = {
        "position": pair.length - 1,
        "changed": list(pair.changed),
        "draws": None if pair.corrupt is not None else patching.draws,
        "unrelated": len(patching.others),
        "clean": patching.clean,
        "corrupt": patching.corrupt,
        "gap": patching.gap,
        "random_gap": patching.random,
        "located": patching.located,
        "tokens_processed": round(patching.runs.tokens),
    }
    return LocatedPair({**key, **facts}, [{**key, **row} for row in rows])


class _Tell:
    """Counts cells for the progress."""

    def __init__(self, total: int, progress: CellProgress | None) -> None:
        self.total, self.done, self.progress = total, 0, progress

    def more(self, cells: int) -> None:
        self.total += cells

    def did(self, cells: int) -> None:
        self.done += cells
        if self.progress is not None:
            self.progress(self.done, self.total)


def _refined(patching: Patching, cells: Sequence[PatchCell], tell: _Tell) -> Rows:
    """Measure cells; divide those that count in either direction."""
    rows: Rows = []
    finer: list[PatchCell] = []
    for cell, row in zip(cells, _measured(patching, cells, tell), strict=True):
        if is_single(cell) or not (row["r_counts"] or row["q_counts"]):
            rows.append(row)
        else:
            finer += singles(cell, patching.model.n_heads)
    if finer:
        tell.more(len(finer))
        rows += _measured(patching, finer, tell)
    return rows


def _measured(patching: Patching, cells: Sequence[PatchCell], tell: _Tell, extent: str = "") -> Rows:
    rows: Rows = []
    for start in range(0, len(cells), AT_ONCE):
        some = cells[start : start + AT_ONCE]
        for cell, found in zip(some, patching.effects(some), strict=True):
            what = extent or ("cell" if is_single(cell) else "stretch")
            rows.append(_row(cell, what, found, patching.located))
        tell.did(len(some))
    return rows


def _changed_together(patching: Patching, tell: _Tell) -> Rows:
    """Patch all changed tokens at once after each layer, unless they are one token or all that is run."""
    first, last = patching.pair.changed[0], patching.pair.changed[-1]
    if first == last or last == patching.pair.length - 1:
        return []
    cells = [PatchCell("residual", at, at, first, last) for at in range(-1, patching.model.n_layers)]
    tell.more(len(cells))
    return _measured(patching, cells, tell, "changed")


def _before(name: str, n_layers: int, first: int) -> Rows:
    """The row of the positions that both runs share: patching them changes nothing, so it is not run."""
    if not first:
        return []
    cell = PatchCell(SITES[name], -1 if name == "residual" else 0, n_layers - 1, 0, first - 1)
    return [{**_row(cell, "shared", None, False), "r": 0.0, "q": 0.0}]


def _row(cell: PatchCell, extent: str, found: tuple[float, float, float, float] | None, located: bool) -> Row:
    r, q, r_null, q_null = found or (None,) * 4
    return {
        "site": next(name for name, kind in SITES.items() if kind == cell.kind),
        "extent": extent,
        "layer": cell.first_layer,
        "last_layer": cell.last_layer,
        "head": cell.head,
        "position": cell.first,
        "last_position": cell.last,
        "r": r,
        "q": q,
        "r_null": r_null,
        "q_null": q_null,
        "r_counts": counts(r, r_null, located),
        "q_counts": counts(q, q_null, located),
    }
