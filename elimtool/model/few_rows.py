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

from elimtool.model.turning import turned_rows

LARGE = 2**16
"""Fewest weights of a layer: in smaller ones the detour takes longer than the product."""

TOGETHER = 4096
"""Outputs formed at a time, so that they fit in the processor's cache."""


@contextmanager
def few_rows(
    layers: Collection[nn.Linear], room: Tensor | None = None, few: range | None = None, large: int = LARGE
) -> Iterator[None]:
    """While open, swap the operands of these layers' products with a few rows; hooks see no difference.

    Nothing is swapped where ``turned_rows`` says so. Nothing changes on a GPU, in half precision, and for
    layers whose ``forward`` has been replaced by someone else.

    Args:
        layers: The layers; a single one if ``room`` is given.
        room: Memory for products of many rows, used if they fit: float32 [rows, outputs]. The next product
            overwrites it. Not for use with gradients.
        few: Numbers of rows that are few; ``None`` for those that are faster so on this machine.
        large: Fewest weights of a layer whose products are swapped.
    """
    turns = turned_rows(product) if few is None else few
    mine = [layer for layer in layers if _usual(layer)] if turns or room is not None else []
    for layer in mine:  # on the instance, below ``__call__``, so that hooks still run
        layer.__dict__["forward"] = partial(_forward, layer, turns, large, room)
    try:
        yield
    finally:
        for layer in mine:
            layer.__dict__.pop("forward", None)


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


def product(weight: Tensor, rows: Tensor) -> Tensor:
    """Multiply rows [n, inputs] with weights [outputs, inputs], operands swapped: [n, outputs]."""
    columns = rows.T
    return torch.cat([(part @ columns).T for part in torch.split(weight, TOGETHER)], -1)


def _turned(layer: nn.Linear, rows: Tensor) -> Tensor:
    out = product(layer.weight, rows.reshape(-1, rows.shape[-1]))
    return _plus_bias(out, layer).view(*rows.shape[:-1], -1)


def _plus_bias(out: Tensor, layer: nn.Linear) -> Tensor:
    """Add a layer's bias in place, but not the zeros that TransformerLens gives unembeddings."""
    return out if layer.bias is None or not bool(layer.bias.any()) else out.add_(layer.bias)
