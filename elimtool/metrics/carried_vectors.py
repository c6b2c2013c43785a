"""Compute what heads carry from each key to the probed queries, and how much of the result it is.

Norms of transformed values: Kobayashi et al. 2020, 2021 (arXiv 2004.10102, 2109.07152). Contributions by
distance in the 1-norm: Ferrando et al. 2022, 2023 (ALTI, arXiv 2203.04212; ALTI-Logit, 2305.12535), with the
residual as a part of its own as in Ferrando and Voita 2024 (arXiv 2403.00824).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from elimtool.model.affine import wide
from elimtool.model.carried import Carried, by_head, gathered, is_rebuilt

CACHED_NUMBERS = 2**17
"""Numbers in the vectors of keys that are formed at a time: they stay in a processor's cache."""

PerQuery = Float[Tensor, "layers batch probes"]
Keys = Float[Tensor, "layers batch probes keys"]
Vectors = Float[Tensor, "layers batch probes width"]


@dataclass(frozen=True, slots=True)
class Share:
    """How much of a step's result some parts are, each not yet divided by the step's sums.

    Attributes:
        taken: q, what the part takes off the distance to the result: max(0, |y| - |y - part|), 1-norms.
        along: The part's dot product with the result y.
        length: The part's 2-norm.
    """

    taken: Float[Tensor, "layers batch probes *some"]
    along: Float[Tensor, "layers batch probes *some"]
    length: Float[Tensor, "layers batch probes *some"]


