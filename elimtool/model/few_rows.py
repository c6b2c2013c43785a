"""Linear layers on a few rows, weights times rows: the same sums as PyTorch's, sooner on a CPU.

A second thread of MKL gains the usual product of few rows nothing, as if each walked through all weights;
the other way round it does. ``scripts/bench_products.py`` shows both. Products of many rows can be put into
memory that is there: to be handed such large pieces anew takes a good part of their time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

FEW = range(12, 49)
"""Rows for which it is faster."""

LARGE = 2**16
"""Weights that a layer has at least: in smaller ones the detour takes longer than the product."""

TOGETHER = 4096
"""Outputs that are formed at a time, while they are in the processor's cache."""


@contextmanager
def few_rows(
    layers: Collection[nn.Linear], room: Tensor | None = None, few: range = FEW, large: int = LARGE
) -> Iterator[None]:
    """While open, these layers turn products with a few rows round; hooks on them see what they always see.

    Nothing is turned round with one thread or without MKL, and nothing at all changes on a GPU, in half
    precision, and for layers whose ``forward`` somebody else has replaced.

    Args:
        layers: The layers, one output each where room is given.
        room: Where products of many rows are put if they fit, float32, [rows, outputs]: the next one
            overwrites them. Not while gradients are asked for.
        few: Numbers of rows that are few.
        large: Weights that a layer has at least for its products to be turned round.
    """
    turns = few if _worthwhile() else range(0)
    mine = [layer for layer in layers if _usual(layer)] if turns or room is not None else []
    for layer in mine:
        layer.__dict__["forward"] = partial(_forward, layer, turns, large, room)
    try:
        yield
    finally:
        for layer in mine:
            layer.__dict__.pop("forward", None)


def _worthwhile() -> bool:
    return bool(torch.backends.mkl.is_available()) and torch.get_num_threads() > 1  # type: ignore[no-untyped-call]


def _usual(layer: nn.Linear) -> bool:
    """Whether a layer is PyTorch's own, unchanged, with float32 weights on the CPU."""
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
    """Add a layer's bias in place; TransformerLens gives unembeddings one of zeros, which takes time too."""
    return out if layer.bias is None or not bool(layer.bias.any()) else out.add_(layer.bias)
