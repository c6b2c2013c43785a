"""Find the heads that turn from one span to another between two prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import numpy as np
import numpy.typing as npt

from elimtool.analysis.statistics.band import scores

SMALLEST = 1e-8
"""Keeps the focus finite for a head that gives instruction and data nothing."""

INSTRUCTIONS = ("system", "instruction", "user")
"""Spans that may hold the instruction; the first that a prompt has counts."""

Grid = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class HeadMasses:
    """Attention of every head at a prompt's last position on its spans: [layers, heads], NaN for null.

    Attributes:
        mass: Share of attention, by span.
        no_sink: Share of what the sink set leaves, by span.
    """

    mass: Mapping[str, Grid]
    no_sink: Mapping[str, Grid]

    @classmethod
    def of(cls, table: Any, prompt_id: str, names: Sequence[str]) -> HeadMasses:
        """Read the masses from the Arrow table ``attention_heads``.

        Args:
            table: With the rows of this prompt, of one position.
            prompt_id: Which prompt.
            names: The spans to read; those that the prompt does not have are left out.
        """
        import pyarrow.compute as pc

        own = table.filter(pc.equal(table.column("prompt_id"), prompt_id))
        spans = np.array(own.column("span").to_pylist(), dtype=object)
        columns = {
            key: own.column(key).to_numpy(zero_copy_only=False).astype(np.float64)
            for key in ("layer", "head", "mass", "mass_no_sink")
        }
        layer, head = (columns[key].astype(np.int64) for key in ("layer", "head"))
        shape = (int(layer.max(initial=-1)) + 1, int(head.max(initial=-1)) + 1)
        found: dict[str, dict[str, Grid]] = {"mass": {}, "mass_no_sink": {}}
        for name in names:
            mine = spans == name
            for key, grids in found.items():
                if mine.any():
                    grids[name] = np.full(shape, np.nan)
                    grids[name][layer[mine], head[mine]] = columns[key][mine]
        return cls(found["mass"], found["mass_no_sink"])

    def focus(self) -> Grid | None:
        """Compute the instruction focus: mass on the instruction over mass on instruction and data, 0 .. 1.

        Source: Hung et al. 2024 (arXiv 2411.00348), "normalize_sum". ``None`` if the prompt has no
        instruction or no data.
        """
        name = next((one for one in INSTRUCTIONS if one in self.mass), None)
        data = [grid for other, grid in self.mass.items() if other != name]
        if name is None or not data:
            return None
        rest = np.nansum(np.stack(data), axis=0)
        found: Grid = self.mass[name] / (self.mass[name] + rest + SMALLEST)
        return found


def logits(share: Grid) -> Grid:
    """Compute the natural log-odds of shares; NaN for 0, 1 and NaN."""
    inside = (share > 0) & (share < 1)
    safe = np.where(inside, share, 0.5)
    found: Grid = np.where(inside, np.log(safe) - np.log1p(-safe), np.nan)
    return found


def shifts(a: HeadMasses, b: HeadMasses) -> dict[str, Grid]:
    """Compute by span, of those in both prompts, how far each head's sink-excluded share moves, in logits."""
    return {
        name: logits(b.no_sink[name]) - logits(a.no_sink[name]) for name in a.no_sink if name in b.no_sink
    }


def head_rows(
    a: HeadMasses, b: HeadMasses, pair_id: str, controls: Mapping[str, HeadMasses]
) -> dict[str, list[Any]]:
    """Fill the columns of ``head_differences`` for a pair and its controls.

    The z of the pair is against all controls, that of a control against the other controls.

    Args:
        a: The prompt before the edit, which has at least one of the spans.
        b: The edited prompt.
        pair_id: Identifier of the pair.
        controls: Heads of each control by its ``pair_id``.
    """
    sides = {pair_id: b, **controls}
    moved = {key: shifts(a, other) for key, other in sides.items()}
    turned = {key: _turn(a, other) for key, other in sides.items()}
    shape = next(iter(a.mass.values())).shape
    columns: dict[str, list[Any]] = {}
    for key, other in sides.items():
        left = [one for one in controls if one != key]
        names = list(dict.fromkeys([*a.mass, *other.mass]))
        for name in names:
            peers = [moved[one][name] for one in left if name in moved[one]]
            shift = moved[key].get(name)
            grids = {
                "mass_a": a.mass.get(name),
                "mass_b": other.mass.get(name),
                "focus_a": a.focus(),
                "focus_b": other.focus(),
                "focus_shift": turned[key],
                "focus_z": _scored(turned[key], [turned[one] for one in left]),
                "retention_shift": shift,
                "z": None if shift is None else scores(shift, peers),
            }
            _extend(columns, key, name, grids, shape)
    return columns


def _turn(a: HeadMasses, b: HeadMasses) -> Grid | None:
    before, after = a.focus(), b.focus()
    return None if before is None or after is None else after - before


def _scored(value: Grid | None, controls: Sequence[Grid | None]) -> Grid | None:
    return None if value is None else scores(value, [one for one in controls if one is not None])


def _extend(
    columns: dict[str, list[Any]],
    pair_id: str,
    span: str,
    grids: Mapping[str, Grid | None],
    shape: tuple[int, ...],
) -> None:
    """Append one row per head; NaN becomes ``None``."""
    layer, head = np.indices(shape)
    n = layer.size
    a, b = grids["mass_a"], grids["mass_b"]
    full: dict[str, Grid | None] = {**grids, "mass_difference": None if a is None or b is None else b - a}
    added: dict[str, list[Any]] = {
        "pair_id": [pair_id] * n,
        "layer": layer.ravel().tolist(),
        "head": head.ravel().tolist(),
        "span": [span] * n,
    }
    for name, grid in full.items():
        added[name] = [None] * n if grid is None else [None if isnan(v) else v for v in grid.ravel().tolist()]
    for name, values in added.items():
        columns.setdefault(name, []).extend(values)
