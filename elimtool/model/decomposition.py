"""Check that a block's update is the sum of its heads and MLP, and say why where it is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from elimtool.model.affine import close, wide
from elimtool.model.view import Block
from elimtool.numerics.transfer import Array, coming, roomy

HELD_NUMBERS = 2**22
"""Numbers of blocks that wait to be compared together, at most, beyond those of one block."""

UNSEEN = "the output of attention or MLP cannot be seen"
NO_HEADS = "attention's output is no sum over heads"
NOT_LINEAR = "the output projection is not linear"
NOT_AFFINE = "the norm behind attention or MLP is not affine"
MORE = "attention and MLP do not add up to the block's update"
WHYS = (NOT_AFFINE, NOT_LINEAR, MORE)
"""What to say of a block that does not pass, in the order of the comparisons."""

Values = Float[Tensor, "batch probes width"]


@dataclass(frozen=True, slots=True)
class _Addends:
    """One block to compare: its parts, the stream before and after, and its heads at the first probe.

    ``affine`` tells whether its norms behind are affine; ``None`` where it has none.
    """

    key: int
    parts: tuple[Values, Values]
    before: Values
    after: Values
    heads: Float[Tensor, "width"]
    written: Float[Tensor, "width"]
    affine: Bool[Tensor, ""] | None


class Decomposition:
    """Compares blocks' updates with the sum of their heads and MLP, several blocks at a time.

    One comparison of many blocks takes about as long as of one, so answers are given late.
    """

    def __init__(self) -> None:
        self.found: dict[int, str | None] = {}
        self.waiting: list[_Addends] = []
        self.compared: list[tuple[list[int], Tensor]] = []
        self.arriving: list[tuple[list[list[int]], Callable[[], dict[int, Array]]]] = []
        self.taken = 0

    def ask(self) -> Callable[[], str | None]:
        """Return a function that says why the next block is not the sum of its parts; ``None`` if it is."""
        key = self.taken
        return lambda: self._answer(key)

    def take(self, block: Block, before: Values, after: Values) -> None:
        """Add a block, with the residual before and after it."""
        key, self.taken = self.taken, self.taken + 1
        added, heads = block.added(), block.heads
        held = roomy(HELD_NUMBERS, after.device)
        if added is None or block.attention is None:
            self.found[key] = UNSEEN
        elif heads is None:
            self.found[key] = NO_HEADS
        else:
            bias, outputs = block.attention.bias, wide(block.attention.outputs[0, 0])
            together = heads.sum_of_first()
            together = together if bias is None else together + wide(bias)
            if self.waiting and self.waiting[0].after.shape != after.shape:
                self._compare()
            behind = [norm.explained.all() for norm in block.behind if norm is not None]
            affine = torch.stack(behind).all() if behind else None
            self.waiting.append(_Addends(key, added, before, after, together, outputs, affine))
            if 4 * len(self.waiting) * after.numel() > held:  # 4: two parts, before and after
                self._compare()

    def close(self) -> None:
        """Compare what waits and start to bring the answers, so that no block is kept."""
        self._compare()
        keys = [some for some, _ in self.compared]
        answers = coming({place: one for place, (_, one) in enumerate(self.compared)})
        self.compared.clear()
        self.arriving.append((keys, answers))

    def _answer(self, key: int) -> str | None:
        if key not in self.found:
            self.close()
            for keys, answers in self.arriving:
                for some, passes in zip(keys, answers().values(), strict=True):
                    for one, fine in zip(some, passes.T.tolist(), strict=True):
                        whys = zip(WHYS, fine, strict=True)
                        self.found[one] = next((why for why, passed in whys if not passed), None)
            self.arriving.clear()
        return self.found[key]

    def _compare(self) -> None:
        """Compare all blocks that wait; the answers stay on the device."""
        if not self.waiting:
            return
        dtype = self.waiting[0].after.dtype
        heads, written = (
            torch.stack([getattr(one, name) for one in self.waiting]) for name in ("heads", "written")
        )
        linear = close(heads, written, written, dtype)
        first, second = (torch.stack([one.parts[i] for one in self.waiting]) for i in (0, 1))
        before, after = (
            wide(torch.stack([getattr(one, name) for one in self.waiting])) for name in ("before", "after")
        )
        larger = torch.maximum(before.abs(), after.abs())  # rounding is of the size of the stream
        whole = close(first + second, after - before, larger, dtype).flatten(1).all(-1)
        fine = torch.ones_like(linear[0])
        affine = torch.stack([fine if one.affine is None else one.affine for one in self.waiting])
        answers = torch.stack([affine, linear, whole])
        self.compared.append(([one.key for one in self.waiting], answers))
        self.waiting.clear()
