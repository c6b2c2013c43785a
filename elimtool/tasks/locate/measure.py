"""Patch the cells of a pair in both directions, with the states of unrelated prompts as the null."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from elimtool.analysis.locate import counts
from elimtool.files.rows import Row, Rows
from elimtool.model.continued import PatchCell
from elimtool.tasks.locate.cells import first_cells, is_single, singles
from elimtool.tasks.locate.options import SITES, LocateOptions
from elimtool.tasks.locate.pair import CorruptedPair
from elimtool.tasks.locate.patching import CellEffect, Patching

if TYPE_CHECKING:
    from elimtool.model.model import Model

AT_ONCE = 64
"""Cells patched between two reports of progress."""

CellProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class LocatedPair:
    """The result for one pair: what its row of ``location_pairs`` and its rows of ``locations`` say."""

    pair: Row
    locations: Rows


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
        "target_token": pair.target.token,
        "foil_token": None if pair.foil is None else pair.foil.token,
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
    return [_row(cell, "shared", (CellEffect(0.0), CellEffect(0.0)), False)]


def _row(cell: PatchCell, extent: str, found: tuple[CellEffect, CellEffect], located: bool) -> Row:
    r, q = found
    return {
        "site": next(name for name, kind in SITES.items() if kind == cell.kind),
        "extent": extent,
        "layer": cell.first_layer,
        "last_layer": cell.last_layer,
        "head": cell.head,
        "position": cell.first,
        "last_position": cell.last,
        "r": r.value,
        "q": q.value,
        "r_null": r.null,
        "q_null": q.null,
        "r_null_n": r.seen,
        "q_null_n": q.seen,
        "r_counts": counts(r.value, r.null, located),
        "q_counts": counts(q.value, q.null, located),
    }
