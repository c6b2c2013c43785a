"""Run attention by SDPA, and compute the weights of the probed queries separately.

SDPA never forms attention weights. Those of the few probed queries are computed from the same queries and
keys, as the family's own eager code does (scaling, soft cap, sinks, mask), in at least float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from elimtool.model.affine import close, wide
from elimtool.model.rows import EVERY, FORMED_NUMBERS, AttentionRows, Formed, attended, mixed
from elimtool.model.view import Batch
from elimtool.numerics.transfer import roomy

NAME = "elimtool_probed"
"""Name of the function in transformers' ``AttentionInterface``."""

CHUNK_NUMBERS = 2**24
"""Attention weights held at a time where SDPA cannot compute the output: 64 MiB."""

KNOWN = frozenset(
    {
        "is_causal",
        "output_attentions",
        "output_router_logits",
        "position_ids",
        "sliding_window",
        "use_cache",
    }
)
"""Options that change nothing here: the mask includes the window, and there is no cache."""


class NotUnderstood(Exception):
    """An attention module uses something that is not supported here."""


class Values(NamedTuple):
    """What a layer's weights multiply, and the result at the probed queries, before any output gate."""

    values: Float[Tensor, "batch groups keys other"]
    outputs: Float[Tensor, "batch probes heads other"]


Keep = Callable[[nn.Module, AttentionRows, Tensor, Values], None]


