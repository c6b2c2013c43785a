"""Check that a block's update is the sum of its heads and MLP, and say why where it is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from elimtool.model.affine import close, wide
from elimtool.model.view import Block

HELD_NUMBERS = 2**22
"""Numbers of blocks that wait to be compared together, at most, beyond those of one block."""

UNSEEN = "the output of attention or MLP cannot be seen"
NO_HEADS = "attention's output is no sum over heads"
NOT_LINEAR = "the output projection is not linear"
NOT_AFFINE = "the norm behind attention or MLP is not affine"
MORE = "attention and MLP do not add up to the block's update"

Values = Float[Tensor, "batch probes width"]


@dataclass(frozen=True, slots=True)
class _Addends:
    """One block to compare: its parts, the stream before and after, and its heads at the first probe."""

    key: int
    parts: tuple[Values, Values]
    before: Values
    after: Values
    heads: Float[Tensor, "width"]
    written: Float[Tensor, "width"]


class Decomposition:
    """Compares blocks' updates with the sum of their heads and MLP, several blocks at a time.

    One comparison of many blocks takes about as long as of one, so answers are given late.
    """

    def __init__(self) -> None:
        self.found: dict[int, str | None] = {}
        self.waiting: list[_Addends] = []

    def ask(self) -> Callable[[], str | None]:
        """Return a function that says why the next block is not the sum of its parts; ``None`` if it is."""
        key = len(self.found) + len(self.waiting)
        return lambda: self._answer(key)

    def take(self, block: Block, before: Values, after: Values) -> None:
        """Add a block, with the residual before and after it."""
        key = len(self.found) + len(self.waiting)
        added, heads = block.added(), block.heads
        if added is None or block.attention is None:
            self.found[key] = UNSEEN
        elif heads is None:
            self.found[key] = NO_HEADS
        elif not all(bool(norm.explained.all()) for norm in block.behind if norm is not None):
            self.found[key] = NOT_AFFINE
        else:
            bias, outputs = block.attention.bias, wide(block.attention.outputs[0, 0])
            together = heads.sum_of_first()
            together = together if bias is None else together + wide(bias)
            if self.waiting and self.waiting[0].after.shape != after.shape:
                self._compare()
            self.waiting.append(_Addends(key, added, before, after, together, outputs))
            if 4 * len(self.waiting) * after.numel() > HELD_NUMBERS:  # 4: two parts, before and after
                self._compare()

    def _answer(self, key: int) -> str | None:
        if key not in self.found:
            self._compare()
        return self.found[key]

    def _compare(self) -> None:
        """Compare all blocks that wait."""
        if not self.waiting:
            return
        dtype = self.waiting[0].after.dtype
        heads, written = (
            torch.stack([getattr(one, name) for one in self.waiting]) for name in ("heads", "written")
        )
        linear = close(heads, written, written, dtype).tolist()
        first, second = (torch.stack([one.parts[i] for one in self.waiting]) for i in (0, 1))
        before, after = (
            wide(torch.stack([getattr(one, name) for one in self.waiting])) for name in ("before", "after")
        )
        larger = torch.maximum(before.abs(), after.abs())  # rounding is of the size of the stream
        whole = close(first + second, after - before, larger, dtype).flatten(1).all(-1).tolist()
        for one, is_linear, adds_up in zip(self.waiting, linear, whole, strict=True):
            self.found[one.key] = NOT_LINEAR if not is_linear else None if adds_up else MORE
        self.waiting.clear()
