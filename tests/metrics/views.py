"""Synthetic batches and attention rows for the metrics' tests."""

from __future__ import annotations

import torch
from torch import Tensor

from elimtool.model.view import Batch, Encoded, LayerView, Span
from elimtool.prompts.prompt import SINK, Prompt


def encoded(
    n: int,
    positions: tuple[int, ...],
    spans: dict[str, tuple[int, ...]],
    sinks: tuple[int, ...],
    name: str = "p",
) -> Encoded:
    head = (Span(SINK, sinks),) if sinks else ()
    return Encoded(
        prompt=Prompt(text="x" * n),
        prompt_id=name,
        text="x" * n,
        token_ids=tuple(range(n)),
        tokens=tuple("x" * n),
        n_appended=0,
        spans=(*head, *(Span(key, tokens) for key, tokens in spans.items())),
        sinks=sinks,
        positions=positions,
        targets=(),
    )


def attention_view(
    batch: Batch, layer: int, heads: int, window: int | None = None, seed: int = 0, sharpness: float = 1.0
) -> LayerView:
    """Random causal attention rows of the probed positions, windowed if asked."""
    generator = torch.Generator().manual_seed(seed)
    b, keys = batch.ids.shape
    positions = batch.positions
    key = torch.arange(keys)
    visible = key <= positions[..., None]
    if window is not None:
        visible &= key > positions[..., None] - window
    scores = torch.randn(b, heads, positions.shape[1], keys, generator=generator) * sharpness
    weights = scores.masked_fill(~visible[:, None], -torch.inf).softmax(-1)
    return with_attention(batch, layer, weights, visible)


def with_attention(batch: Batch, layer: int, weights: Tensor, visible: Tensor) -> LayerView:
    """A layer of which only attention is looked at."""
    return LayerView(layer, batch, torch.zeros(*batch.positions.shape, 1), weights, visible)