@dataclass(frozen=True)
class CarriedRows:
    """What the heads of some layers of one shape carry to some probed queries.

    Args:
        layers: What was read of each layer.
        weights: Attention weights.
        positions: Index of each query.
        some: Which of the layers' probes these queries are.
        vectors: For which prompts to form what each key adds to the stream, for ``tokens``; NaN for others.
    """

    layers: Sequence[Carried]
    weights: Float[Tensor, "layers batch heads probes keys"]
    positions: Int[Tensor, "batch probes"]
    some: slice
    vectors: tuple[bool, ...]

    def _stack(self, values: Sequence[Tensor]) -> Tensor:
        return wide(torch.stack([one[:, self.some] for one in values]))

    @cached_property
    def values(self) -> Float[Tensor, "layers batch groups keys size"]:
        """v_j of each group."""
        keys = self.weights.shape[-1]
        return wide(torch.stack([one.values[:, :, :keys] for one in self.layers]))

    @cached_property
    def gate(self) -> Float[Tensor, "layers batch probes heads size"] | None:
        """a_i of each head; ``None`` without."""
        gates = [one.gate for one in self.layers]
        known = [one for one in gates if one is not None]
        return self._stack(known) if known else None

    @cached_property
    def scale(self) -> PerQuery:
        """Multiplier and scale of the norm behind."""
        return self._stack([one.scale for one in self.layers])

    @cached_property
    def before(self) -> Vectors:
        """x_pre."""
        return self._stack([one.before for one in self.layers])

    @cached_property
    def constant(self) -> Vectors:
        """b_i."""
        return self._stack([one.constant for one in self.layers])

    @cached_property
    def mlp(self) -> Vectors:
        """What the MLP added."""
        return self._stack([one.added[1] for one in self.layers])

    @cached_property
    def after(self) -> Vectors:
        """x_post."""
        return self._stack([one.after for one in self.layers])

    @property
    def parallel(self) -> bool:
        """Whether the layers have one step."""
        return self.layers[0].parallel

    @cached_property
    def result(self) -> Vectors:
        """The result of the step with attention: x_mid, or x_post in parallel blocks."""
        return (
            self.after if self.parallel else self.before + self._stack([one.added[0] for one in self.layers])
        )

    @cached_property
    def _gathered(self) -> Float[Tensor, "layers batch probes heads size"]:
        return gathered(self.weights, self.values, self.gate)

    @cached_property
    def rebuilt(self) -> Bool[Tensor, "layers batch probes"]:
        """Where weights, values and gate give the output projection's input."""
        inputs = torch.stack([one.heads.inputs[:, self.some] for one in self.layers])
        return is_rebuilt(self._gathered, by_head(inputs, self.weights.shape[2]))

    @cached_property
    def sizes(self) -> Float[Tensor, "layers batch heads some keys"]:
        """|W_O v_j| of each head, up to a factor of the query; the same for all probes without a gate."""
        return torch.stack([self._sizes(layer) for layer in range(len(self.layers))])

    def _sizes(self, layer: int) -> Float[Tensor, "batch heads some keys"]:
        gram, values = self.layers[layer].output.gram, self.values[layer]
        if self.gate is None:
            return sizes(values, gram)[:, :, None]
        each = values.repeat_interleave(self.weights.shape[2] // values.shape[1], dim=1)
        return torch.stack([sizes(each * one[..., None, :], gram) for one in self.gate[layer].unbind(1)], 2)

    @cached_property
    def norms(self) -> Float[Tensor, "layers batch heads probes keys"]:
        """|t_ij| of each head, up to a factor of the query."""
        return self.weights * self.sizes

    @cached_property
    def along(self) -> Keys:
        """Dot product of what the layer carries from each key with the result, in float64."""
        heads = by_head(self._mapped[0], self.weights.shape[2])
        if self.gate is not None:
            heads = heads * self.gate
        groups = self.values.shape[2]
        grouped = heads.transpose(2, 3).reshape(*heads.shape[:2], groups, -1, heads.shape[-1])
        cells = (grouped @ self.values.transpose(-1, -2)).reshape(self.weights.shape)
        return (cells * self.weights).sum(2, dtype=torch.float64)

    @cached_property
    def mixing(self) -> PerQuery:
        """Share of the stream after attention that comes from other tokens, by length."""
        carried = self._mapped[1] * self.scale[..., None, None]
        others: Tensor = torch.linalg.vector_norm(carried[..., 0, :], dim=-1)
        own: Tensor = torch.linalg.vector_norm(carried[..., 1, :] + self.before, dim=-1)
        return others / (others + own)

    @property
    def tokens(self) -> Share:
        """The parts of single keys, heads summed, in the step with attention."""
        taken, length = self._mapped[2:]
        return Share(taken, self.along, length)

    @property
    def _apart(self) -> Float[Tensor, "layers batch probes both inner"]:
        """Return what the heads gather from all other keys, and from the query's own."""
        each = self.weights.shape[2] // self.values.shape[2]
        own = self.positions[None, :, None, :, None].expand(*self.weights.shape[:-1], 1)
        chosen = own[:, :, ::each].expand(-1, -1, -1, -1, self.values.shape[-1])
        values = self.values.gather(3, chosen).repeat_interleave(each, dim=2)
        mine = (self.weights.gather(-1, own) * values).transpose(2, 3)
        if self.gate is not None:
            mine = mine * self.gate
        return torch.stack([self._gathered - mine, mine], 3).flatten(-2)

    @cached_property
    def _mapped(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return all that goes through the output projections: layer by layer, so that each is read once."""
        toward, apart, found = self.result * self.scale[..., None], self._apart, []
        for layer, one in enumerate(self.layers):
            flat = one.output.whole
            tokens = self._tokens(layer, flat) if any(self.vectors) else (toward[layer][..., :1],) * 2
            found.append((toward[layer] @ flat, apart[layer] @ flat.T, *tokens))
        back, both, taken, length = (torch.stack(part) for part in zip(*found, strict=True))
        return back, both, taken, length

    def _tokens(self, layer: int, flat: Float[Tensor, "width inner"]) -> tuple[Tensor, Tensor]:
        """Form what the layer carries from each key, some at a time, and measure it against the result."""
        batch, heads, probes, keys = self.weights.shape[1:]
        result = self.result[layer]
        sign, twice = torch.ones_like(result).copysign(result), 2.0 * result.abs()
        values = self.values[layer].repeat_interleave(heads // self.values.shape[2], dim=1).transpose(1, 2)
        taken = result.new_full((batch, probes, keys), torch.nan)
        length = torch.full_like(taken, torch.nan)
        step = max(1, CACHED_NUMBERS // max(flat.shape))
        formed = [one for one in range(batch) if self.vectors[one]]
        for one, probe in product(formed, range(probes)):
            weights = self.weights[layer, one, :, probe].T * self.scale[layer, one, probe]
            for start in range(0, keys, step):
                some = slice(start, start + step)
                each = weights[some, :, None] * values[one, some]
                if self.gate is not None:
                    each = each * self.gate[layer, one, probe]
                parts = each.flatten(1) @ flat.T
                length[one, probe, some] = torch.linalg.vector_norm(parts, dim=-1)
                taken[one, probe, some] = distance(parts, sign[one, probe], twice[one, probe])
        return taken.double(), length.double()

    @cached_property
    def steps(self) -> dict[str, dict[str, Share]]:
        """The parts of each step that are no keys, by step and name."""
        first = {"residual": self.before, "bias": self.constant}
        if self.parallel:
            return {"block": self._shares(first | {"mlp": self.mlp}, self.after)}
        second = {"residual": self.result, "mlp": self.mlp}
        return {"attention": self._shares(first, self.result), "mlp": self._shares(second, self.after)}

    def _shares(self, parts: dict[str, Tensor], result: Tensor) -> dict[str, Share]:
        found = {}
        for name, part in parts.items():
            taken, length = taken_and_length(part, result)
            found[name] = Share(taken, (part.double() * result.double()).sum(-1), length)
        return found


def taken_and_length(
    parts: Float[Tensor, "*some width"], result: Float[Tensor, "*some width"]
) -> tuple[Float[Tensor, "*some"], Float[Tensor, "*some"]]:
    """Return q = max(0, |y|_1 - |y - part|_1) of parts, and their 2-norms, in float64."""
    length = torch.linalg.vector_norm(parts, dim=-1).double()
    sign = torch.ones_like(result).copysign(result)
    return distance(parts.clone(), sign, 2.0 * result.abs()).double(), length


def distance(
    parts: Float[Tensor, "*some width"], sign: Float[Tensor, "*any width"], twice: Float[Tensor, "*any width"]
) -> Float[Tensor, "*some"]:
    """Return max(0, |y|_1 - |y - part|_1) of parts, which are overwritten.

    |y| - |y - p| is min(z, 2 |y| - z) with z = p sign(y), in which nothing cancels where p is small.

    Args:
        parts: The parts.
        sign: Signs of y.
        twice: 2 |y|.
    """
    signed = parts.mul_(sign)
    opposed = twice - signed
    return torch.minimum(signed, opposed, out=opposed).sum(-1).clamp(min=0.0)


def sizes(
    values: Float[Tensor, "batch groups keys size"], gram: Float[Tensor, "heads size size"]
) -> Float[Tensor, "batch heads keys"]:
    """Compute sqrt(v' gram v) of each head's values, or of its group's."""
    groups, size = values.shape[1], values.shape[-1]
    side = gram.reshape(groups, -1, size, size).transpose(1, 2).reshape(groups, size, -1)
    moved = (values @ side).reshape(*values.shape[:-1], -1, size)
    # rounding may put a square under 0
    squares = moved.mul_(values[..., None, :]).sum(-1).clamp_(min=0.0)
    return squares.sqrt_().transpose(-1, -2).flatten(1, 2)
