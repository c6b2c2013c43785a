"""What flows from a model to the metrics: encoded prompts, batches of them, one layer's activations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from elimtool.model.affine import Norm, Projection, wide
from elimtool.model.heads import Heads
from elimtool.prompts.prompt import Prompt


@dataclass(frozen=True, slots=True)
class Span:
    """A named set of token indices of one prompt, ascending."""

    name: str
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """A continuation to follow.

    ``token_ids`` are all its tokens after those it shares with every other target; the first of them is
    the one whose rank and probability are read. ``ambiguous``: another target or foil has the same first
    token, so that their rows cannot be told apart.
    """

    text: str
    token_ids: tuple[int, ...]
    is_foil: bool = False
    ambiguous: bool = False

    @property
    def token_id(self) -> int:
        """The vocabulary index that is scored."""
        return self.token_ids[0]


@dataclass(frozen=True, slots=True)
class Encoded:
    """A prompt as one model sees it. ``positions`` are the probed query tokens, ascending."""

    prompt: Prompt
    prompt_id: str
    text: str
    token_ids: tuple[int, ...]
    tokens: tuple[str, ...]
    n_appended: int
    spans: tuple[Span, ...]
    sinks: tuple[int, ...]
    positions: tuple[int, ...]
    targets: tuple[Target, ...]


@dataclass(frozen=True)
class Batch:
    """Encoded prompts side by side, padded on the right, where causal attention cannot see.

    ``positions`` and ``probed`` are [batch, probes]: the query indices, and which of them are real.
    """

    encoded: tuple[Encoded, ...]
    ids: Int[Tensor, "batch keys"]
    positions: Int[Tensor, "batch probes"]
    probed: Bool[Tensor, "batch probes"]

    @classmethod
    def of(cls, encoded: Sequence[Encoded], device: torch.device | str = "cpu") -> Batch:
        """Pad and stack encoded prompts. The padding token is 0; no real token ever attends to it."""
        longest = max(len(one.token_ids) for one in encoded)
        probes = max(len(one.positions) for one in encoded)
        ids = torch.zeros(len(encoded), longest, dtype=torch.long)
        positions = torch.zeros(len(encoded), probes, dtype=torch.long)
        probed = torch.zeros(len(encoded), probes, dtype=torch.bool)
        for row, one in enumerate(encoded):
            ids[row, : len(one.token_ids)] = torch.tensor(one.token_ids)
            positions[row, : len(one.positions)] = torch.tensor(one.positions)
            probed[row, : len(one.positions)] = True
        return cls(tuple(encoded), ids.to(device), positions.to(device), probed.to(device))

    @cached_property
    def rows(self) -> tuple[Int[Tensor, "rows"], Int[Tensor, "rows"]]:
        """``(prompt, probe)`` indices of every real probed position, in input order."""
        prompt, probe = self.probed.nonzero(as_tuple=True)
        return prompt, probe

    @cached_property
    def places(self) -> Int[Tensor, "all"]:
        """Every probed position, real or not, as an index into prompts x keys."""
        starts = torch.arange(len(self.ids), device=self.ids.device) * self.ids.shape[1]
        return (starts[:, None] + self.positions).flatten()

    @cached_property
    def full(self) -> bool:
        """Whether every probe is real."""
        return bool(self.probed.all())

    def cut(self, values: Float[Tensor, "batch keys width"]) -> Float[Tensor, "batch probes width"]:
        """The probed positions of an activation, as a copy."""
        found = values.reshape(-1, values.shape[-1]).index_select(0, self.places)
        return found.view(*self.positions.shape, -1)

    def real(self, values: Float[Tensor, "batch probes width"]) -> Float[Tensor, "rows width"]:
        """Those of cut-out values that belong to real probes, in the order of ``rows``."""
        return values.flatten(0, 1) if self.full else values[self.rows]


@dataclass(frozen=True)
class Block:
    """What one block added to the residual stream at the probed positions, and out of what.

    Added were ``multiplier`` times the attention's output and the MLP's, each after the norm that the
    family puts behind it, if any. What the block does not have, or does not show, is ``None``.

    Attributes:
        attention: The output projection: heads side by side in, attention's output out.
        mlp: The down projection: neurons in, the MLP's output out.
        gate: Gate pre-activations of a gated MLP.
        norms: The norms before (or else behind) attention and MLP.
        behind: The norms behind attention and MLP.
        multiplier: What the family multiplies both outputs with.
        n_heads: Number of query heads.
        flaw: Says why the update is not the sum of these heads and this MLP, ``None`` if it is. To be asked
            late: the blocks that ran until then are looked at together. Without it nothing is known.
    """

    attention: Projection | None
    mlp: Projection | None
    gate: Float[Tensor, "batch probes neurons"] | None
    norms: tuple[Norm | None, Norm | None]
    behind: tuple[Norm | None, Norm | None]
    multiplier: float
    n_heads: int
    flaw: Callable[[], str | None] | None = None

    @cached_property
    def heads(self) -> Heads | None:
        """The heads, ``None`` where attention's output is no sum over them."""
        part = self.attention
        if part is None or part.inputs is None or part.weight is None:
            return None
        whole = part.inputs.shape[-1] % self.n_heads == 0
        return Heads(part.inputs, part.weight, self.n_heads) if whole else None

    def added(self) -> tuple[Float[Tensor, "batch probes width"], Float[Tensor, "batch probes width"]] | None:
        """What attention and MLP added, or ``None`` where either is not known."""
        if self.attention is None or self.mlp is None:
            return None
        parts = [
            wide(part.outputs if norm is None else norm.outputs)
            for part, norm in zip((self.attention, self.mlp), self.behind, strict=True)
        ]
        if self.multiplier != 1.0:
            parts = [self.multiplier * part for part in parts]
        return parts[0], parts[1]


