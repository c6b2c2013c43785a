"""Find the head or MLP that did most for or against a target, in the table ``components``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from elimtool.files.rows import Row

if TYPE_CHECKING:
    from elimtool.run import Run

KEY = ("prompt_id", "position", "target")
Key = tuple[str, int, str]
"""Prompt id, position, target."""


def key_of(row: Row) -> Key:
    """Return the key of a row of a table of targets."""
    return row["prompt_id"], row["position"], row["target"]


@dataclass(frozen=True, slots=True)
class Culprit:
    """A head or MLP.

    Attributes:
        name: Such as ``head 23.4``.
        dla: What it gave the target's logit, centred.
        z: The same against control tokens; ``None`` without any.
    """

    name: str
    dla: float
    z: float | None

    @staticmethod
    def columns(role: str, found: Culprit | None) -> Row:
        """Return the columns of a role in table ``verdicts``."""
        values = (None, None, None) if found is None else (found.name, found.dla, found.z)
        return dict(zip((role, f"{role}_dla", f"{role}_z"), values, strict=True))


@dataclass(frozen=True, slots=True)
class Shares:
    """Heads and MLPs of one target, in the order of the table ``components``.

    Attributes:
        names: Arrow array of the names of all targets' components.
        rows: Indices of this target's in ``names``.
        layers: Their layers.
        logits: What each gave the target's logit, centred.
        z: The same against control tokens; NaN where there are none.
    """

    names: Any
    rows: npt.NDArray[np.intp]
    layers: npt.NDArray[np.int32]
    logits: npt.NDArray[np.float64]
    z: npt.NDArray[np.float64]

    def extreme(self, sign: int, lost: int | None = None) -> Culprit | None:
        """Find the component with the largest effect of a sign; ``None`` if there is none.

        Args:
            sign: 1 or -1.
            lost: Layer at which the target was lost: only components from one layer before on count.
        """
        signed = sign * self.logits
        if lost is not None:
            signed = np.where(self.layers >= lost - 1, signed, 0.0)
        best = int(signed.argmax())
        if signed[best] <= 0:
            return None
        z = float(self.z[best])
        name = self.names[int(self.rows[best])].as_py()
        return Culprit(name, float(self.logits[best]), None if np.isnan(z) else z)


def shares(run: Run) -> dict[Key, Shares]:
    """Group the heads and MLPs by target; a target's rows need not be adjacent."""
    if "components" not in run.tables:
        return {}
    table = run.arrow("components")
    table = table.select([*KEY, "kind", "component", "layer", "dla_centred", "z"])
    table = table.filter(pc.is_in(table["kind"], pa.array(["head", "mlp"]))).combine_chunks()
    layers, logits, z = (table[name].to_numpy() for name in ("layer", "dla_centred", "z"))
    # a stable sort on one integer per key: a loop over rows in Python would take most of the time
    code = np.zeros(table.num_rows, dtype=np.int64)
    for name in KEY:
        each = table[name].combine_chunks().dictionary_encode()
        code = code * len(each.dictionary) + each.indices.to_numpy(zero_copy_only=False)
    order = code.argsort(kind="stable")
    starts = np.flatnonzero(np.diff(code[order], prepend=-1))
    found: dict[Key, Shares] = {}
    names = table["component"]
    for rows in np.split(order, starts[1:]) if len(order) else ():
        key = cast(Key, tuple(table[name][int(rows[0])].as_py() for name in KEY))
        found[key] = Shares(names, rows, layers[rows], logits[rows], z[rows])
    return found
