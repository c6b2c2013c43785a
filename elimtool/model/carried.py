"""What attention heads carry from each key to a query: values, output gate, and the way into the stream.

For query i, key j and query head h, with its KV group g(h) = h // (heads / groups):

    t[h, i, j] = m D_i W_O^h (a_i^h * v_j^g(h)) A[h, i, j]
    x_mid - x_pre = sum over h and j of t[h, i, j], plus a constant

m is the family's multiplier, D_i a norm behind attention with its scale frozen, a_i an output gate. Exact
only if nothing else stands between the weights and the output projection, which ``rebuilds`` tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from elimtool.model.affine import Norm, close, wide
from elimtool.model.heads import Heads, RowIndex
from elimtool.model.output_map import OutputMap

NO_VALUES = "the values that attention weighs are not shown while hooks are on it"
HIDDEN_GATE = "attention's output gate cannot be read while hooks are on it"
NOT_REBUILT = "something else than its weights, values and output gate makes attention's output"

GATES = ("gate_proj", "g_proj")
"""Names of projections in attention modules whose output multiplies what the weights give."""


@dataclass(frozen=True)
class Carried:
    """What a block's heads carry from each key to the probed queries, and the update that it is part of.

    Attributes:
        values: What the weights multiply, one for each group of query heads, with its bias.
        outputs: What attention itself made of them at the probes, before any gate; ``None`` if not seen.
        heads: Inputs and weight of the output projection.
        output: The output projection with the norm behind it, but for ``scale``.
        bias: Bias of the output projection.
        norm: The norm behind attention, ``None`` for most families.
        multiplier: Factor of the family on what attention adds.
        before: The residual stream before the block.
        after: The residual stream after the block.
        added: What attention and the MLP added to it, each after norm and multiplier.
        parallel: Whether attention and MLP read the same residual, so that none stands between them.
        gated: Whether the attention module has an output gate.
    """

    values: Float[Tensor, "batch groups keys size"]
    outputs: Float[Tensor, "batch probes heads size"] | None
    heads: Heads
    output: OutputMap
    bias: Float[Tensor, "width"] | None
    norm: Norm | None
    multiplier: float
    before: Float[Tensor, "batch probes width"]
    after: Float[Tensor, "batch probes width"]
    added: tuple[Float[Tensor, "batch probes width"], Float[Tensor, "batch probes width"]]
    parallel: bool
    gated: bool = False

    @cached_property
    def gate(self) -> Float[Tensor, "batch probes heads size"] | None:
        """a_i, the output gate's factor on each channel of each head; ``None`` without a gate."""
        if not self.gated or self.outputs is None:
            return None
        inputs, outputs = wide(self.inputs), wide(self.outputs)
        # both were rounded once from the same numbers, so the quotient is as exact as they are
        return torch.where(outputs == 0, 0.0, inputs / outputs)

    @property
    def inputs(self) -> Float[Tensor, "batch probes heads size"]:
        """What goes into the output projection, by head."""
        return by_head(self.heads.inputs, self.heads.count)

    @property
    def map(self) -> Float[Tensor, "heads width size"]:
        """D W_O of each head, but for the norm's scale and the multiplier: ``scale`` has these."""
        return by_head(self.output.whole, self.heads.count).transpose(0, 1)

    @cached_property
    def scale(self) -> Float[Tensor, "batch probes"]:
        """The multiplier times the scale of the norm behind attention."""
        one = wide(self.before).new_ones(self.before.shape[:2])
        return self.multiplier * (one if self.norm is None else self.norm.scale)

    @cached_property
    def constant(self) -> Float[Tensor, "batch probes width"]:
        """b_i: what the biases of the output projection and of the norm behind it add."""
        found = wide(self.before).new_zeros(self.before.shape)
        if self.bias is not None:
            bias = wide(self.bias)
            if self.norm is not None:
                bias = self.norm.fixed.centre(bias) * self.norm.fixed.gain
            found = found + bias * self.scale[..., None]
        return found if self.norm is None else found + self.norm.fixed.bias * self.multiplier

    @cached_property
    def middle(self) -> Float[Tensor, "batch probes width"] | None:
        """x_mid, the residual stream between attention and MLP; ``None`` in parallel blocks."""
        return None if self.parallel else wide(self.before) + self.added[0]

    def each(self, some: slice, keys: int) -> Float[Tensor, "batch probes heads keys size"]:
        """Return gate times value, a_i * v_j, of each head for some probes (one for all without a gate)."""
        values = wide(self.values[:, :, :keys])
        values = values.repeat_interleave(self.heads.count // values.shape[1], dim=1)[:, None]
        return values if self.gate is None else values * self.gate[:, some, :, None]

    def back(
        self, rows: RowIndex, toward: Float[Tensor, "rows k width"]
    ) -> Float[Tensor, "rows k heads size"]:
        """Carry directions at attention's output (``Branch.pulled``) back to each head's values.

        The dot product with v_j of the head's group, times the weight, is what the head adds from j.
        """
        found = by_head(toward @ wide(self.heads.weight), self.heads.count)
        return found if self.gate is None else found * self.gate[rows][:, None]

    def rebuilds(
        self, some: slice, weights: Float[Tensor, "batch heads some keys"]
    ) -> Bool[Tensor, "batch some"]:
        """Tell for some probes whether weights, values and gate give the output projection's input."""
        gate = None if self.gate is None else self.gate[:, some]
        found = gathered(weights, self.values[:, :, : weights.shape[-1]], gate)
        return is_rebuilt(found, self.inputs[:, some])


def gathered(
    weights: Float[Tensor, "*batch heads probes keys"],
    values: Float[Tensor, "*batch groups keys size"],
    gate: Float[Tensor, "*batch probes heads size"] | None,
) -> Float[Tensor, "*batch probes heads size"]:
    """Sum what the heads carry from all keys, before the output projection."""
    shape, groups = weights.shape, values.shape[-3]
    grouped = weights.reshape(*shape[:-3], groups, -1, shape[-1]) @ wide(values)
    found = grouped.reshape(*shape[:-1], -1).transpose(-3, -2)
    return found if gate is None else found * gate


def is_rebuilt(
    found: Float[Tensor, "*batch heads size"], inputs: Float[Tensor, "*batch heads size"]
) -> Bool[Tensor, "*batch"]:
    """Tell where what was gathered is the input of the output projection, up to rounding."""
    truth = wide(inputs).flatten(-2)
    return close(found.flatten(-2), truth, truth, inputs.dtype)


def by_head(values: Float[Tensor, "*rows inner"], count: int) -> Float[Tensor, "*rows heads size"]:
    """Give each head an axis where they stand side by side."""
    return values.reshape(*values.shape[:-1], count, -1)


def has_gate(attention: nn.Module | None, inner: int) -> bool:
    """Tell whether an attention module multiplies its output by a gate, of the query's own token.

    Args:
        attention: The module of transformers.
        inner: Size of the heads' outputs side by side.
    """
    if attention is None:
        return False
    parts = attention._modules  # asking a module for what it lacks takes as long as a product of few rows
    if any(name in parts for name in GATES):
        return True
    # Qwen3-Next: queries and gates come out of one projection
    weight: Any = getattr(parts.get("q_proj"), "weight", None)
    return isinstance(weight, Tensor) and weight.ndim == 2 and len(weight) == 2 * inner
