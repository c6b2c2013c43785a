"""Form what layers carry from single keys, and measure each such vector against the step's result.

These products take most of the time of ``elimtool.metrics.carried_vectors``: keys times all weights of the
output projections. So what else goes through a projection goes while it is in the processor's cache, and
short prompts' layers are measured several at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from elimtool.model.output_map import OutputMap
from elimtool.numerics.transfer import roomy, sent

CACHED_NUMBERS = 2**17
"""Numbers in the vectors of keys that are formed at a time: they stay in a processor's cache."""


class Mapped(NamedTuple):
    """What went through the output projections.

    Attributes:
        back: The result's direction, carried back to the heads.
        apart: What the heads gather in two parts, carried to the stream, but for the scale.
        taken: q of each key, see ``taken_and_length``; NaN where no vectors are formed.
        length: 2-norm of each key's vector; likewise.
    """

    back: Float[Tensor, "layers batch probes inner"]
    apart: Float[Tensor, "layers batch probes two width"]
    taken: Float[Tensor, "layers batch probes keys"]
    length: Float[Tensor, "layers batch probes keys"]


class _Group(NamedTuple):
    """Queries (prompts and probes, in pairs) and keys whose vectors are formed at a time."""

    prompts: Int[Tensor, "pairs"]
    probes: Int[Tensor, "pairs"]
    keys: slice

    @property
    def rows(self) -> int:
        """Number of vectors; the first group has most."""
        keys: int = self.keys.stop - self.keys.start
        return len(self.prompts) * keys


