"""Culprits: find the head or MLP that did most for or against a target in the table ``components``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from elimtool.run import Run

KEY = ("prompt_id", "position", "target")
Key = tuple[str, int, str]
"""Prompt id, position, target."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Heads and MLPs of one target, in the order of the table ``components``.

    Attributes:
        names: Arrow array of the table's names.
        rows: Which of them these are.
        layers: Their layers.
        logits: What each gave the target's logit, centred.
    """

    names: Any
    rows: npt.NDArray[np.intp]
    layers: npt.NDArray[np.int32]
    logits: npt.NDArray[np.float64]

    def extreme(self, sign: int, lost: int | None = None) -> tuple[str, float] | None:
        """The first component with the largest effect of a sign, and that; ``None`` if none has it.

        Args:
            sign: 1 or -1.
            lost: The layer at which the target was lost: only components from one layer before count.
        """
        signed = sign * self.logits
        if lost is not None:
            signed = np.where(self.layers >= lost - 1, signed, 0.0)
        best = int(signed.argmax())
        return (
            (self.names[int(self.rows[best])].as_py(), float(self.logits[best])) if signed[best] > 0 else None
        )


def shares(run: Run) -> dict[Key, Shares]:
    """Heads and MLPs of every target; a target's rows need not stand together."""
    if "components" not in run.tables:
        return {}
    table = run.arrow("components").select([*KEY, "kind", "component", "layer", "dla_centred"])
    table = table.filter(pc.is_in(table["kind"], pa.array(["head", "mlp"]))).combine_chunks()
    layers, logits = (table[name].to_numpy() for name in ("layer", "dla_centred"))
    code = np.zeros(table.num_rows, dtype=np.int64)
    for name in KEY:
        each = table[name].combine_chunks().dictionary_encode()
        code = code * len(each.dictionary) + each.indices.to_numpy(zero_copy_only=False)
    order = code.argsort(kind="stable")
    starts = np.flatnonzero(np.diff(code[order], prepend=-1))
    found: dict[Key, Shares] = {}
    names = table["component"]
    for one in np.split(order, starts[1:]) if len(order) else ():
        key = cast(Key, tuple(table[name][int(one[0])].as_py() for name in KEY))
        found[key] = Shares(names, one, layers[one], logits[one])
    return found
