"""Run linear layers on a few rows as weights times rows: PyTorch's sums, faster on a CPU.

MKL's usual product of few rows gains nothing from a second thread; with the operands swapped it does, see
``scripts/bench_products.py``. Products of many rows can be written to existing memory: to get such large
blocks from the system each time takes a good part of their time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

FEW = range(12, 49)
"""Numbers of rows for which swapping is faster."""

LARGE = 2**16
"""Fewest weights of a layer: in smaller ones the detour takes longer than the product."""

TOGETHER = 4096
"""Outputs formed at a time, so that they fit in the processor's cache."""


@contextmanager
def few_rows(
    layers: Collection[nn.Linear], room: Tensor | None = None, few: range = FEW, large: int = LARGE
) -> Iterator[None]:
    """While open, swap the operands of these layers' products with a few rows; hooks see no difference.

    Nothing is swapped with one thread or without MKL. Nothing changes on a GPU, in half precision, and for
    layers whose ``forward`` has been replaced by someone else.

    Args:
        layers: The layers; a single one if ``room`` is given.
        room: Memory for products of many rows, used if they fit: float32 [rows, outputs]. The next product
            overwrites it. Not for use with gradients.
        few: Numbers of rows that are few.
        large: Fewest weights of a layer whose products are swapped.
    """
    turns = few if _worthwhile() else range(0)
    mine = [layer for layer in layers if _usual(layer)] if turns or room is not None else []
    for layer in mine:  # on the instance, below ``__call__``, so that hooks still run
        layer.__dict__["forward"] = partial(_forward, layer, turns, large, room)
    try:
        yield
    finally:
        for layer in mine:
            layer.__dict__.pop("forward", None)


def _worthwhile() -> bool:
    return bool(torch.backends.mkl.is_available()) and torch.get_num_threads() > 1  # type: ignore[no-untyped-call]


def _usual(layer: nn.Linear) -> bool:
    """Tell whether a layer is PyTorch's own, unchanged, with float32 weights on the CPU."""
    return (
        type(layer) is nn.Linear
        and "forward" not in layer.__dict__
        and layer.weight.dtype == torch.float32
        and layer.weight.device.type == "cpu"
    )


def _forward(layer: nn.Linear, turns: range, large: int, room: Tensor | None, rows: Tensor) -> Tensor:
    n, single = rows.shape[:-1].numel(), rows.dtype == torch.float32
    if single and n in turns and layer.weight.numel() >= large:
        return _turned(layer, rows)
    if room is None or not single or n > len(room):
        return nn.functional.linear(rows, layer.weight, layer.bias)
    out = torch.mm(rows.reshape(n, -1), layer.weight.T, out=room[:n])
    return _plus_bias(out, layer).view(*rows.shape[:-1], -1)


def _turned(layer: nn.Linear, rows: Tensor) -> Tensor:
    columns = rows.reshape(-1, rows.shape[-1]).T
    out = torch.cat([(part @ columns).T for part in torch.split(layer.weight, TOGETHER)], -1)
    return _plus_bias(out, layer).view(*rows.shape[:-1], -1)


def _plus_bias(out: Tensor, layer: nn.Linear) -> Tensor:
    """Add a layer's bias in place, but not the zeros that TransformerLens gives unembeddings."""
    return out if layer.bias is None or not bool(layer.bias.any()) else out.add_(layer.bias)