@runtime_checkable
class FormedAttention(Protocol):
    """Attention weights of one layer, formed when they are asked for."""

    def parts(self) -> Iterator[tuple[slice, Tensor]]:
        """Some probes of all prompts at a time, and which: [batch, heads, some, keys].

        Keys behind the last of these probes, which none of them sees, are left out.
        """

    def whole(self) -> Tensor:
        """All of them: [batch, heads, probes, keys]."""

    def of(self, prompt: int, probes: slice) -> Tensor:
        """Those of some probes of one prompt: [heads, some, keys]."""


@dataclass(frozen=True, slots=True)
class LayerView:
    """One layer's activations at the probed positions, cut out while the layer runs.

    ``layer`` -1 is the embedding. The residual stream is always there; what else no metric asked for, and the
    attention of a layer that has none, is ``None``. Reduce a view and let it go: nothing of one layer is kept
    when the next one runs.

    Attributes:
        residual: The residual stream after the layer, before the final norm, in the model's dtype.
        attention: Attention weights of the probed queries, at least float32; visible keys sum to 1. ``None``
            too where they are many: see ``attention_parts``.
        visible: The keys that each probed query may see in this layer: causal, and inside the window
            where the layer has one. Read off the mask that the layer itself is given.
        block: What the layer added to the residual stream; ``None`` for the embedding.
        context: The residual stream at every position, probed or not; of the last layer alone.
        rows: Forms attention weights, those too that are too many to be held at once; ``None`` where the
            layer itself formed them. To be kept where the weights would take more room than queries and keys.
    """

    layer: int
    batch: Batch
    residual: Float[Tensor, "batch probes width"]
    attention: Float[Tensor, "batch heads probes keys"] | None = None
    visible: Bool[Tensor, "batch probes keys"] | None = None
    block: Block | None = None
    context: Float[Tensor, "batch keys width"] | None = None
    rows: FormedAttention | None = None

    def attention_parts(self) -> Iterator[tuple[slice, Float[Tensor, "batch heads some keys"]]]:
        """The attention weights, some probes at a time, and which; nothing for a layer that has none.

        Where weights were not formed at once, keys behind the last of the probes may be missing.
        """
        if self.attention is not None:
            yield slice(0, self.attention.shape[2]), self.attention
        elif self.rows is not None:
            yield from self.rows.parts()

    def all_attention(self) -> Float[Tensor, "batch heads probes keys"] | None:
        """The attention weights of all probes, however many; ``None`` for a layer that has none."""
        return self.rows.whole() if self.attention is None and self.rows is not None else self.attention


def probed_rows(full: Float[Tensor, "batch ... width"], batch: Batch, dim: int) -> Float[Tensor, "..."]:
    """Cut the probed positions out of axis ``dim`` of an activation, as a copy."""
    shape = [1] * full.ndim
    shape[0], shape[dim] = batch.positions.shape
    sizes = list(full.shape)
    sizes[dim] = batch.positions.shape[1]
    return full.gather(dim, batch.positions.view(shape).expand(sizes))
