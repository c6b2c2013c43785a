"""Compute what heads carry from each key to the probed queries, and how much of the result it is.

Norms of transformed values: Kobayashi et al. 2020, 2021 (arXiv 2004.10102, 2109.07152). Contributions by
distance in the 1-norm: Ferrando et al. 2022, 2023 (ALTI, arXiv 2203.04212; ALTI-Logit, 2305.12535), with the
residual as a part of its own as in Ferrando and Voita 2024 (arXiv 2403.00824).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from elimtool.metrics.key_vectors import KeyRows, Mapped, chunks, mapped, taken_and_length
from elimtool.model.affine import wide
from elimtool.model.carried import Carried, by_head, gathered, is_rebuilt

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
        found = []
        numbers = self.weights[0, :, :, 0].numel() * self.values.shape[-1]
        for some in chunks(len(self.layers), numbers, self.weights.device):
            gram = torch.stack([one.output.gram for one in self.layers[some]])
            values = self.values[some]
            if self.gate is None:
                found.append(sizes(values, gram)[:, :, :, None])
                continue
            each = values.repeat_interleave(self.weights.shape[2] // values.shape[2], dim=2)
            gates = self.gate[some, ..., None, :].unbind(2)
            found.append(torch.stack([sizes(each * gate, gram) for gate in gates], 3))
        return torch.cat(found)

    @cached_property
    def norms(self) -> Float[Tensor, "layers batch heads probes keys"]:
        """|t_ij| of each head, up to a factor of the query."""
        return self.weights * self.sizes

    @cached_property
    def along(self) -> Keys:
        """Dot product of what the layer carries from each key with the result, in float64."""
        heads = by_head(self._mapped.back, self.weights.shape[2])
        if self.gate is not None:
            heads = heads * self.gate
        groups = self.values.shape[2]
        grouped = heads.transpose(2, 3).reshape(*heads.shape[:2], groups, -1, heads.shape[-1])
        cells = (grouped @ self.values.transpose(-1, -2)).reshape(self.weights.shape)
        return (cells * self.weights).sum(2, dtype=torch.float64)

    @cached_property
    def mixing(self) -> PerQuery:
        """Share of the stream after attention that comes from other tokens, by length."""
        others: Tensor = torch.linalg.vector_norm(self._added_apart[..., 0, :], dim=-1)
        own: Tensor = torch.linalg.vector_norm(self.own + self.before, dim=-1)
        return others / (others + own)

    @property
    def own(self) -> Vectors:
        """What attention adds to the stream from the query's own key, without constants."""
        return self._added_apart[..., 1, :]

    @cached_property
    def _added_apart(self) -> Float[Tensor, "layers batch probes both width"]:
        return self._mapped.apart * self.scale[..., None, None]

    @property
    def tokens(self) -> Share:
        """The parts of single keys, heads summed, in the step with attention."""
        return Share(self._mapped.taken, self.along, self._mapped.length)

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
    def _mapped(self) -> Mapped:
        """All that goes through the output projections."""
        weights = self.weights * self.scale[:, :, None, :, None]
        rows = KeyRows(weights, self.values, self.gate, self.result, self.vectors)
        return mapped([one.output for one in self.layers], rows, self.scale, self._apart)

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


def sizes(
    values: Float[Tensor, "layers batch some keys size"], gram: Float[Tensor, "layers heads size size"]
) -> Float[Tensor, "layers batch heads keys"]:
    """Compute sqrt(v' gram v) of each head's values, or of its group's."""
    groups, size = values.shape[2], values.shape[-1]
    side = gram.reshape(len(gram), groups, -1, size, size).transpose(2, 3).flatten(3)[:, None]
    moved = (values @ side).view(*values.shape[:-1], -1, size)
    # rounding may put a square under 0
    squares: Tensor = moved.mul_(values[..., None, :]).sum(-1).clamp_(min=0.0)
    return squares.sqrt_().transpose(-1, -2).flatten(2, 3)
