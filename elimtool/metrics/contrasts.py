"""Contrasts: how far each target is ahead of each foil after every block, and which sampler stage parts them.

Tables ``contrast_layers`` and ``contrast_stages``, filled where a prompt has targets and foils; the parts of
the difference are in ``contrast_components``, which ``Components`` fills. The logit difference of two tokens
is free of what all tokens share (Wang et al. 2022, arXiv 2211.00593; Heimersheim and Nanda 2024, 2404.15255).
The sign of any pair settles at some layer, so control pairs of the same frequencies are counted beside it.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from elimtool.metrics.columns import Categorical, Columns, null_where, place
from elimtool.metrics.controls import Matching
from elimtool.metrics.metric import Indices, Metric, ReadoutView, RowFacts, Settings
from elimtool.metrics.sampling import histories
from elimtool.metrics.stage_fates import whys
from elimtool.model.view import Batch
from elimtool.numerics.transfer import Array, sent
from elimtool.samplers import Chain, Ledger

SIDES = ("target", "foil")


class Contrasts(Metric):
    """Contrasts every target with every foil of its prompt."""

    tables: ClassVar[tuple[str, ...]] = ("contrast_layers", "contrast_stages")

    def __init__(self, batch: Batch, settings: Settings) -> None:
        super().__init__(batch, settings)
        self.wanted = any(one.is_foil for prompt in batch.encoded for one in prompt.targets)
        matched = self.wanted and settings.wants("contrast_layers") and settings.reference is not None
        self.matching = Matching(settings.reference.prior) if matched and settings.reference else None

    def read(self, view: ReadoutView) -> None:
        """Contrast the targets and foils of some rows."""
        if not self.wanted or not len((pairs := view.followed.pairs)[0]):
            return
        if self.settings.wants("contrast_layers"):
            self._layers(view, pairs)
        if self.settings.wants("contrast_stages") and self.settings.chains:
            self.filled["contrast_stages"].append(self._stages(view, pairs))

    def _names(self, facts: RowFacts, pairs: Indices, chosen: npt.NDArray[np.intp]) -> dict[str, Any]:
        row, target, foil = (index[chosen] for index in pairs)
        return {
            **place(self.batch, facts.rows, row),
            **facts.followed.names(row, target),
            **facts.followed.names(row, foil, "foil"),
        }

    def _layers(self, view: ReadoutView, pairs: Indices) -> None:
        row, target, foil = pairs
        ids = torch.from_numpy(view.followed.here["ids"])
        first, second = ids[row, target], ids[row, foil]
        control, other = self._controls(ids, pairs)
        asked = ((first, control), (second, other))
        found = differences(view.logits, row, *(torch.cat([one[:, None], some], 1) for one, some in asked))
        facts = view.facts
        self.bring(
            {"differences": found},
            lambda here: {
                "contrast_layers": self._of_layers(
                    facts, pairs, (first, second), (control >= 0) & (other >= 0), here["differences"]
                )
            },
        )

    def _of_layers(
        self,
        facts: RowFacts,
        pairs: Indices,
        ids: tuple[Tensor, Tensor],
        controlled: Bool[Tensor, "pairs controls"],
        found: Array,
    ) -> Columns:
        row, (first, second) = pairs[0], ids
        difference, apart = found[..., 0], torch.from_numpy(found[..., 1:])
        counted = controlled & (apart[-1].abs() > 0)
        known, settled = counted.sum(-1), (settled_from(apart) & counted).sum(-1)
        layer, pair = in_order(len(found), row)
        unmatched = np.full(len(pair), self.matching is None)
        return {
            **self._names(facts, pairs, pair),
            "layer": layer - 1,
            "lens": Categorical([facts.lens], np.zeros(len(pair), dtype=np.int32)),
            "token_id": first.numpy()[pair],
            "foil_token_id": second.numpy()[pair],
            "difference": difference[layer, pair],
            "n_controls": null_where(known.numpy()[pair], unmatched),
            "n_controls_settled": null_where(settled.numpy()[layer, pair], unmatched),
        }

    def _controls(
        self, ids: Int[Tensor, "rows k"], pairs: Indices
    ) -> tuple[Int[Tensor, "pairs controls"], Int[Tensor, "pairs controls"]]:
        """Return the control pairs of every pair, -1 where there is none."""
        row, target, foil = pairs
        if self.matching is None:
            none = torch.empty(len(row), 0, dtype=torch.long)
            return none, none
        matched = self.matching.controls(ids, ids)
        first, second = matched[row, target], matched[row, foil]
        # tokens of like frequency have like controls: half a turn apart, and no pair comes twice
        return first, second.roll(second.shape[-1] // 2, -1)

    def _stages(self, view: ReadoutView, pairs: Indices) -> dict[str, Any]:
        logits, ids = view.here, torch.from_numpy(view.followed.here["ids"])
        past = histories(view, self.settings)
        some = torch.from_numpy(np.unique(pairs[0]))  # no chain runs on rows without foils
        local = np.searchsorted(some.numpy(), pairs[0]), *pairs[1:]
        past = [past[index] for index in some.tolist()]
        chains = self.settings.chains
        found = [parted(one, one.run(logits[some], ids[some], histories=past), local, view) for one in chains]
        chain, pair = in_order(len(chains), pairs[0])
        return {
            **self._names(view.facts, pairs, pair),
            "chain": Categorical([one.name for one in chains], chain),
            **{name: _picked([one[name] for one in found], chain, pair) for name in found[0]},
        }


def in_order(count: int, row: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """List (item, pair) in the order of a table's rows: by row of the pair, then item, then pair.

    Args:
        count: Number of items, such as layers, that every pair has.
        row: Row of each pair.
    """
    item, pair = np.divmod(np.arange(count * len(row)), len(row))
    order = np.lexsort((pair, item, row[pair]))
    return item[order], pair[order]


def _picked(columns: list[Any], chain: npt.NDArray[np.intp], pair: npt.NDArray[np.intp]) -> Any:
    """Pick ``columns[chain[i]][pair[i]]`` for every i."""
    if isinstance(columns[0], list):
        return [columns[i][j] for i, j in zip(chain.tolist(), pair.tolist(), strict=True)]
    return np.ma.stack(columns)[chain, pair]


def parted(chain: Chain, ledger: Ledger, pairs: Indices, view: ReadoutView) -> dict[str, Any]:
    """Find the first stage of a chain that removes one of target and foil and keeps the other.

    Args:
        chain: A chain.
        ledger: The chain on the rows that have foils.
        pairs: Rows of the ledger, targets and foils.
        view: Spells tokens.

    Returns:
        The columns of the table ``contrast_stages`` about stages, one entry a pair.
    """
    row, target, foil = pairs
    kept, margins = (
        torch.stack([getattr(record, name) for record in ledger.records]).numpy()
        for name in ("alive_after", "margin")
    )
    mine, other = kept[:, row, target], kept[:, row, foil]
    apart = mine != other
    none, stage = ~apart.any(0), apart.argmax(0)
    survives = mine[stage, np.arange(len(row))]
    edges = [margins[stage, row, one] for one in (target, foil)]

    def of_stage(values: list[str]) -> list[str | None]:
        return [values[i] or None if found else None for i, found in zip(stage, ~none, strict=True)]

    return {
        "stage_index": null_where(stage, none),
        "stage": of_stage([one.name for one in chain.stages]),
        "kind": of_stage([one.kind for one in chain.stages]),
        "kept": [SIDES[int(not own)] if found else None for own, found in zip(survives, ~none, strict=True)],
        "target_margin": null_where(edges[0], none | np.isnan(edges[0])),
        "foil_margin": null_where(edges[1], none | np.isnan(edges[1])),
        "margin_unit": of_stage([one.margin_unit for one in chain.stages]),
        "why": whys(view, ledger.records, (row, stage, np.where(survives, foil, target)), ~none),
        "target_survives": mine[-1],
        "foil_survives": other[-1],
    }


def differences(
    logits: Float[Tensor, "layers rows vocab"],
    row: npt.NDArray[np.intp],
    first: Int[Tensor, "pairs some"],
    second: Int[Tensor, "pairs some"],
) -> Float[Tensor, "layers pairs some"]:
    """Subtract the logits of the second tokens from those of the first, in float64, at every layer.

    Args:
        logits: Layer -1 (the embedding) first; float32 or better.
        row: Row of each pair.
        first: Vocabulary indices on the host; any number under 0 stands for no token, and is read as 0.
        second: Vocabulary indices, likewise.
    """
    at = sent(torch.from_numpy(row), logits.device)[:, None]
    left, right = (logits[:, at, sent(one.clamp(min=0), logits.device)].double() for one in (first, second))
    return left - right


def settled_from(difference: Float[Tensor, "layers *pairs"]) -> Bool[Tensor, "layers *pairs"]:
    """Mark the layers from which a difference has the sign that it ends with; never where it ends at 0."""
    sign = difference.sign()
    same = (sign == sign[-1]) & (sign[-1] != 0)
    return same.flip(0).long().cumprod(0).bool().flip(0)