class ProbedAttention:
    """The attention function of one pass.

    Args:
        batch: The batch that runs.
        keep: Called with the module, the probed queries' rows, the keys visible to each
            [batch, probes, keys], and the values; ``None`` if they are not needed.
        check: Compare the rows, times the values, with the output.
    """

    def __init__(self, batch: Batch, keep: Keep | None, check: bool = False) -> None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        self.sdpa = sdpa_attention_forward
        self.home = batch.ids.device
        self.batches = {self.home: batch}
        self.keep = keep
        self.check = check
        self.masks: dict[tuple[int, torch.device], tuple[Tensor | None, Tensor, Tensor | None]] = {}

    def __call__(
        self,
        module: nn.Module,
        query: Float[Tensor, "batch heads queries size"],
        key: Float[Tensor, "batch groups keys size"],
        value: Float[Tensor, "batch groups keys other"],
        attention_mask: Tensor | None,
        scaling: float | None = None,
        dropout: float = 0.0,
        **options: Any,
    ) -> tuple[Float[Tensor, "batch queries heads other"], None]:
        """Run one layer's attention.

        Raises:
            NotUnderstood: An option is not supported.
        """
        softcap, sinks = options.pop("softcap", None), options.pop("s_aux", None)
        if unknown := {name for name, given in options.items() if given is not None} - KNOWN:
            raise NotUnderstood(f"attention options {', '.join(sorted(unknown))}")
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        batch = self._on(query.device)
        packing = batch.packing
        if packing is not None:
            query, key, value = map(packing.laid_out, (query, key, value))

        def formed(
            rows: Tensor, visible: Tensor, bias: Tensor | None, prompts: slice = EVERY, keys: slice = EVERY
        ) -> Formed:
            return attended(rows, key[prompts, :, keys], scale, visible, bias, softcap, sinks)

        if softcap is None and sinks is None:
            output, _ = self.sdpa(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling)
        else:
            output = self._in_chunks(batch, query, value, attention_mask, formed)
        if self.keep is not None:
            visible, bias = self._rows_of(batch, attention_mask)
            probed = at_probes(query, batch)

            def form(probes: slice, prompts: slice, keys: slice) -> Formed:
                some = None if bias is None else bias[prompts, :, probes, keys]
                seen = visible[prompts, probes, keys]
                return formed(probed[prompts, :, probes], seen, some, prompts, keys).to(self.home)

            each = len(query) * query.shape[1] * key.shape[2]
            last = tuple(batch.here["positions"].max(0).tolist())
            most = roomy(FORMED_NUMBERS, self.home)
            rows = AttentionRows(form, last, each, sinks is not None, most, probed, key, scale)
            if self.check:
                self._compare(batch, rows.whole().weights.to(query.device), value, output)
            outputs = at_probes(output.transpose(1, 2), batch).transpose(1, 2)
            there = Values(value.to(self.home), outputs.to(self.home))
            self.keep(module, rows, visible.to(self.home), there)
        return output if packing is None else packing.taken_back(output), None

    def mask(self, **asked: Any) -> Tensor | None:
        """Make the mask of prompts one under the other, whichever tokens of them run; boolean or ``None``."""
        from transformers.masking_utils import sdpa_mask

        keys = self.batches[self.home].ids.shape[1]
        if self.batches[self.home].packing is not None:
            asked |= {"batch_size": 1, "q_length": keys, "kv_length": keys, "attention_mask": None}
        mask: Tensor | None = sdpa_mask(**asked)
        return mask

    def _on(self, device: torch.device) -> Batch:
        """Return the batch on the device of a layer."""
        if device not in self.batches:
            self.batches[device] = self.batches[self.home].on(device)
        return self.batches[device]

    def _rows_of(
        self, batch: Batch, mask: Tensor | None
    ) -> tuple[Bool[Tensor, "batch probes keys"], Tensor | None]:
        """Return the keys that the probed queries see and the bias on their scores, once for each mask."""
        known = (id(mask), batch.ids.device)
        if known not in self.masks:  # most layers share one; holding it keeps its id from being reused
            self.masks[known] = (mask, *mask_rows(batch, mask, batch.positions))
        return self.masks[known][1:]

    def _in_chunks(
        self, batch: Batch, query: Tensor, value: Tensor, mask: Tensor | None, formed: Callable[..., Formed]
    ) -> Tensor:
        """Compute the output from weights, some queries at a time."""
        n = query.shape[2]
        size = max(1, CHUNK_NUMBERS // query.shape[:3].numel())
        parts = []
        for start in range(0, n, size):
            where = torch.arange(start, min(n, start + size), device=query.device).expand(len(query), -1)
            rows = formed(query[:, :, start : start + size], *mask_rows(batch, mask, where))
            parts.append(mixed(rows.weights, value))
        return torch.cat(parts, 1).to(value.dtype)

    def _compare(self, batch: Batch, rows: Tensor, value: Tensor, output: Tensor) -> None:
        truth = wide(at_probes(output.transpose(1, 2), batch)).transpose(1, 2)
        rebuilt = mixed(rows, value)
        if not bool(close(rebuilt, truth, truth, output.dtype)[batch.probed].all()):
            raise NotUnderstood("its attention's output is not what the weights give")


_CURRENT: ContextVar[ProbedAttention] = ContextVar("elimtool's attention")


def _attend(*args: Any, **named: Any) -> Any:
    return _CURRENT.get()(*args, **named)


def _mask(**asked: Any) -> Any:
    return _CURRENT.get().mask(**asked)


@contextmanager
def attending(attention: ProbedAttention) -> Iterator[str]:
    """While open, models whose attention implementation is the name yielded here run ``attention``."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, _mask)
    token = _CURRENT.set(attention)
    try:
        yield NAME
    finally:
        _CURRENT.reset(token)


def mask_rows(
    batch: Batch, mask: Tensor | None, positions: Tensor
) -> tuple[Bool[Tensor, "batch rows keys"], Float[Tensor, "batch some rows keys"] | None]:
    """Read a layer's mask at some queries: which keys they see, and the bias on their scores.

    A mask is [batch or 1, heads or 1, queries, keys]: boolean, or added to the scores (hidden keys get the
    dtype's minimum or -inf). A layer without one is causal.
    """
    keys = torch.arange(batch.ids.shape[1], device=batch.ids.device)
    causal = keys <= positions[..., None]
    if mask is None or mask.ndim != 4:
        return causal, None
    prompt = torch.arange(len(positions), device=mask.device)[:, None]
    prompt = prompt.clamp(max=mask.shape[0] - 1)
    rows = mask[prompt, :, positions, : len(keys)].transpose(1, 2)
    if rows.dtype == torch.bool:
        return causal & rows[:, 0], None
    seen = causal & (rows[:, 0] > torch.finfo(rows.dtype).min / 2)  # / 2: a bias may be added to the minimum
    # rows of zeros may as well be added; only a processor's answer is at hand
    plain = rows.is_cpu and bool((rows.masked_fill(~seen[:, None], 0) == 0).all())
    return seen, None if plain else rows


def at_probes(
    values: Float[Tensor, "batch heads keys size"], batch: Batch
) -> Float[Tensor, "batch heads probes size"]:
    """Copy the probed positions of queries, or of anything else with one row a token and head."""
    prompt = torch.arange(len(batch.positions), device=values.device)[:, None]
    return values[prompt, :, batch.positions].transpose(1, 2)
