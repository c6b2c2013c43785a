"""Attention retention: how much of each probed query's attention goes to every span of the prompt.

Tables ``attention``, ``attention_heads`` and ``attention_layers``. Masses are sums of the attention weights
of one query, with the sinks as a span of their own, and again without the sinks, renormalised. Mass and lift
over uniform are standard; the elimination rule applies the threshold of BLASST (arXiv 2512.12087), which
scales with context length, to rows without sinks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from elimtool.metrics.attention_sums import ELIMINATED_BELOW, WHOLES, AttentionSums
from elimtool.metrics.columns import Categorical, Cells, Columns, join, null_where
from elimtool.metrics.metric import Metric, Settings
from elimtool.model.view import Batch, LayerView
from elimtool.prompts.prompt import NULL, SINK

RULE = f"lt_{ELIMINATED_BELOW}_uniform"

Numbers = np.ndarray[Any, np.dtype[Any]]
Summed = tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]


class AttentionRetention(Metric):
    """Reduces attention rows [heads, probes, keys] to masses of spans.

    Several layers at a time if they have few rows, some probes at a time if they have many.
    """

    needs: frozenset[str] = frozenset({"attention"})
    tables: ClassVar[tuple[str, ...]] = ("attention", "attention_heads", "attention_layers")

    def __init__(self, batch: Batch, settings: Settings) -> None:
        super().__init__(batch, settings)
        self.single = settings.heads and settings.wants("attention_heads")
        keys = batch.ids.shape[1]
        # float, as sums over spans are matrix products
        most = max(len(one.spans) for one in batch.encoded)
        self.members = torch.zeros(len(batch.encoded), most, keys, device=batch.ids.device)
        self.sink = torch.zeros(len(batch.encoded), keys, dtype=torch.bool, device=batch.ids.device)
        for row, one in enumerate(batch.encoded):
            self.sink[row, list(one.sinks)] = True
            for index, span in enumerate(one.spans):
                self.members[row, index, list(span.tokens)] = 1.0
        self.layers: list[int] = []
        self.nulls: list[bool] = []  # which of the layers give attention to no key
        self.without: dict[int, str | None] = {}
        self.waiting: list[tuple[Tensor, Tensor]] = []
        self.spans: list[Columns] = []
        self.heads: list[Columns] = []
        self.whole: list[Columns] = []

    def observe(self, view: LayerView) -> None:
        """Keep one layer's rows; they are summed over spans when enough of them wait."""
        if view.visible is None:
            if view.layer >= 0:
                self.without[view.layer] = view.no_weights
            return
        if view.attention is None:
            self._in_parts(view, view.visible)
            return
        if self.waiting and self.waiting[0][0].shape != view.attention.shape:  # cannot be stacked
            self._flush()
        self.layers.append(view.layer)
        self.nulls.append(view.null)
        self.waiting.append((view.attention, view.visible))
        if (len(self.waiting) + 1) * view.attention.numel() > self.settings.held_numbers:
            self._flush()

    @torch.inference_mode()
    def _flush(self) -> None:
        """Sum the waiting layers' rows over spans."""
        if not self.waiting:
            return
        weights, visible = (torch.stack(part) for part in zip(*self.waiting, strict=True))
        self.waiting.clear()
        self._keep(self._summed(weights, visible, self.batch.positions))

    def _in_parts(self, view: LayerView, visible: Bool[Tensor, "batch probes keys"]) -> None:
        """Sum one layer's rows over spans, some probes at a time."""
        found = [
            self._summed(
                weights[None], visible[None, :, some, : weights.shape[-1]], self.batch.positions[:, some]
            )
            for some, weights in view.attention_parts()
        ]
        if not found:
            return
        self._flush()
        self.layers.append(view.layer)
        self.nulls.append(view.null)
        probes = (2, 2, 3)  # their axis in each of the three kinds: layers, batch, then heads if any
        spans, whole, heads = (
            {key: torch.cat([one[key] for one in kind], axis) for key in kind[0]}
            for kind, axis in zip(zip(*found, strict=True), probes, strict=True)
        )
        self._keep((spans, whole, heads))

    def _keep(self, summed: Summed) -> None:
        for kept, found in zip((self.spans, self.whole, self.heads), summed, strict=True):
            kept.append({name: values.cpu().numpy() for name, values in found.items()})

    @torch.inference_mode()
    def _summed(
        self,
        weights: Float[Tensor, "layers batch heads probes keys"],
        visible: Bool[Tensor, "layers batch probes keys"],
        positions: Int[Tensor, "batch probes"],
    ) -> Summed:
        """Return columns of spans [layers, batch, probes, ...], of whole rows, and of heads on an axis."""
        keys = weights.shape[-1]
        rows = AttentionSums.of(weights, visible, self.members[..., :keys], self.sink[:, :keys])
        heads: dict[str, Tensor] = {}
        if self.single:
            lift = rows.mass * (rows.n_keys[..., None] / rows.sizes)[:, :, None]
            heads = {"mass": rows.mass, "lift": lift, "mass_no_sink": rows.mass_no_sink}
        heads["null"] = rows.null()
        return rows.spans(), rows.wholes(self.sink, positions), heads

    def finish(self) -> dict[str, Columns]:
        """Return columns of the three tables."""
        self._flush()
        filled = {"attention_layers": self._layer_columns()}
        if self.layers:
            filled["attention"] = self._span_columns()
        if self.layers and self.single:
            filled["attention_heads"] = self._head_columns()
        return filled

    def _place(self, cells: Cells, layers: Sequence[int]) -> dict[str, Any]:
        """Return prompt, position and layer of cells whose first axes are prompts, probes and layers."""
        more = (1,) * (len(cells.shape) - 3)
        prompt = np.arange(len(self.batch.encoded), dtype=np.int32)
        positions = self.batch.positions.cpu().numpy().astype(np.int32)
        return {
            "prompt_id": Categorical(
                [one.prompt_id for one in self.batch.encoded], cells.of(prompt.reshape(-1, 1, 1, *more))
            ),
            "position": cells.of(positions.reshape(*positions.shape, 1, *more)),
            "layer": cells.of(np.array(layers, np.int32).reshape(-1, *more)),
        }

    def _spans(self) -> tuple[list[str], Numbers, Numbers]:
        """Return names of all spans, indices of each prompt's [batch, spans], and which of these exist."""
        counts = np.array([len(one.spans) for one in self.batch.encoded])
        each = np.arange(self.members.shape[1], dtype=np.int32)
        starts = (counts.cumsum() - counts).astype(np.int32)
        names = [span.name for one in self.batch.encoded for span in one.spans]
        return names, (starts[:, None] + each).clip(max=len(names) - 1), each < counts[:, None]

    def _span_columns(self) -> Columns:
        names, code, real = self._spans()
        found = {key: np.moveaxis(array, 0, 2) for key, array in _whole(self.spans).items()}
        probed = self.batch.probed.cpu().numpy()[:, :, None, None]
        cells = Cells(probed & real[:, None, None], found["mass"].shape)
        n_keys = found.pop("n_keys")[..., None]
        absent = found["span_size"] == 0
        for key in ("mass_no_sink", "lift_no_sink"):
            found[key] = _without_sink(found[key], names, code[:, None, None])
        found["span_size"] = found["span_size"].astype(np.int32)
        values = {key: cells.of(array) for key, array in found.items()}
        values["mass_max_head"] = null_where(values["mass_max_head"], cells.of(absent))
        columns = {
            **self._place(cells, self.layers),
            "span": Categorical(names, cells.of(code[:, None, None])),
            "n_keys": cells.of(n_keys.astype(np.int32)),
            **values,
        }
        return self._with_null(columns, self._null_of_spans(n_keys)) if any(self.nulls) else columns

    def _null_mass(self) -> Numbers:
        """Return what each head gives to no key: [batch, probes, layers, heads]."""
        return _whole(self.heads)["null"].transpose(1, 3, 0, 2)

    def _null_of_spans(self, n_keys: Numbers) -> Columns:
        mass = self._null_mass()
        cells = Cells(self._null_cells()[..., None], (*mass.shape[:3], 1))
        unknown = np.full(mass.shape[:3], np.nan)
        values = {
            "n_keys": n_keys[..., 0].astype(np.int32),
            "span_size": np.zeros(mass.shape[:3], dtype=np.int32),
            "mass": mass.mean(-1),
            "mass_max": mass.max(-1),
            "mass_max_head": mass.argmax(-1),
            **dict.fromkeys(("lift", "mass_no_sink", "lift_no_sink"), unknown),
        }
        return self._null_columns(cells, {name: array[..., None] for name, array in values.items()})

    def _null_of_heads(self) -> Columns:
        mass = self._null_mass()
        cells = Cells(self._null_cells()[..., None, None], (*mass.shape, 1))
        unknown = np.full(mass.shape, np.nan)
        head = np.broadcast_to(np.arange(mass.shape[-1], dtype=np.int32), mass.shape)
        values = {"head": head, "mass": mass, "lift": unknown, "mass_no_sink": unknown}
        return self._null_columns(cells, {name: array[..., None] for name, array in values.items()})

    def _null_cells(self) -> Numbers:
        """Tell which [batch, probes, layers] are there and have attention to no key."""
        cells: Numbers = self.batch.probed.cpu().numpy()[:, :, None] & np.array(self.nulls)
        return cells

    def _null_columns(self, cells: Cells, values: Mapping[str, Numbers]) -> Columns:
        found = {name: cells.of(array) for name, array in values.items()}
        span = Categorical([NULL], np.zeros(len(found["mass"]), dtype=np.int32))
        return {**self._place(cells, self.layers), "span": span, **found}

    def _with_null(self, columns: Columns, null: Columns) -> Columns:
        """Add rows of ``NULL`` behind the other spans of their query, layer and head."""
        whole = join([columns, null])
        by = [whole["prompt_id"].codes % len(self.batch.encoded), whole["position"], whole["layer"]]
        by += [whole["head"]] if "head" in whole else []
        order = np.lexsort(by[::-1])  # stable: spans stay in order
        return {name: values[order] for name, values in whole.items()}

    def _head_columns(self) -> Columns:
        names, code, real = self._spans()
        each = {key: array for key, array in _whole(self.heads).items() if key != "null"}
        found = {key: array.transpose(1, 3, 0, 2, 4) for key, array in each.items()}
        probed = self.batch.probed.cpu().numpy()[:, :, None, None, None]
        cells = Cells(probed & real[:, None, None, None], found["mass"].shape)
        code = code[:, None, None, None]
        found["mass_no_sink"] = _without_sink(found["mass_no_sink"], names, code)
        head = np.arange(cells.shape[3], dtype=np.int32)
        columns = {
            **self._place(cells, self.layers),
            "head": cells.of(head[:, None]),
            "span": Categorical(names, cells.of(code)),
            **{key: cells.of(array) for key, array in found.items()},
        }
        return self._with_null(columns, self._null_of_heads()) if any(self.nulls) else columns

    def _layer_columns(self) -> Columns:
        layers = np.array([*self.layers, *self.without], dtype=np.int32)
        order = layers.argsort(kind="stable")
        shape = (*self.batch.probed.shape, len(layers))
        cells = Cells(self.batch.probed.cpu().numpy()[:, :, None], shape)
        found = _whole(self.whole) if self.whole else {}
        absent = np.full((len(self.without), *shape[:2]), np.nan, dtype=np.float32)
        whole = {key: np.concatenate([found[key], absent]) if found else absent for key in WHOLES}
        values = {key: cells.of(np.moveaxis(array, 0, 2)[..., order]) for key, array in whole.items()}
        code = cells.of(np.arange(len(layers))[None, None])
        whys = [self.without.get(layer) for layer in layers[order].tolist()]
        rule = Categorical([RULE if why is None else None for why in whys], code)
        why = Categorical(whys, code)
        place = self._place(cells, layers[order].tolist())
        return {**place, **values, "rule": rule, "no_weights": why}


def _whole(parts: Sequence[Mapping[str, Numbers]]) -> Mapping[str, Numbers]:
    """Join arrays of some layers each to arrays of all."""
    if len(parts) == 1:
        return parts[0]
    return {key: np.concatenate([one[key] for one in parts]) for key in parts[0]}


def _without_sink(values: Numbers, names: Sequence[str], code: Numbers) -> Numbers:
    """Put NaN where the span is the sink itself; ``code`` has the index of each value's name, broadcast."""
    return np.where(np.array([name == SINK for name in names])[code], np.nan, values)
