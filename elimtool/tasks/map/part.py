"""Say what a part of a map is, which every part in this folder obeys.

A part reads layers while they run and sums up; what it found is made of the sums, later and without a model.
It is four things, each with a line in a dict:

1. its tables, in ``run/tables/findings/map.py``; the line is in ``PART_TABLES`` there;
2. a class with the methods of ``Part``, in ``tasks/map/NAME.py``; the line is in ``PARTS``, ``parts.py``;
3. a function from ``Sums`` to rows by table, in ``analysis/map/NAME.py``; the line is in ``FOUND`` there;
4. what is said and drawn of it, in ``report/map/NAME.py``; the line is in ``report/map/section.py``.

A worker makes each part once, ``Part(model, asked)``, and ``watch(units, batch)`` for each pass: units of one
kind and length, side by side. The watch is shown every layer (``observe``); then ``sums`` gives arrays whose
first axis is the unit, and ``totals`` arrays that were summed over the units. Both are written as they are
(table ``map_sums``) and read back as ``Sums.each(name)`` and ``Sums.total(name)``. So keep them small, a few
megabytes a unit at most, and let them be plain sums and counts (float64): units merge by concatenation,
totals by addition in the order of shards, so an interrupted map that goes on gives the same bytes.

A watch may run more passes over its units in ``sums``, such as without a block: ``batch`` is theirs. Where
``needs`` has ``None`` for a kind, these are the only passes: units that stand for several sequences, which
are compared with each other, are run by the part itself.
Whatever is divided, tested or ranked belongs into ``analysis``: intervals are over units.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from elimtool.model.model import Model
from elimtool.model.rows import Formed
from elimtool.model.view import Batch, LayerView
from elimtool.tasks.map.options import MapOptions
from elimtool.tasks.map.units import Unit

Arrays = Mapping[str, npt.NDArray[np.float64]]


@runtime_checkable
class Watch(Protocol):
    """Reads one pass over some units."""

    def observe(self, view: LayerView, rows: Formed | None) -> None:
        """Reduce one layer; called for layers -1, 0, 1, ... in order.

        Args:
            view: The layer's activations, all positions probed.
            rows: Its attention, formed once for all parts, [units, heads, queries, keys]; ``None`` for the
                embedding, for a layer without attention weights, and where no part needs attention.
        """

    def sums(self) -> Mapping[str, Iterable[npt.NDArray[np.float64]]]:
        """Return arrays by name, [units, ...], or one a unit where they have other shapes."""

    def totals(self) -> Arrays:
        """Return arrays by name, summed over the units of this pass."""


@runtime_checkable
class Part(Protocol):
    """A part of a map, made once for a model.

    Attributes:
        needs: By kind of units that it reads: activations that it is shown, see ``Model.stream``; ``None``
            where it runs the units itself.
    """

    needs: ClassVar[Mapping[str, frozenset[str] | None]]

    def __init__(self, model: Model, asked: MapOptions) -> None: ...

    def watch(self, units: Sequence[Unit], batch: Batch) -> Watch:
        """Begin a pass over units of one kind."""
