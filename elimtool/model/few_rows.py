"""Linear layers on a few rows, weights times rows: the same sums as PyTorch's, sooner on a CPU.

A second thread of MKL gains the usual product of few rows nothing, as if each walked through all weights;
the other way round it does. ``scripts/bench_products.py`` shows both.
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
def few_rows(layers: Collection[nn.Linear]) -> Iterator[None]:
    """While open, these layers turn products with a few rows round; hooks on them see what they always see.

    Nothing changes on a GPU, in half precision, with one thread, without MKL, and for layers whose
    ``forward`` somebody else has replaced.
    """
    mine = [layer for layer in layers if _usual(layer)] if _worthwhile() else []
    for layer in mine:
        layer.__dict__["forward"] = partial(_forward, layer)
    try:
        yield
    finally:
        for layer in mine:
            layer.__dict__.pop("forward", None)


def _worthwhile() -> bool:
    return bool(torch.backends.mkl.is_available()) and torch.get_num_threads() > 1  # type: ignore[no-untyped-call]


def _usual(layer: nn.Linear) -> bool:
    """Whether a layer is PyTorch's own, unchanged, with float32 weights on the CPU, enough of them."""
    weight = layer.weight
    return (
        type(layer) is nn.Linear
        and "forward" not in layer.__dict__
        and weight.dtype == torch.float32
        and weight.device.type == "cpu"
        and weight.numel() >= LARGE
    )


def _forward(layer: nn.Linear, rows: Tensor) -> Tensor:
    if rows.shape[:-1].numel() not in FEW or rows.dtype != torch.float32:
        return nn.functional.linear(rows, layer.weight, layer.bias)
    columns = rows.reshape(-1, rows.shape[-1]).T
    out = torch.cat([(part @ columns).T for part in torch.split(layer.weight, TOGETHER)], -1)
    if layer.bias is not None:
        out = out + layer.bias
    return out.view(*rows.shape[:-1], -1)
