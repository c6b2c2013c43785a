"""Fill the tables of sources: cells of layers, heads and spans, reduced and named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from elimtool.metrics.columns import Categorical, Columns, names_at, place
from elimtool.metrics.controls import ControlTokens
from elimtool.metrics.metric import ReadoutView, Settings
from elimtool.metrics.sources import Sources
from elimtool.model.view import Batch, LayerView, Rows
from elimtool.numerics.transfer import Array, arrays
from elimtool.prompts.prompt import NULL, SINK
from elimtool.run.tables.sources import BIAS, MLP, SELF

TABLES = ("sources", "source_spans", "contrast_sources")
APART = (SELF, MLP, BIAS, NULL)
"""Rows behind the spans; the last only where a layer has a learned null."""
EXTREMES = tuple(f"{which}_{what}" for which in ("top", "low") for what in ("layer", "head", "dla"))
REDUCED = ("expected", "promoted", "opposed", "handover_layer", *EXTREMES)
UNTESTED = ("cut_effect", "cut_control")
"""Columns that only ``elimtool.tasks.confirm_edges`` fills."""
ROLES = ("top_role", "low_role")
"""Columns that are filled where a map of the model is at hand."""
INTEGERS = ("handover_layer", "top_layer", "top_head", "low_layer", "low_head")

Values = dict[str, npt.NDArray[np.float64]]
"""[rows, k, spans and APART] by column; NaN is null."""


@dataclass(frozen=True)
class LogitShares:
    """What followed tokens' logits are made of.

    Attributes:
        shares: What each component adds to the logits, and last to the mean logit.
        toward: Directions of the tokens, and last of the mean logit.
        spread: Standard deviation of what each component gave a token's controls; NaN without any.
        of_spans: The same of each span; ``None`` where it was not measured.
        off: How far the shares of each token are from its logit.
        allowed: How far rounding may take them.
    """

    shares: Float[Tensor, "rows k1 parts"]
    toward: Float[Tensor, "rows k1 width"]
    spread: Float[Tensor, "rows k parts"]
    of_spans: Float[Tensor, "rows k spans"] | None
    off: Float[Tensor, "rows k"]
    allowed: Float[Tensor, "rows k"]

    def named(self) -> dict[str, Tensor]:
        """Return all but the directions, by name."""
        found = {name: getattr(self, name) for name in ("shares", "spread", "of_spans", "off", "allowed")}
        return {name: one for name, one in found.items() if one is not None}

    @cached_property
    def here(self) -> dict[str, Array]:
        """All but the directions, on the host."""
        return arrays(self.named())

    @classmethod
    def joined(cls, parts: Sequence[LogitShares]) -> LogitShares:
        """Join rows."""
        of_spans = [one.of_spans for one in parts if one.of_spans is not None]
        return cls(
            torch.cat([one.shares for one in parts]),
            torch.cat([one.toward for one in parts]),
            torch.cat([one.spread for one in parts]),
            torch.cat(of_spans) if of_spans else None,
            torch.cat([one.off for one in parts]),
            torch.cat([one.allowed for one in parts]),
        )


class SourceTables:
    """Fills ``TABLES`` for the rows that are read out.

    Args:
        batch: The batch.
        settings: Which of the tables are wanted.
    """

    def __init__(self, batch: Batch, settings: Settings) -> None:
        self.batch = batch
        self.settings = settings
        self.sources = Sources(batch, settings)
        own = self.sources.parts.names
        self.n_spans = max(map(len, own))
        self.names = [[*names, *[""] * (self.n_spans - len(names)), *APART] for names in own]
        self.sink = np.array([[name == SINK for name in names] for names in self.names])

    def observe(self, view: LayerView) -> None:
        """Take one layer."""
        self.sources.observe(view)

    def spread(
        self, rows: Rows, controls: ControlTokens, toward: Float[Tensor, "rows all_controls width"]
    ) -> Float[Tensor, "rows k spans"] | None:
        """Compute the standard deviation of what each span wrote for each token's controls.

        Args:
            rows: The rows.
            controls: Their control tokens.
            toward: Directions of these.
        """
        if not self.settings.wants("source_spans") or self.sources.undecomposed() is not None:
            return None
        wrote = self.sources.written(rows)
        return controls.spread(toward.to(wrote.dtype) @ wrote.transpose(1, 2))

    def read(self, view: ReadoutView, given: LogitShares | None) -> Iterator[tuple[str, Columns]]:
        """Yield columns by table for some rows.

        Args:
            view: The rows.
            given: What the followed tokens' logits are made of; ``None`` where blocks are not sums of their
                components.
        """
        why = self.sources.undecomposed()
        n_rows, k = view.followed.ids.shape
        if why is not None or given is None:
            yield from self._null(view, np.arange(n_rows), why)
            return
        each = 2 * self.n_spans * len(self.sources.layers) * self.sources.n_heads * (k + 1)
        step = max(1, self.settings.held_numbers // each)  # bounds the cells of all layers and heads
        for start in range(0, n_rows, step):
            some = slice(start, min(n_rows, start + step))
            rows = view.rows.part(some)
            cells, seen = self.sources.cells(rows, given.toward[some])
            yield from self._filled(view, np.arange(n_rows)[some], cells, seen, given)

    def _null(
        self, view: ReadoutView, rows: npt.NDArray[np.intp], why: str | None
    ) -> Iterator[tuple[str, Columns]]:
        """Yield rows without values."""
        shape = (*view.followed.ids.shape, self.n_spans + len(APART))
        values = dict.fromkeys(("dla", "dla_centred", "z", *REDUCED), np.full(shape, np.nan))
        yield "source_spans", self._of_targets(view, rows, values, why)
        pairs = view.followed.pairs
        if len(pairs[0]):
            gone = {name: array[pairs[0], :1] for name, array in values.items()}
            gone["dla_difference"] = gone["dla"]
            yield "contrast_sources", self._of_pairs(view, pairs, gone, why)

    def _filled(
        self,
        view: ReadoutView,
        rows: npt.NDArray[np.intp],
        cells: Float[np.ndarray, "rows k1 layers heads both"],
        seen: Bool[np.ndarray, "rows layers spans"],
        given: LogitShares,
    ) -> Iterator[tuple[str, Columns]]:
        n_heads, shares = self.sources.n_heads, given.here["shares"][rows[0] : rows[-1] + 1]
        mlps = shares[..., 1 + n_heads : -1 : n_heads + 1].sum(-1)
        apart = np.stack([shares[..., 0], mlps, shares[..., -1], np.zeros_like(mlps)], -1)
        centred = cells[:, :-1] - cells[:, -1:]
        if self.settings.wants("source_spans"):
            values = self._reduced(view, rows, centred, seen)
            of_spans = np.nan if given.of_spans is None else given.here["of_spans"][rows]
            values["z"] = values["dla_centred"] / of_spans
            raw = cells[:, :-1, ..., : self.n_spans].sum((2, 3))
            raw[np.isnan(values["dla_centred"])] = np.nan
            values = {name: _beside(array) for name, array in (values | {"dla": raw}).items()}
            values["dla"][..., self.n_spans :] = apart[:, :-1]
            values["dla_centred"][..., self.n_spans :] = apart[:, :-1] - apart[:, -1:]
            yield "source_spans", self._of_targets(view, rows, values, None)
        if self.settings.wants("sources"):
            yield "sources", self._of_heads(view, rows, cells, centred, seen)
        row, target, foil = view.followed.pairs
        mine = (row >= rows[0]) & (row <= rows[-1])
        if mine.any() and self.settings.wants("contrast_sources"):
            row, target, foil = row[mine], target[mine], foil[mine]
            at = row - rows[0]
            values = self._reduced(view, row, (cells[at, target] - cells[at, foil])[:, None], seen[at])
            values = {name: _beside(array) for name, array in values.items()}
            values["dla_difference"] = values.pop("dla_centred")
            values["dla_difference"][:, 0, self.n_spans :] = apart[at, target] - apart[at, foil]
            yield "contrast_sources", self._of_pairs(view, (row, target, foil), values, None)

    def _reduced(
        self,
        view: ReadoutView,
        rows: npt.NDArray[np.intp],
        cells: Float[np.ndarray, "rows k layers heads both"],
        seen: Bool[np.ndarray, "rows layers spans"],
    ) -> Values:
        """Reduce cells, centred or differences, to columns [rows, k, spans]."""
        own, even = cells[..., : self.n_spans], cells[..., self.n_spans :].sum((2, 3))
        found = reduced(own, seen)
        unseen = np.logical_not(seen.any(axis=1, keepdims=True))
        absent = unseen | self.sink[self._prompts(view)[rows], None, : self.n_spans]
        return found | {"expected": np.where(absent, np.nan, even)}

    def _prompts(self, view: ReadoutView) -> npt.NDArray[np.intp]:
        found: npt.NDArray[np.intp] = view.rows.here[0]
        return found

    def _there(self, view: ReadoutView) -> npt.NDArray[np.bool_]:
        """Tell which of the spans and ``APART`` the prompt of each row has."""
        real = np.array([[bool(name) for name in names] for names in self.names])
        real[:, -1] = self.sources.null
        return real[self._prompts(view)]

    def _of_targets(
        self, view: ReadoutView, rows: npt.NDArray[np.intp], values: Values, why: str | None
    ) -> Columns:
        targets = view.followed.are_targets
        row, k, span = (targets[rows][:, :, None] & self._there(view)[rows][:, None]).nonzero()
        picked = {name: array[row, k, span] for name, array in values.items()}
        row = row + rows[0]
        return {
            **place(self.batch, view.rows, row),
            **view.followed.names(row, k),
            "span": names_at(self.names, self._prompts(view)[row], span),
            **_nullable(picked),
            "undecomposed": Categorical([why], np.zeros(len(row), dtype=np.int32)),
            **dict.fromkeys(UNTESTED, np.full(len(row), np.nan)),
            **dict.fromkeys(ROLES, Categorical([None], np.zeros(len(row), dtype=np.int32))),
        }

    def _of_pairs(
        self, view: ReadoutView, pairs: tuple[Any, Any, Any], values: Values, why: str | None
    ) -> Columns:
        pair, span = self._there(view)[pairs[0]].nonzero()
        row, target, foil = (index[pair] for index in pairs)
        picked = {name: values[name][pair, 0, span] for name in ("dla_difference", *REDUCED)}
        return {
            **place(self.batch, view.rows, row),
            **view.followed.names(row, target),
            **view.followed.names(row, foil, "foil"),
            "span": names_at(self.names, self._prompts(view)[row], span),
            **_nullable(picked),
            "undecomposed": Categorical([why], np.zeros(len(row), dtype=np.int32)),
        }

    def _of_heads(
        self,
        view: ReadoutView,
        rows: npt.NDArray[np.intp],
        cells: Float[np.ndarray, "rows k1 layers heads both"],
        centred: Float[np.ndarray, "rows k layers heads both"],
        seen: Bool[np.ndarray, "rows layers spans"],
    ) -> Columns:
        targets = view.followed.are_targets[rows]
        real = np.broadcast_to(
            targets[:, :, None, None, None] & seen[:, None, :, None], cells[:, :-1, ..., : self.n_spans].shape
        )
        row, k, layer, head, span = index = real.nonzero()
        row = row + rows[0]
        return {
            **place(self.batch, view.rows, row),
            **view.followed.names(row, k),
            "layer": np.array([one.layer for one in self.sources.layers])[layer],
            "head": head,
            "span": names_at(self.names, self._prompts(view)[row], span),
            "dla": cells[:, :-1][index],
            "dla_centred": centred[index],
        }


def reduced(
    cells: Float[np.ndarray, "rows k layers heads spans"], seen: Bool[np.ndarray, "rows layers spans"]
) -> Values:
    """Sum cells over layers and heads, and by sign, and find the extremes and the layer that wrote most.

    Args:
        cells: Logits of single layers and heads, centred or differences.
        seen: Which spans have a token that the query sees in the layer; other cells are absent.

    Returns:
        Columns by name, [rows, k, spans]; NaN where a span is seen in no layer, and for the layer that wrote
        most where none wrote for the target.
    """
    rows, k, _, n_heads, spans = cells.shape
    absent = np.logical_not(seen.any(axis=1, keepdims=True))
    flat, hidden = cells.reshape(rows, k, -1, spans), np.repeat(~seen, n_heads, 1)[:, None]
    of_layers = cells.sum(3)
    whole, promoted = of_layers.sum(2), cells.clip(min=0).sum((2, 3))
    found = {
        "dla_centred": whole,
        "promoted": promoted,
        "opposed": np.minimum(whole - promoted, 0.0),
        "handover_layer": np.where(of_layers.max(2) > 0, of_layers.argmax(2), np.nan),
    }
    for which, pick, least in (("top", np.argmax, -np.inf), ("low", np.argmin, np.inf)):
        at = pick(np.where(hidden, least, flat) if hidden.any() else flat, 2)
        found[f"{which}_layer"], found[f"{which}_head"] = at // n_heads, at % n_heads
        found[f"{which}_dla"] = np.take_along_axis(flat, at[:, :, None], 2)[:, :, 0]
    return {name: np.where(absent, np.nan, values) for name, values in found.items()}


def _beside(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Append nulls for ``APART``."""
    return np.concatenate([values, np.full((*values.shape[:-1], len(APART)), np.nan)], -1)


def _nullable(values: Values) -> dict[str, Any]:
    return {
        name: np.ma.masked_invalid(array) if name in INTEGERS else array for name, array in values.items()
    }
