"""Check that a block adds what its parts give, and say why where it does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from elimtool.model.affine import close, wide
from elimtool.model.view import Block

HELD_NUMBERS = 2**22
"""Numbers that wait to be compared together, at most, beside those of one block."""

UNSEEN = "the output of attention or MLP cannot be seen"
NO_HEADS = "attention's output is no sum over heads"
NOT_LINEAR = "the output projection is not linear"
NOT_AFFINE = "the norm behind attention or MLP is not affine"
MORE = "attention and MLP do not add up to the block's update"

Values = Float[Tensor, "batch probes width"]


@dataclass(frozen=True, slots=True)
class _Addends:
    """What is compared of one block: its parts, the stream around it, and its heads at the first probe."""

    key: int
    parts: tuple[Values, Values]
    before: Values
    after: Values
    heads: Float[Tensor, "width"]
    written: Float[Tensor, "width"]


class Decomposition:
    """Compares what blocks added with the sum of their heads and MLP, several blocks at a time."""

    def __init__(self) -> None:
        self.found: dict[int, str | None] = {}
        self.waiting: list[_Addends] = []

    def ask(self) -> Callable[[], str | None]:
        """What says why the block that is taken in next is not the sum of its parts; ``None`` if it is."""
        key = len(self.found) + len(self.waiting)
        return lambda: self._answer(key)

    def take(self, block: Block, before: Values, after: Values) -> None:
        """Take a block in, and the residual before and after it."""
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
            self._wait(_Addends(key, added, before, after, together, outputs))

    def _wait(self, one: _Addends) -> None:
        if self.waiting and self.waiting[0].after.shape != one.after.shape:
            self._compare()
        self.waiting.append(one)
        if 4 * len(self.waiting) * one.after.numel() > HELD_NUMBERS:
            self._compare()

    def _answer(self, key: int) -> str | None:
        if key not in self.found:
            self._compare()
        return self.found[key]

    def _compare(self) -> None:
        """Look at all blocks that wait."""
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
        larger = torch.maximum(before.abs(), after.abs())
        whole = close(first + second, after - before, larger, dtype).flatten(1).all(-1).tolist()
        for one, is_linear, adds_up in zip(self.waiting, linear, whole, strict=True):
            self.found[one.key] = NOT_LINEAR if not is_linear else None if adds_up else MORE
        self.waiting.clear()
