"""Encoding walk: the way of a position's residual from the embedding to the output, beside random ways.

Tables ``encoding_walk`` (a row a position) and ``encoding_steps`` (a row a layer and kind of step). Steps are
what attention and MLP of a block add to the stream, and both together. "Straight" means little in hundreds of
dimensions, where random steps stand at right angles: so straightness stands beside that of orthogonal steps
of the same lengths, and turning beside that of the same steps in random orders, which have the same length
and displacement.

Source: elimtool's own definitions, after the walks of Singh 2023 (arXiv 2308.10874); massive activations as
Sun et al. 2024 (arXiv 2402.17762).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from elimtool.metrics.carried_vectors import CarriedRows
from elimtool.metrics.columns import Categorical, Columns, null_where, place
from elimtool.metrics.metric import Here, Metric, Settings
from elimtool.model.affine import close, wide
from elimtool.model.decomposition import MORE, UNSEEN
from elimtool.model.view import Batch, LayerView
from elimtool.numerics.transfer import sent
from elimtool.run.rules import MASSIVE_RATIO, MASSIVE_SIZE

ORDERS = 200
"""Random orders of the steps."""
WITHIN = 0.95
"""Share of them between the ends of the null."""
KINDS = ("attention", "mlp", "block")

Vectors = Float[Tensor, "rows width"]
Numbers = Float64[Tensor, "*rows"]


class EncodingWalk(Metric):
    """Measures the steps of every block at the probed positions, and the walks that they make."""

    needs: frozenset[str] = frozenset({"attention", "block", "typical", "values"})
    tables: ClassVar[tuple[str, ...]] = ("encoding_walk", "encoding_steps")

    def __init__(self, batch: Batch, settings: Settings) -> None:
        super().__init__(batch, settings)
        self.start: Tensor | None = None
        self.before: Tensor | None = None
        self.massive: Tensor | None = None
        self.last: dict[str, Tensor] = {}
        self.steps: list[Tensor] = []
        self.own: list[Tensor] = []
        self.layers: list[dict[str, list[Tensor]]] = []
        self.unsplit: list[tuple[Tensor, Callable[[], str]]] = []

    @torch.inference_mode()
    def observe(self, view: LayerView) -> None:
        """Keep the step of a block, and measure its parts."""
        after = wide(self.batch.real(view.residual))
        assert view.typical is not None
        size, typical = after.abs().amax(-1), view.typical[self.batch.rows[0]]
        massive = size > (MASSIVE_RATIO * typical).clamp(min=MASSIVE_SIZE)
        self.massive = massive if self.massive is None else self.massive | massive
        if self.before is None:
            self.start = after
        else:
            self._take(view, self.before, after)
        self.before = after

    def _take(self, view: LayerView, before: Vectors, after: Vectors) -> None:
        """Measure a block's steps."""
        step = after - before
        parts = self._parts(view, before, after)
        parallel = view.carried is not None and view.carried.parallel
        middle = before if parallel else before + parts["attention"]
        entered = {"attention": before, "mlp": middle, "block": before}
        unknown = torch.full_like(step, torch.nan)
        previous = {"block": self.last.get("block", unknown)}
        # two halves that read one residual are no steps after each other
        previous["attention"] = unknown if parallel else self.last.get("mlp", unknown)
        previous["mlp"] = unknown if parallel else parts["attention"]
        found: dict[str, list[Tensor]] = {"step_length": [], "cos_previous": [], "cos_residual": []}
        for kind in KINDS:
            one = parts.get(kind, step)
            found["step_length"].append(length(one))
            found["cos_previous"].append(cosine(previous[kind], one))
            found["cos_residual"].append(cosine(entered[kind], one))
        self.layers.append(found)
        self.own.append(self._own(view))
        self.steps.append(step)
        self.last = {"mlp": parts["mlp"], "block": step}

    def _parts(self, view: LayerView, before: Vectors, after: Vectors) -> dict[str, Vectors]:
        """Return what attention and MLP add; NaN where that is not known, or not what the block does."""
        block = view.block
        added = None if block is None else block.added()
        if block is None or added is None:
            unknown = torch.full_like(before, torch.nan)
            self.unsplit.append((unknown[:, 0].isnan(), lambda: UNSEEN))
            return {"attention": unknown, "mlp": unknown}
        first, second = (self.batch.real(one) for one in added)
        larger = torch.maximum(before.abs(), after.abs())  # rounding is of the size of the stream
        whole = close(first + second, after - before, larger, view.residual.dtype)
        flaw = block.flaw
        self.unsplit.append((~whole, lambda: (None if flaw is None else flaw()) or MORE))
        return {
            "attention": first.where(whole[:, None], torch.nan),
            "mlp": second.where(whole[:, None], torch.nan),
        }

    def _own(self, view: LayerView) -> Numbers:
        """Return the length of what attention adds from the position itself; NaN where it is not known."""
        carried, places = view.carried, self.batch.positions
        found = torch.full(places.shape, torch.nan, dtype=torch.float64, device=places.device)
        if carried is not None:
            nobody = (False,) * len(self.batch.encoded)
            for some, weights in view.attention_parts():
                one = CarriedRows([carried], weights[None], places[:, some], some, nobody)
                found[:, some] = length(one.own[0]).where(one.rebuilt[0], torch.nan)
        return found[self.batch.rows]

    @torch.inference_mode()
    def end(self) -> None:
        """Sum the walks up, and bring the numbers."""
        if self.start is None or self.before is None or self.massive is None or not self.layers:
            return
        steps = {  # [rows, layers, kinds]
            name: torch.stack([torch.stack(one[name], -1) for one in self.layers], 1)
            for name in self.layers[0]
        }
        steps["radial"] = steps["cos_residual"].square()
        walk = walked(steps["step_length"], torch.stack(self.own, 1), steps["radial"][..., 2])
        walk["displacement"] = length(self.before - self.start)
        # rounding can push a straight walk past 1
        walk["straightness"] = (walk["displacement"] / walk["length_blocks"]).clamp(max=1.0)
        walk["straightness_ratio"] = walk["straightness"] / walk["straightness_null"]
        walk["radial_null"] = torch.full_like(walk["straightness"], 1 / self.start.shape[-1])
        walk |= self._turning()
        marks = {"massive": self.massive, "unsplit": torch.stack([one for one, _ in self.unsplit], 1)}
        whys = [why for _, why in self.unsplit]
        self.bring(walk | marks, lambda here: {"encoding_walk": self._walk_columns(dict(here), whys)})
        self.bring(steps, lambda here: {"encoding_steps": self._step_columns(here)})
        self.start = self.before = None
        for kept in (self.steps, self.own, self.layers, self.unsplit, self.last):
            kept.clear()

    def _turning(self) -> dict[str, Numbers]:
        """Compare each step with the next, and the same steps in random orders; some rows at a time."""
        n_rows, n_layers = len(self.steps[0]), len(self.steps)
        orders = sent(random_orders(n_layers), self.steps[0].device)
        each = max(orders.numel(), n_layers * self.steps[0].shape[-1])
        chunk = max(1, self.settings.held_numbers // each)
        found = [
            turning(torch.stack([one[start : start + chunk] for one in self.steps], 1), orders)
            for start in range(0, n_rows, chunk)
        ]
        return {name: torch.cat([one[name] for one in found]) for name in found[0]}

    def _walk_columns(self, numbers: dict[str, Any], whys: Sequence[Callable[[], str]]) -> Columns:
        largest, unsplit = numbers["largest_step_layer"], numbers.pop("unsplit")
        still = np.isnan(largest)
        numbers["largest_step_layer"] = null_where(np.where(still, 0, largest).astype(np.int32), still)
        reasons = [
            f"layer {layer}: {why()}" if unsplit[:, layer].any() else None for layer, why in enumerate(whys)
        ]
        first = np.where(unsplit.any(1), unsplit.argmax(1), len(reasons))
        return {
            **place(self.batch, self.batch.rows),
            **numbers,
            "undecomposed": Categorical([*reasons, None], first),
        }

    def _step_columns(self, numbers: Here) -> Columns:
        row, layer, kind = np.indices(numbers["radial"].shape).reshape(3, -1)
        return {
            **place(self.batch, self.batch.rows, row),
            "layer": layer.astype(np.int32),
            "kind": Categorical(KINDS, kind),
            **{name: one.flatten() for name, one in numbers.items()},
        }


def walked(
    steps: Float64[Tensor, "rows layers kinds"],
    own: Float64[Tensor, "rows layers"],
    radial: Float64[Tensor, "rows layers"],
) -> dict[str, Numbers]:
    """Sum the steps of each walk up.

    Args:
        steps: Their lengths, of each of ``KINDS``.
        own: Lengths of what attention adds from the position itself.
        radial: Share of the squared length of each block's step that is along the residual.

    Returns:
        Columns by name; NaN where a part is not known, or where nothing moves.
    """
    attention, mlp, block = steps.unbind(-1)
    whole, halves = block.sum(-1), attention.sum(-1) + mlp.sum(-1)
    largest, layer = block.max(-1)
    moves = whole > 0
    return {
        "length": halves,
        "length_blocks": whole,
        "straightness_null": torch.linalg.vector_norm(block, dim=-1) / whole,
        "radial_share": radial.mean(-1),
        "aggregation_share": attention.sum(-1) / halves,
        "self_share": own.sum(-1) / attention.sum(-1),
        "largest_step_layer": layer.double().where(moves, torch.nan),
        "largest_step_share": largest / whole,
    }


def turning(
    steps: Float[Tensor, "rows layers width"], orders: Int[Tensor, "orders layers"]
) -> dict[str, Numbers]:
    """Compare the direction of each step with the next one's, as they come and in other orders.

    Returns:
        Mean cosine of steps that follow each other, and ends of the middle ``WITHIN`` of this mean over the
        orders; NaN for fewer than two steps and where a step is 0.
    """
    moved = steps.double()
    unit = moved / torch.linalg.vector_norm(moved, dim=-1, keepdim=True)
    gram = (unit @ unit.transpose(1, 2)).clamp(-1, 1)
    ends = sent(torch.tensor([(1 - WITHIN) / 2, (1 + WITHIN) / 2], dtype=torch.float64), moved.device)
    others = gram[:, orders[:, :-1], orders[:, 1:]].mean(-1)
    low, high = others.quantile(ends, dim=-1)
    own = gram.diagonal(1, 1, 2).mean(-1)
    return {"turning": own, "turning_null_low": low, "turning_null_high": high}


def random_orders(count: int) -> Int[Tensor, "orders count"]:
    """Draw orders of some steps, the same ones at every call: a row does not depend on its batch."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(ORDERS, count, generator=generator).argsort(-1)


def length(vectors: Float[Tensor, "*rows width"]) -> Numbers:
    """Return the Euclidean norms."""
    found: Tensor = torch.linalg.vector_norm(vectors, dim=-1, dtype=torch.float64)
    return found


def cosine(one: Float[Tensor, "*rows width"], other: Float[Tensor, "*rows width"]) -> Numbers:
    """Return the cosines; NaN where either is 0."""
    product = (one.double() * other.double()).sum(-1)
    return (product / (length(one) * length(other))).clamp(-1, 1)
