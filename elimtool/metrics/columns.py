"""Build columns of tables from arrays on a (prompt, probe, ...) grid, without a loop over rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from elimtool.model.heads import RowIndex
from elimtool.model.view import Batch, Rows
from elimtool.numerics.transfer import array

Columns = Mapping[str, Any]
"""Values by column name, all of one length: arrays, masked arrays (masked = null), ``Categorical`` columns or
lists (None = null)."""


@dataclass(frozen=True, slots=True)
class Categorical:
    """A column of few different texts: row i holds ``categories[codes[i]]``.

    Selecting, joining and converting to Arrow need no Python object per row. NumPy and pandas see an array
    of objects.

    Attributes:
        categories: Texts, ``None`` for null; they may repeat.
        codes: Indices into them, 0 .. categories - 1.
    """

    categories: Sequence[str | None]
    codes: npt.NDArray[np.integer[Any]]

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: npt.NDArray[Any]) -> Categorical:
        return Categorical(self.categories, self.codes[rows])

    def __iter__(self) -> Iterator[str | None]:
        return iter(np.asarray(self).tolist())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        del copy  # picking copies
        table: npt.NDArray[Any] = np.empty(len(self.categories), dtype=object)
        table[:] = self.categories
        picked: npt.NDArray[Any] = table[self.codes]
        return picked if dtype is None else picked.astype(dtype)


class Cells:
    """Selects the cells of a grid that exist, in the grid's order.

    Args:
        real: Which cells exist; broadcast to the grid.
        shape: Shape of the grid.
    """

    def __init__(self, real: npt.NDArray[np.bool_], shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.chosen = None if real.all() else np.broadcast_to(real, shape).ravel().nonzero()[0]

    def of(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the values of the cells that exist; ``values`` are broadcast to the grid."""
        flat = np.broadcast_to(values, self.shape).reshape(-1)
        return flat if self.chosen is None else flat[self.chosen]


def place(batch: Batch, rows: RowIndex, chosen: npt.NDArray[np.intp] | slice = slice(None)) -> dict[str, Any]:
    """Return columns ``prompt_id`` and ``position``.

    Args:
        batch: The batch.
        rows: ``(prompt, probe)`` indices of probed positions.
        chosen: Index into ``rows`` for each row of the table.
    """
    there = rows.here if isinstance(rows, Rows) else [array(index) for index in rows]
    prompt, probe = (index[chosen] for index in there)
    return {
        "prompt_id": Categorical([one.prompt_id for one in batch.encoded], prompt),
        "position": batch.here["positions"][prompt, probe],
    }


def names_at(
    names: Sequence[Sequence[str | None]], first: npt.NDArray[np.intp], second: npt.NDArray[np.intp]
) -> Categorical:
    """Pick ``names[first[i]][second[i]]`` for every i; ``names`` may be ragged."""
    starts = np.cumsum([0, *(len(row) for row in names)])
    return Categorical([name for row in names for name in row], starts[first] + second)


def spelled(tokens: npt.NDArray[np.integer[Any]], spell: Callable[[int], str | None]) -> Categorical:
    """Return the texts of tokens; each different token is spelled once."""
    different, codes = np.unique(tokens, return_inverse=True)
    return Categorical([spell(token) for token in different.tolist()], codes)


def null_where(values: npt.NDArray[Any], absent: npt.NDArray[np.bool_]) -> Any:
    """Make ``absent`` entries null, by a masked array: integers and texts have no NaN."""
    return np.ma.MaskedArray(values, mask=absent)


def join(parts: Sequence[Mapping[str, Any]]) -> Columns:
    """Concatenate the columns of several parts; empty for no parts."""
    if len(parts) == 1:
        return parts[0]
    return {key: _concatenate([part[key] for part in parts]) for key in parts[0]} if parts else {}


def _concatenate(parts: Sequence[Any]) -> Any:
    if all(isinstance(part, Categorical) for part in parts):
        starts = np.cumsum([0, *(len(part.categories) for part in parts)])
        # categories may repeat, so parts are joined without comparing texts
        codes = [part.codes + start for part, start in zip(parts, starts, strict=False)]
        return Categorical([one for part in parts for one in part.categories], np.concatenate(codes))
    if isinstance(parts[0], list):
        return [value for part in parts for value in part]
    masked = any(isinstance(part, np.ma.MaskedArray) for part in parts)
    return np.ma.concatenate(parts) if masked else np.concatenate(parts)  # type: ignore[no-untyped-call]
