"""Components: what each head, each MLP, the embedding and the constants add to the logit of each target.

Tables ``components``, and ``contrast_components``, the same for the difference of a target's logit and a
foil's. Shares of a logit sum to it, see ``elimtool.metrics.branches``.

Direct logit attribution: Elhage et al. 2021 (A Mathematical Framework for Transformer Circuits), Wang et al.
2022 (arXiv 2211.00593). A large share does not prove that a part is needed: later layers may compensate for
its removal (McGrath et al. 2023, arXiv 2307.15771).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.metrics.branches import Branch, share_out, toward_tokens
from elimtool.metrics.columns import Categorical, Columns, null_where, place
from elimtool.metrics.controls import ControlTokens, matching
from elimtool.metrics.metric import Here, Indices, Metric, ReadoutView, RowFacts, Settings
from elimtool.metrics.source_tables import TABLES as SOURCES
from elimtool.metrics.source_tables import LogitShares, SourceTables
from elimtool.model.affine import tolerance, wide
from elimtool.model.view import Batch, LayerView

ROUNDING = 4.0
"""Allowed error of a sum, in rounding units of the model's dtype at the sum of absolute shares."""


class Components(Metric):
    """Keeps what each block added at the probed rows, and attributes the logits to it when they are read.

    The tables are filled with ``Settings.heads``, and only if every block of the batch is the sum of its
    heads and its MLP; else they have no rows, and table ``mechanisms`` says why.
    """

    needs: frozenset[str] = frozenset({"block"})
    tables: ClassVar[tuple[str, ...]] = ("components", "contrast_components", *SOURCES)

    def __init__(self, batch: Batch, settings: Settings) -> None:
        super().__init__(batch, settings)
        self.sources = SourceTables(batch, settings) if any(map(settings.wants, SOURCES)) else None
        if self.sources is not None:
            self.needs = self.needs | {"attention", "values"}
        self.matching = None if settings.reference is None else matching(settings.reference.prior)
        self.wanted = settings.heads or self.sources is not None
        self.embedding: Tensor | None = None
        self.branches: list[Branch] = []
        self.flaws: list[Callable[[], str | None] | None] = []

    def observe(self, view: LayerView) -> None:
        """Keep the parts of one block, or give up where they cannot sum to its update."""
        if self.sources is not None:
            self.sources.observe(view)
        if not self.wanted:
            return
        if view.layer < 0:
            self.embedding = view.residual
        elif view.block is None or view.block.heads is None or view.block.mlp is None:
            self._give_up()
        else:
            self.branches += [Branch.attention(view.block), Branch.mlp(view.block)]
            self.flaws.append(view.block.flaw)

    def _give_up(self) -> None:
        self.wanted = False
        self.branches.clear()
        self.flaws.clear()

    def read(self, view: ReadoutView) -> None:
        """Attribute the followed targets' logits to components, if these sum to every update."""
        if self.wanted and any(flaw is not None and flaw() is not None for flaw in self.flaws):
            self._give_up()
        found = None
        if self.wanted and self.embedding is not None and view.directions is not None:
            found = self._attributed(view, self.embedding)
        if found is not None:
            facts, n_layers = view.facts, len(self.branches) // 2
            self.bring(found.named(), lambda here: self._columns(facts, n_layers, here))
        if self.sources is not None:  # whose cells are too many to be kept
            for table, columns in self.sources.read(view, found):
                self.filled[table].append(columns)

    def end(self) -> None:
        """Let go of the blocks."""
        self._give_up()
        self.embedding = self.sources = None

    def _attributed(self, view: ReadoutView, embedding: Tensor) -> LogitShares:
        """Attribute the logits of followed tokens and of their controls, some rows at a time."""
        n_rows, k = view.followed.ids.shape
        n_parts = 2 + sum(branch.count for branch in self.branches)
        each = max(k * (0 if self.matching is None else self.matching.count), self.branches[0].width)
        step = max(1, self.settings.held_numbers // (each * n_parts))
        found = []
        for start in range(0, n_rows, step):
            some = slice(start, min(n_rows, start + step))
            found.append(self._of_some(view, embedding, some, n_parts))
        return LogitShares.joined(found)

    def _of_some(self, view: ReadoutView, embedding: Tensor, some: slice, n_parts: int) -> LogitShares:
        """Attribute the logits of some rows."""
        assert view.directions is not None
        rows, ids = view.rows.part(some), view.followed.ids[some]
        k = ids.shape[1]
        controls = None if self.matching is None else ControlTokens.of(self.matching, view.followed, some)
        asked = ids if controls is None else torch.cat([ids, controls.ids], 1)
        directions = view.directions(asked, some)
        given = share_out(wide(embedding[rows]), self.branches, rows, directions)
        shares = torch.cat([given[:, :k], given[:, -1:]], 1)
        own = directions.of(slice(0, k))
        off, allowed = _missing(shares[:, :-1].sum(-1), shares[:, :-1], own.logits, embedding.dtype)
        spread = torch.full((*ids.shape, n_parts), torch.nan, dtype=torch.float64, device=ids.device)
        of_spans = None
        if controls is not None:
            spread = controls.spread(given[:, k:-1])
            if self.sources is not None:
                of_spans = self.sources.spread(rows, controls, directions.toward[:, k:])
        return LogitShares(shares, toward_tokens(own), spread, of_spans, off, allowed)

    def _columns(self, facts: RowFacts, n_layers: int, here: Here) -> dict[str, Columns]:
        _refuse_incomplete(here)
        if not self.settings.heads:
            return {}
        found, pairs = {"components": self._of_targets(facts, n_layers, here)}, facts.followed.pairs
        if len(pairs[0]):
            found["contrast_components"] = self._of_pairs(facts, n_layers, pairs, here["shares"])
        return found

    def _of_targets(self, facts: RowFacts, n_layers: int, here: Here) -> Columns:
        shares = here["shares"]
        targets = facts.followed.are_targets
        row, k, part = cells = targets[:, :, None].repeat(shares.shape[-1], axis=2).nonzero()
        centred = shares[:, :-1] - shares[:, -1:]
        return {
            **place(self.batch, facts.rows, row),
            **facts.followed.names(row, k),
            **_named(n_layers, shares.shape[-1], part),
            "dla": shares[:, :-1][cells],
            "dla_centred": centred[cells],
            "z": (centred / here["spread"])[cells],
        }

    def _of_pairs(
        self, facts: RowFacts, n_layers: int, pairs: Indices, values: Float[np.ndarray, "rows k1 parts"]
    ) -> Columns:
        n_parts = values.shape[-1]
        row, target, foil = (index.repeat(n_parts) for index in pairs)
        part = np.tile(np.arange(n_parts), len(pairs[0]))
        return {
            **place(self.batch, facts.rows, row),
            **facts.followed.names(row, target),
            **facts.followed.names(row, foil, "foil"),
            **_named(n_layers, n_parts, part),
            "dla_difference": values[row, target, part] - values[row, foil, part],
        }


def _named(n_layers: int, n_parts: int, part: npt.NDArray[np.intp]) -> dict[str, Any]:
    """Return the columns that say which component a part is."""
    names, kinds, layers, heads = _labels(n_layers, (n_parts - 2) // n_layers - 1)
    return {
        "component": Categorical(names, part),
        "kind": Categorical(kinds, part),
        "layer": null_where(layers[part], layers[part] < 0),
        "head": null_where(heads[part], heads[part] < 0),
    }


def _labels(n_layers: int, n_heads: int) -> tuple[Any, Any, Any, Any]:
    """List name, kind, layer and head (-1 for none) of every part, in the order of ``share_out``."""
    rows: list[tuple[str, str, int, int]] = [("embed", "embed", -1, -1)]
    for layer in range(n_layers):
        rows += [(f"head {layer}.{head}", "head", layer, head) for head in range(n_heads)]
        rows.append((f"mlp {layer}", "mlp", layer, -1))
    rows.append(("bias", "bias", -1, -1))
    names, kinds, layers, heads = zip(*rows, strict=True)
    return names, kinds, np.array(layers), np.array(heads)


def _missing(
    total: Float[Tensor, "rows k"],
    shares: Float[Tensor, "rows k parts"],
    logits: Float[Tensor, "rows k"],
    dtype: torch.dtype,
) -> tuple[Float[Tensor, "rows k"], Float[Tensor, "rows k"]]:
    """Return how far shares are from the logits, and how far the rounding of the model's own sums may be."""
    rounding = ROUNDING * torch.finfo(dtype).eps * shares.abs().sum(-1)
    # at least 10: near 0 a logit has no relative precision
    allowed = tolerance(dtype) * logits.abs().double().clamp(min=10.0) + rounding
    return (total - logits).abs(), allowed


def _refuse_incomplete(here: Here) -> None:
    """Refuse shares that do not sum to the logits."""
    off = here["off"]
    if (off > here["allowed"]).any():
        raise ElimError(
            f"the components of a logit sum to it only within {float(off.max()):.3g} logits",
            "elimtool does not know something that this architecture adds to its residual stream",
        )
