"""Read how each layer turns queries and keys by their position, off the model's own code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from elimtool.model.affine import close, wide
from elimtool.model.rows import AttentionRows
from elimtool.model.view import NOBODY, Batch

if TYPE_CHECKING:
    from elimtool.model.model import Model


class Unread(IntEnum):
    """Why a layer's rotation cannot be read.

    ``HIDDEN``: queries and keys are not shown; ``NOT_PASSED``: none is passed to its attention;
    ``UNKNOWN``: what is passed is not what takes queries and keys from one position to another.
    """

    HIDDEN = 1
    NOT_PASSED = 2
    UNKNOWN = 3


@dataclass(frozen=True)
class Rotation:
    """A turn of pairs of channels by an angle that grows with the position; the other channels stay.

    Attributes:
        cos: Cosine of each position's and pair's angle, times the family's factor (YaRN), [positions, pairs].
        sin: The sine, likewise.
        adjacent: Whether a pair is two channels side by side, not one of either half.
    """

    cos: Float[Tensor, "positions pairs"]
    sin: Float[Tensor, "positions pairs"]
    adjacent: bool

    def split(self, values: Float[Tensor, "*rows size"]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the first and second channels of all pairs, and those that stay."""
        pairs = self.cos.shape[-1]
        turned = values[..., : 2 * pairs]
        if self.adjacent:
            return turned[..., ::2], turned[..., 1::2], values[..., 2 * pairs :]
        return turned[..., :pairs], turned[..., pairs:], values[..., 2 * pairs :]

    def turned(self, values: Float[Tensor, "*rows positions size"]) -> Float[Tensor, "*rows positions size"]:
        """Turn, and return pairs in the order of ``split``."""
        first, second, others = self.split(values)
        return torch.cat(
            [first * self.cos - second * self.sin, second * self.cos + first * self.sin, others], -1
        )

    def back(self, values: Float[Tensor, "*rows positions size"]) -> Float[Tensor, "*rows positions size"]:
        """Undo the turn, and return pairs in the order of ``split``."""
        first, second, others = self.split(values)
        size = self.cos**2 + self.sin**2
        one, other = first * self.cos + second * self.sin, second * self.cos - first * self.sin
        return torch.cat([one / size, other / size, others], -1)


def rotations(model: Model, ids: Int[Tensor, "1 keys"]) -> list[Rotation | Unread]:
    """Read each layer's rotation at the positions of some tokens, or say why it cannot be read.

    Each attention module runs once as it is, and once more as if all tokens stood at the first position: a
    form of rotation counts only if it takes the queries and keys of the second run to those of the first.

    Args:
        model: The model.
        ids: Any tokens, as many as positions are wanted.
    """
    found: list[Rotation | Unread] = [Unread.HIDDEN] * model.n_layers
    native = model.native
    if not native.usable or native.hindered():
        return found
    places = torch.arange(ids.shape[1], device=ids.device)[None]
    batch = Batch((NOBODY,), ids, places, torch.ones_like(places, dtype=torch.bool))
    shown: list[tuple[Tensor, Tensor]] = []
    again = False

    def keep(_module: nn.Module, rows: AttentionRows, *_: Any) -> None:
        if rows.query is not None and rows.key is not None:
            shown.append((wide(rows.query), wide(rows.key)))

    def compare(module: nn.Module, args: Any, named: dict[str, Any], _out: Any) -> None:
        nonlocal again
        if again:
            return
        given = named.get("position_embeddings")
        layer = native.attention[module]
        if not (isinstance(given, tuple) and len(given) == 2 and all(map(_is_table, given))):
            found[layer] = Unread.NOT_PASSED
        else:
            again = True
            module(
                *args, **{**named, "position_embeddings": tuple(one[:, :1].expand_as(one) for one in given)}
            )
            again = False
            found[layer] = _form(*given, *shown) if len(shown) == 2 else Unread.HIDDEN
        shown.clear()

    with model.held(), torch.inference_mode(), ExitStack() as stack:
        stack.enter_context(native.running(batch, keep))
        for module in native.attention:
            stack.enter_context(module.register_forward_hook(compare, with_kwargs=True))
        model.hf(input_ids=ids, use_cache=False)
    return found


def _is_table(given: Any) -> bool:
    return isinstance(given, Tensor) and given.ndim == 3 and given.is_floating_point()


def _form(
    cos: Tensor, sin: Tensor, own: tuple[Tensor, Tensor], still: tuple[Tensor, Tensor]
) -> Rotation | Unread:
    """Find the rotation that takes what stands still to what the model has."""
    for form in _forms(wide(cos[0]), wide(sin[0]), own[0].shape[-1]):
        factor = form.cos[:1]
        unscaled = Rotation(form.cos / factor, form.sin / factor, form.adjacent)
        there = zip(own, still, strict=True)
        if all(_same(unscaled.turned(rest), torch.cat(form.split(one), -1)) for one, rest in there):
            return form
    return Unread.UNKNOWN


def _same(one: Tensor, other: Tensor) -> bool:
    return bool(close(one.flatten(0, 2), other.flatten(0, 2), other.flatten(0, 2), torch.bfloat16).all())


def _forms(cos: Tensor, sin: Tensor, size: int) -> Iterator[Rotation]:
    """Yield the forms that the families of transformers have, the one without a turn first."""
    width = cos.shape[-1]
    yield Rotation(cos[:, :0], sin[:, :0], False)
    for pairs, some in (
        (width // 2, slice(width // 2)),
        (width // 2, slice(0, None, 2)),
        (width, slice(None)),
    ):
        if 2 * pairs <= size:
            for adjacent in (False, True):
                yield Rotation(cos[:, some], sin[:, some], adjacent)