@dataclass(frozen=True, slots=True)
class KeyRows:
    """What goes into the output projections from each key.

    Attributes:
        weights: Attention weights times each query's scale.
        values: v_j of each group of heads.
        gate: a_i of each head; ``None`` without.
        result: The result that vectors are measured against.
        vectors: For which prompts to form them.
    """

    weights: Float[Tensor, "layers batch heads probes keys"]
    values: Float[Tensor, "layers batch groups keys size"]
    gate: Float[Tensor, "layers batch probes heads size"] | None
    result: Float[Tensor, "layers batch probes width"]
    vectors: tuple[bool, ...]

    def groups(self) -> list[_Group]:
        """Divide queries and keys; one group without keys where no vectors are formed."""
        there = self.weights.device
        keys, most = self.weights.shape[-1], max(1, cached(there) // self.result.shape[-1])
        asked = [one for one, formed in enumerate(self.vectors) if formed]
        if not asked:
            nobody = torch.zeros(1, dtype=torch.long, device=there)
            return [_Group(nobody, nobody, slice(0, 0))]
        pairs = torch.tensor(list(product(asked, range(self.weights.shape[3]))))
        prompts, probes = sent(pairs.T.contiguous(), there)
        size = max(1, most // keys)
        return [
            _Group(
                prompts[start : start + size],
                probes[start : start + size],
                slice(first, min(keys, first + most)),
            )
            for start, first in product(range(0, len(pairs), size), range(0, keys, most))
        ]

    def of(
        self,
        some: slice,
        group: _Group,
        more: Float[Tensor, "layers more inner"],
        room: Float[Tensor, "most"],
    ) -> Float[Tensor, "layers rows inner"]:
        """Weigh the values of some keys for some queries of some layers, and put more rows behind them."""
        prompts, probes, keys = group
        groups = self.values.shape[2]
        weights = self.weights[some, prompts, :, probes, keys].movedim(0, 1)  # pairs come first
        values = self.values[some, prompts, :, keys].transpose(2, 3)
        layers, count, heads, n_keys = weights.shape
        grouped = weights.transpose(2, 3).reshape(layers, count, n_keys, groups, heads // groups, 1)
        whole = _within(room, layers, group.rows + more.shape[1], more.shape[2])
        whole[:, group.rows :] = more
        each = whole[:, : group.rows].view(*grouped.shape[:-1], values.shape[-1])
        torch.mul(grouped, values[..., None, :], out=each)
        if self.gate is not None:
            each *= self.gate[some, prompts, probes].view(layers, count, 1, groups, heads // groups, -1)
        return whole

    def measured(
        self,
        some: slice,
        group: _Group,
        vectors: Float[Tensor, "layers rows width"],
        room: Float[Tensor, "most"],
    ) -> tuple[Float[Tensor, "layers pairs keys"], Float[Tensor, "layers pairs keys"]]:
        """Measure vectors of some layers, which are overwritten."""
        each = vectors.view(len(vectors), len(group.prompts), -1, vectors.shape[-1])
        result = self.result[some, group.prompts, group.probes][:, :, None]
        length = torch.linalg.vector_norm(each, dim=-1)
        sign, twice = torch.ones_like(result).copysign(result), 2.0 * result.abs()
        return distance(each, sign, twice, _within(room, *each.shape)), length


def mapped(
    outputs: Sequence[OutputMap],
    rows: KeyRows,
    scale: Float[Tensor, "layers batch probes"],
    apart: Float[Tensor, "layers batch probes two inner"],
) -> Mapped:
    """Carry everything through the output projections, layer by layer.

    Args:
        outputs: The projections.
        rows: What comes from single keys.
        scale: Scale of each query.
        apart: What the heads gather, in two parts.
    """
    toward, width = rows.result * scale[..., None], rows.result.shape[-1]
    back, both = torch.empty_like(apart[..., 0, :]), apart.new_empty(*apart.shape[:-1], width)
    taken = toward.new_full((*toward.shape[:-1], rows.weights.shape[-1]), torch.nan)
    length, groups = torch.full_like(taken, torch.nan), rows.groups()
    together = _together(outputs, groups, width, rows.weights.device)
    # pages of new memory would cost more than what is written to them
    beside = apart.flatten(1, -2)
    most = groups[0].rows + beside.shape[1]
    rooms = toward.new_empty(3, len(outputs[together[0]]) * most * max(width, apart.shape[-1]))
    for some in together:
        maps = [one.whole for one in outputs[some]]
        for group in groups:
            first = group is groups[0]
            given = rows.of(some, group, beside[some] if first else beside[some, :0], rooms[0])
            vectors = _within(rooms[1], *given.shape[:2], width)
            for layer, flat in enumerate(maps):
                torch.mm(given[layer], flat.T, out=vectors[layer])
                if first:
                    torch.matmul(toward[some][layer], flat, out=back[some][layer])
            if first:
                both[some] = vectors[:, group.rows :].view(both[some].shape)
            at = some, group.prompts, group.probes, group.keys
            taken[at], length[at] = rows.measured(some, group, vectors[:, : group.rows], rooms[2])
    return Mapped(back, both, taken.double(), length.double())


def _together(
    outputs: Sequence[OutputMap], groups: Sequence[_Group], width: int, device: torch.device
) -> list[slice]:
    """Choose layers to measure together: several if few keys leave room, and no map has to be made."""
    few = len(groups) == 1 and all(one.plain for one in outputs)
    return chunks(len(outputs), max(1, groups[0].rows) * width if few else cached(device), device)


def _within(room: Float[Tensor, "most"], *shape: int) -> Tensor:
    """Return the beginning of some memory as a tensor."""
    return room[: math.prod(shape)].view(shape)


def cached(device: torch.device) -> int:
    """Return how many numbers to form at a time."""
    return roomy(CACHED_NUMBERS, device)


def chunks(layers: int, numbers: int, device: torch.device) -> list[slice]:
    """Cut layers into as many together as stay in a processor's cache, given the numbers of one."""
    step = max(1, cached(device) // numbers)
    return [slice(start, start + step) for start in range(0, layers, step)]


def taken_and_length(
    parts: Float[Tensor, "*some width"], result: Float[Tensor, "*some width"]
) -> tuple[Float[Tensor, "*some"], Float[Tensor, "*some"]]:
    """Return q = max(0, |y|_1 - |y - part|_1) of parts, and their 2-norms, in float64."""
    length = torch.linalg.vector_norm(parts, dim=-1).double()
    sign = torch.ones_like(result).copysign(result)
    return distance(parts.clone(), sign, 2.0 * result.abs(), torch.empty_like(parts)).double(), length


def distance(
    parts: Float[Tensor, "*some width"],
    sign: Float[Tensor, "*any width"],
    twice: Float[Tensor, "*any width"],
    room: Float[Tensor, "*some width"],
) -> Float[Tensor, "*some"]:
    """Return max(0, |y|_1 - |y - part|_1) of parts, which are overwritten.

    |y| - |y - p| is min(z, 2 |y| - z) with z = p sign(y), in which nothing cancels where p is small.

    Args:
        parts: The parts.
        sign: Signs of y.
        twice: 2 |y|.
        room: Memory that is overwritten, too.
    """
    signed = parts.mul_(sign)
    opposed = torch.sub(twice, signed, out=room)
    return torch.minimum(signed, opposed, out=opposed).sum(-1).clamp(min=0.0)
