"""Build the columns of attention's tables from the sums of all layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from elimtool.metrics.attention_reduced import LayerFacts, Numbers, Reduced
from elimtool.metrics.attention_sums import ELIMINATED_BELOW
from elimtool.metrics.carried_sums import PARTS, SHARES, SPANS
from elimtool.metrics.carried_sums import WHOLES as CARRIED
from elimtool.metrics.columns import Categorical, Cells, Columns, join, null_where
from elimtool.model.carried import NOT_REBUILT
from elimtool.model.view import Batch
from elimtool.prompts.prompt import NULL, SINK

RULE = f"lt_{ELIMINATED_BELOW}_uniform"

COUNTS = ("context_90", "context_90_even")


class AttentionColumns:
    """Builds columns of tables.

    Args:
        batch: The batch.
        layers: Its layers in order.
        found: Numbers of the layers with attention weights, in their order; ``None`` where none has any.
        most: Number of spans, padded.
    """

    def __init__(self, batch: Batch, layers: Sequence[LayerFacts], found: Reduced | None, most: int) -> None:
        self.batch = batch
        self.every = layers
        self.facts = [one for one in layers if one.no_weights is None]
        self.found = found
        self.most = most
        self.probed: Numbers = batch.here["probed"]

    @cached_property
    def flawed(self) -> list[str | None]:
        """Why the parts of each layer with weights are not known; ``None`` if they are."""
        return [one.unread or (None if one.flaw is None else one.flaw()) for one in self.facts]

    def _masked(self, name: str, values: Numbers) -> Numbers:
        """Make numbers of what is carried NaN in layers with a flaw; layers are the first axis."""
        if name not in (*SPANS, *CARRIED, "others") or not any(self.flawed):
            return values
        bad = np.array([why is not None for why in self.flawed])
        return np.where(bad.reshape(-1, *(1,) * (values.ndim - 1)), np.nan, values)

    def _place(self, cells: Cells, layers: Sequence[int]) -> dict[str, Any]:
        """Return prompt, position and layer of cells whose first axes are prompts, probes and layers."""
        more = (1,) * (len(cells.shape) - 3)
        prompt = np.arange(len(self.batch.encoded), dtype=np.int32)
        positions = self.batch.here["positions"].astype(np.int32)
        return {
            "prompt_id": Categorical(
                [one.prompt_id for one in self.batch.encoded], cells.of(prompt.reshape(-1, 1, 1, *more))
            ),
            "position": cells.of(positions.reshape(*positions.shape, 1, *more)),
            "layer": cells.of(np.array(layers, np.int32).reshape(-1, *more)),
        }

    @property
    def _numbers(self) -> list[int]:
        return [one.layer for one in self.facts]

    @property
    def _nulls(self) -> list[bool]:
        return [one.null for one in self.facts]

    def _spans(self) -> tuple[list[str], Numbers, Numbers]:
        """Return names of all spans, indices of each prompt's [batch, spans], and which of these exist."""
        counts = np.array([len(one.spans) for one in self.batch.encoded])
        each = np.arange(self.most, dtype=np.int32)
        starts = (counts.cumsum() - counts).astype(np.int32)
        names = [span.name for one in self.batch.encoded for span in one.spans]
        return names, (starts[:, None] + each).clip(max=len(names) - 1), each < counts[:, None]

    def spans(self) -> Columns:
        """Return columns of table ``attention``."""
        assert self.found is not None
        names, code, real = self._spans()
        found = {
            key: np.moveaxis(self._masked(key, array), 0, 2)
            for key, array in self.found.spans.items()
            if key != "length"
        }
        cells = Cells(self.probed[:, :, None, None] & real[:, None, None], found["mass"].shape)
        n_keys = found.pop("n_keys")[..., None]
        absent = found["span_size"] == 0
        for key in ("mass_no_sink", "lift_no_sink"):
            found[key] = _without_sink(found[key], names, code[:, None, None])
        found["span_size"] = found["span_size"].astype(np.int32)
        values = {key: cells.of(array) for key, array in found.items()}
        values["mass_max_head"] = null_where(values["mass_max_head"], cells.of(absent))
        columns = {
            **self._place(cells, self._numbers),
            "span": Categorical(names, cells.of(code[:, None, None])),
            "n_keys": cells.of(n_keys.astype(np.int32)),
            **values,
        }
        return self._with_null(columns, self._null_of_spans(n_keys)) if any(self._nulls) else columns

    def _null_mass(self) -> Numbers:
        """Return what each head gives to no key: [batch, probes, layers, heads]."""
        assert self.found is not None
        mass: Numbers = self.found.each["null"].transpose(1, 3, 0, 2)
        return mass

    def _nothing(self, name: str) -> Numbers:
        """Return 0 where the parts of a row are known, of which none comes from no key; else NaN."""
        assert self.found is not None
        array = self.found.spans[name]
        found = np.moveaxis(self._masked(name, array), 0, 2)
        return np.where(np.isnan(found).all(-1), np.nan, 0.0)

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
            **{name: self._nothing(name) for name in SPANS if name != "length"},
        }
        return self._null_columns(cells, {name: array[..., None] for name, array in values.items()})

    def _null_of_heads(self) -> Columns:
        mass = self._null_mass()
        cells = Cells(self._null_cells()[..., None, None], (*mass.shape, 1))
        unknown = np.full(mass.shape, np.nan)
        head = np.broadcast_to(np.arange(mass.shape[-1], dtype=np.int32), mass.shape)
        values = {"head": head, "mass": mass, "lift": unknown, "mass_no_sink": unknown}
        values["norm_share"] = np.broadcast_to(self._nothing("norm_share")[..., None], mass.shape)
        return self._null_columns(cells, {name: array[..., None] for name, array in values.items()})

    def _null_cells(self) -> Numbers:
        """Tell which [batch, probes, layers] are there and have attention to no key."""
        cells: Numbers = self.probed[:, :, None] & np.array(self._nulls)
        return cells

    def _null_columns(self, cells: Cells, values: Mapping[str, Numbers]) -> Columns:
        found = {name: cells.of(array) for name, array in values.items()}
        span = Categorical([NULL], np.zeros(len(next(iter(found.values()))), dtype=np.int32))
        return {**self._place(cells, self._numbers), "span": span, **found}

    def _with_null(self, columns: Columns, null: Columns) -> Columns:
        """Add rows of ``NULL`` behind the other spans of their query, layer and head."""
        whole = join([columns, null])
        by = [whole["prompt_id"].codes % len(self.batch.encoded), whole["position"], whole["layer"]]
        by += [whole["head"]] if "head" in whole else []
        order = np.lexsort(by[::-1])  # stable: spans stay in order
        return {name: values[order] for name, values in whole.items()}

    def heads(self) -> Columns:
        """Return columns of table ``attention_heads``."""
        assert self.found is not None
        names, code, real = self._spans()
        found = {
            key: self._masked(key, array).transpose(1, 3, 0, 2, 4) for key, array in self.found.heads.items()
        }
        cells = Cells(self.probed[:, :, None, None, None] & real[:, None, None, None], found["mass"].shape)
        code = code[:, None, None, None]
        found["mass_no_sink"] = _without_sink(found["mass_no_sink"], names, code)
        head = np.arange(cells.shape[3], dtype=np.int32)
        columns = {
            **self._place(cells, self._numbers),
            "head": cells.of(head[:, None]),
            "span": Categorical(names, cells.of(code)),
            **{key: cells.of(array) for key, array in found.items()},
        }
        return self._with_null(columns, self._null_of_heads()) if any(self._nulls) else columns

    def contexts(self) -> Columns:
        """Return columns of table ``head_context``."""
        assert self.found is not None
        found = {
            "null_mass" if key == "null" else key: self._masked(key, array).transpose(1, 3, 0, 2)
            for key, array in self.found.each.items()
        }
        cells = Cells(self.probed[:, :, None, None], found["sink_mass"].shape)
        without = np.array([not null for null in self._nulls])[:, None]
        found["null_mass"] = np.where(without, np.nan, found["null_mass"])
        values = {key: cells.of(array) for key, array in found.items()}
        values["context_90"] = counted(values["context_90"])
        head = np.arange(cells.shape[3], dtype=np.int32)
        return {**self._place(cells, self._numbers), "head": cells.of(head), **values}

    def layers(self) -> Columns:
        """Return columns of table ``attention_layers``."""
        shape = (*self.probed.shape, len(self.every))
        cells = Cells(self.probed[:, :, None], shape)
        at = [index for index, one in enumerate(self.every) if one.no_weights is None]
        values: dict[str, Any] = {}
        known = np.zeros(shape, dtype=bool)
        for key in self._wholes:
            array = np.full(shape, np.nan)
            if self.found is not None:
                array[..., at] = np.moveaxis(self._masked(key, self.found.wholes[key]), 0, 2)
            if key == "known":
                known = array > 0
            else:
                values[key] = cells.of(array)
        without = np.array([not one.null for one in self.every])
        values["null_mass"] = np.where(cells.of(without), np.nan, values["null_mass"])
        values |= {name: counted(values[name]) for name in COUNTS}
        code = cells.of(np.arange(len(self.every))[None, None])
        whys = [one.no_weights for one in self.every]
        rule = Categorical([RULE if why is None else None for why in whys], code)
        place = self._place(cells, [one.layer for one in self.every])
        return {
            **place,
            **values,
            "rule": rule,
            "no_weights": Categorical(whys, code),
            "undecomposed": self._why(cells, known, code),
        }

    def _why(self, cells: Cells, known: Numbers, code: Numbers) -> Categorical:
        """Say why each row's parts are not known: what is wrong with the layer, or that it is not rebuilt."""
        flaws = dict(zip(self._numbers, self.flawed, strict=True))
        said = [flaws.get(one.layer) for one in self.every]
        weighed = np.array([one.no_weights is None for one in self.every])
        lost = cells.of(~known & weighed) & np.array([one is None for one in said])[code]
        return Categorical([*said, NOT_REBUILT], np.where(lost, len(said), code))

    @property
    def _wholes(self) -> tuple[str, ...]:
        from_rows = ("entropy", "n_eff", "sink_mass", "eliminated_frac", "masked_frac", *COUNTS, "null_mass")
        return (*from_rows, "negative_frac", "negative_mass", "below_mean_mass", *CARRIED, "known")

    def contributions(self, parallel: bool, formed: Sequence[bool]) -> Columns:
        """Return columns of table ``contributions``.

        Args:
            parallel: Whether the blocks are one step.
            formed: For which prompts the parts of single keys were formed.
        """
        assert self.found is not None
        names, code, real = self._spans()
        before, behind, second = _others(parallel)
        spans = np.stack([self._masked(name, self.found.spans[name]) for name in SHARES], -1)
        others = self._masked("others", self.found.parts["others"])
        nothing = np.where(np.isnan(others[..., :1, :]), np.nan, 0.0)  # of what goes to no key
        whole = [others[..., before, :], spans, nothing, others[..., behind + second, :]]
        shares = np.moveaxis(np.concatenate(whole, -2), 0, 2)  # batch, probes, layers, parts, shares
        first, last = len(before), len(before) + self.most
        kept = np.ones(shares.shape[:-1], dtype=bool)
        kept &= (self.probed & np.array(formed)[:, None])[:, :, None, None]
        kept[..., first:last] &= real[:, None, None]
        kept[..., last] &= np.array(self._nulls)
        labels = [*names, *(_label(index) for index in before), NULL, *map(_label, behind + second)]
        part = np.zeros((len(code), shares.shape[3]), dtype=np.int32)
        part[:, :first] = len(names) + np.arange(first)
        part[:, first:last] = code
        part[:, last:] = len(names) + first + np.arange(shares.shape[3] - last)
        kinds = [PARTS[at][1] for at in before] + ["span"] * (self.most + 1)
        kinds += [PARTS[at][1] for at in behind + second]
        steps = ["block" if parallel else "attention"] * (len(kinds) - len(second)) + ["mlp"] * len(second)
        cells = Cells(kept, kept.shape)
        at = cells.of(np.arange(len(kinds), dtype=np.int32))
        return {
            **self._place(cells, self._numbers),
            "block_step": Categorical(steps, at),
            "part": Categorical(labels, cells.of(part[:, None, None])),
            "kind": Categorical(kinds, at),
            **{name: cells.of(shares[..., index]) for index, name in enumerate(SHARES)},
        }


def _others(parallel: bool) -> tuple[list[int], list[int], list[int]]:
    """Index the parts that are no keys: ahead of a step's spans, behind them, and of the MLP's own step."""
    first = [index for index, (step, _) in enumerate(PARTS) if step == "first"]
    second = [] if parallel else [index for index, (step, _) in enumerate(PARTS) if step == "mlp"]
    ahead = ("residual", "mlp") if parallel else ("residual",)
    return (
        [index for index in first if PARTS[index][1] in ahead],
        [index for index in first if PARTS[index][1] == "bias"],
        second,
    )


def _label(part: int) -> str:
    return f"<{PARTS[part][1]}>"


def counted(values: Numbers) -> Any:
    """Return whole numbers, null where there is none."""
    absent = np.isnan(values)
    return null_where(np.where(absent, 0, values).astype(np.int32), absent)


def _without_sink(values: Numbers, names: Sequence[str], code: Numbers) -> Numbers:
    """Put NaN where the span is the sink itself; ``code`` has the index of each value's name, broadcast."""
    return np.where(np.array([name == SINK for name in names])[code], np.nan, values)
