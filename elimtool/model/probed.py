"""Run attention by SDPA, and compute the weights of the probed queries separately.

SDPA never forms attention weights. Those of the few probed queries are computed from the same queries and
keys, as the family's own eager code does (scaling, soft cap, sinks, mask), in at least float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from elimtool.model.affine import close, wide
from elimtool.model.view import Batch

NAME = "elimtool_probed"
"""Name of the function in transformers' ``AttentionInterface``."""

CHUNK_NUMBERS = 2**24
"""Attention weights held at a time where SDPA cannot compute the output: 64 MiB."""

FORMED_NUMBERS = 2**20
"""Attention weights of probed queries formed at a time: 4 MiB. Reducing them takes a few times that."""

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

EVERY = slice(None)


class NotUnderstood(Exception):
    """An attention module uses something that is not supported here."""


@dataclass(frozen=True, slots=True)
class AttentionRows:
    """Attention weights of one layer's probed queries, formed on request.

    Attributes:
        form: Forms weights [prompts, heads, probes, keys] from slices of probes, prompts and keys.
        positions: Positions of the probes, which see no later keys.
        each: Number of weights of one probe: batch x heads x keys.
        null: Whether a score without a key takes part in the softmax, so that weights sum to less than 1.
        most: Weights formed at a time, at most.
    """

    form: Callable[[slice, slice, slice], Tensor]
    positions: Int[Tensor, "batch probes"]
    each: int
    null: bool = False
    most: int = FORMED_NUMBERS

    @property
    def probes(self) -> int:
        """Number of probes."""
        return self.positions.shape[1]

    def fits(self) -> bool:
        """Tell whether all weights may be held at once."""
        return self.probes * self.each <= self.most

    def whole(self) -> Float[Tensor, "batch heads probes keys"]:
        """Form all weights."""
        return self.form(slice(0, self.probes), EVERY, EVERY)

    def of(self, prompt: int, probes: slice) -> Float[Tensor, "heads some keys"]:
        """Form the weights of some probes of one prompt."""
        return self.form(probes, slice(prompt, prompt + 1), EVERY)[0]

    def parts(self) -> Iterator[tuple[slice, Float[Tensor, "batch heads some nearest"]]]:
        """Yield slices of as many probes as may be held, with their weights, without later keys."""
        size = max(1, self.most // self.each)
        for start in range(0, self.probes, size):
            some = slice(start, min(self.probes, start + size))
            yield some, self.form(some, EVERY, slice(0, int(self.positions[:, some].max()) + 1))


Keep = Callable[[nn.Module, AttentionRows, Tensor], None]


class ProbedAttention:
    """The attention function of one pass.

    Args:
        batch: The batch that runs.
        keep: Called with the module, the probed queries' rows and the keys visible to each
            [batch, probes, keys]; ``None`` if they are not needed.
        check: Compare the rows, times the values, with the output.
    """

    def __init__(self, batch: Batch, keep: Keep | None, check: bool = False) -> None:
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

        def weights(
            rows: Tensor, visible: Tensor, bias: Tensor | None, prompts: slice = EVERY, keys: slice = EVERY
        ) -> Tensor:
            return attention_weights(rows, key[prompts, :, keys], scale, visible, bias, softcap, sinks)

        if softcap is None and sinks is None:
            from transformers.integrations.sdpa_attention import sdpa_attention_forward

            output, _ = sdpa_attention_forward(
                module, query, key, value, attention_mask, dropout=dropout, scaling=scaling
            )
        else:
            output = self._in_chunks(batch, query, value, attention_mask, weights)
        if self.keep is not None:
            visible, bias = self._rows_of(batch, attention_mask)
            probed = at_probes(query, batch)

            def form(probes: slice, prompts: slice, keys: slice) -> Tensor:
                some = None if bias is None else bias[prompts, :, probes, keys]
                seen = visible[prompts, probes, keys]
                return weights(probed[prompts, :, probes], seen, some, prompts, keys).to(self.home)

            each = len(query) * query.shape[1] * key.shape[2]
            rows = AttentionRows(form, self._on(self.home).positions, each, sinks is not None)
            if self.check:
                self._compare(batch, rows.whole().to(query.device), value, output)
            self.keep(module, rows, visible.to(self.home))
        return output, None

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
        self, batch: Batch, query: Tensor, value: Tensor, mask: Tensor | None, weights: Callable[..., Tensor]
    ) -> Tensor:
        """Compute the output from weights, some queries at a time."""
        n = query.shape[2]
        size = max(1, CHUNK_NUMBERS // query.shape[:3].numel())
        parts = []
        for start in range(0, n, size):
            where = torch.arange(start, min(n, start + size), device=query.device).expand(len(query), -1)
            rows = weights(query[:, :, start : start + size], *mask_rows(batch, mask, where))
            parts.append(mixed(rows, value))
        return torch.cat(parts, 1).to(value.dtype)

    def _compare(self, batch: Batch, rows: Tensor, value: Tensor, output: Tensor) -> None:
        truth = wide(at_probes(output.transpose(1, 2), batch)).transpose(1, 2)
        rebuilt = mixed(rows, value)
        if not bool(close(rebuilt, truth, truth, output.dtype)[batch.probed].all()):
            raise NotUnderstood("its attention's output is not what the weights give")


_CURRENT: ContextVar[ProbedAttention] = ContextVar("elimtool's attention")


def _attend(*args: Any, **named: Any) -> Any:
    return _CURRENT.get()(*args, **named)


@contextmanager
def attending(attention: ProbedAttention) -> Iterator[str]:
    """While open, models whose attention implementation is the name yielded here run ``attention``."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    token = _CURRENT.set(attention)
    try:
        yield NAME
    finally:
        _CURRENT.reset(token)


def attention_weights(
    query: Float[Tensor, "batch heads rows size"],
    key: Float[Tensor, "batch groups keys size"],
    scale: float,
    visible: Bool[Tensor, "batch rows keys"],
    bias: Float[Tensor, "batch some rows keys"] | None = None,
    softcap: float | None = None,
    sinks: Float[Tensor, "heads"] | None = None,
) -> Float[Tensor, "batch heads rows keys"]:
    """Compute attention weights of some queries, in at least float32.

    Args:
        query: Queries after rotary embedding.
        key: Keys after rotary embedding, one for each group of query heads.
        scale: Factor on the scores.
        visible: Keys that each query may see.
        bias: Added to the scores.
        softcap: c of c tanh(score / c); ``None`` for none.
        sinks: For each head, a score that takes part in the softmax and has no key.
    """
    batch, heads, n, size = query.shape
    groups = key.shape[1]
    # heads of one group side by side, so that its key is not repeated for each of them
    grouped = (wide(query) * scale).reshape(batch, groups, heads // groups * n, size)
    scores = (grouped @ wide(key).transpose(2, 3)).reshape(batch, heads, n, -1)
    if softcap is not None:
        scores = scores.div_(softcap).tanh_().mul_(softcap)
    if bias is not None:
        scores = scores + wide(bias)
    scores = scores.masked_fill_(~visible[:, None], -torch.inf)
    if sinks is None:
        return torch.softmax(scores, -1)
    column = wide(sinks).reshape(1, -1, 1, 1).expand(batch, heads, n, 1)
    return torch.softmax(torch.cat([scores, column], -1), -1)[..., :-1]


def mixed(
    weights: Float[Tensor, "batch heads rows keys"], value: Float[Tensor, "batch groups keys other"]
) -> Float[Tensor, "batch rows heads other"]:
    """Average values with some queries' weights."""
    batch, heads, n, keys = weights.shape
    grouped = weights.reshape(batch, value.shape[1], -1, keys) @ wide(value)
    return grouped.reshape(batch, heads, n, -1).transpose(1, 2)


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
    plain = bool((rows.masked_fill(~seen[:, None], 0) == 0).all())
    return seen, None if plain else rows


def at_probes(
    values: Float[Tensor, "batch heads keys size"], batch: Batch
) -> Float[Tensor, "batch heads probes size"]:
    """Copy the probed positions of queries, or of anything else with one row a token and head."""
    prompt = torch.arange(len(batch.positions), device=values.device)[:, None]
    return values[prompt, :, batch.positions].transpose(1, 2)
