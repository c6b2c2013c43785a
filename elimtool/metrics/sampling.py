"""The sampler ledger: what every stage of every chain cuts from the model's output, and each target's fate.

Tables ``sampling`` (one row a stage), ``sampling_targets`` (one row a stage and target),
``chain_differences`` (one row a pair of chains) and ``survival`` (one row a target: the least settings at
which it survives). The stages themselves live in
``elimtool.samplers``; here their ledgers become columns. Foils are followed by the lens only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from elimtool.metrics.columns import Categorical, Columns, join, names_at, null_where
from elimtool.metrics.metric import ReadoutView, Settings
from elimtool.model.view import Batch, LayerView
from elimtool.numerics import rank
from elimtool.samplers import Chain, History, Ledger, StageRecord
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.compare import Difference, compare
from elimtool.samplers.survival import bounds, temperature_ranges

SHOWN = 5
"""How many of the tokens that survive one chain alone are named."""


class SamplerLedger:
    """Runs the sampler chains on the last layer's distribution of every probed row."""

    needs: ClassVar[frozenset[str]] = frozenset({"residual"})
    tables: ClassVar[tuple[str, ...]] = ("sampling", "sampling_targets", "chain_differences", "survival")

    def __init__(self, batch: Batch, settings: Settings) -> None:
        self.batch = batch
        self.chains = settings.chains
        self.stages: list[dict[str, Any]] = []
        self.fates: list[dict[str, Any]] = []
        self.differences: list[dict[str, Any]] = []
        self.survival: list[dict[str, Any]] = []

    def observe(self, view: LayerView) -> None:
        """Samplers see only the output."""

    def read(self, view: ReadoutView) -> None:
        """Run the chains on some rows."""
        logits = view.logits[-1].double().cpu()  # samplers run on the CPU: see Chain.run
        ids = view.followed.ids.masked_fill(view.followed.is_foil, -1).cpu()
        histories = self._histories(view)
        begun = Candidates.of(logits, ids)
        ledgers = [chain.run(logits, ids, histories=histories, begun=begun) for chain in self.chains]
        if ledgers:
            self.stages.append(self._stage_columns(view, ledgers))
            self.fates.append(self._fate_columns(view, ids, ledgers))
        for left, right in combinations(ledgers, 2):
            self.differences.append(self._difference_columns(view, compare(left, right)))
        self.survival.append(self._survival_columns(view, begun, ids, histories))

    def _histories(self, view: ReadoutView) -> list[History]:
        """The tokens before each probed row, itself included: what penalties and DRY look back on."""
        prompt, probe = view.rows
        positions = view.batch.positions[prompt, probe].tolist()
        return [
            History(prompt=view.batch.encoded[one].token_ids[: position + 1], generated=())
            for one, position in zip(prompt.tolist(), positions, strict=True)
        ]

    def _place(self, view: ReadoutView, row: Any) -> dict[str, Any]:
        prompt, probe = (index.cpu().numpy() for index in view.rows)
        ids = [one.prompt_id for one in self.batch.encoded]
        positions = self.batch.positions.cpu().numpy()
        return {"prompt_id": Categorical(ids, prompt[row]), "position": positions[prompt[row], probe[row]]}

    def _stage_columns(self, view: ReadoutView, ledgers: list[Ledger]) -> dict[str, Any]:
        records = [record for ledger in ledgers for record in ledger.records]
        n_rows = view.logits.shape[1]
        row, step = np.divmod(np.arange(n_rows * len(records)), len(records))

        def at(name: str) -> Any:
            values: list[Tensor] = [getattr(record, name) for record in records]
            return torch.stack(values, 1).cpu().numpy()[row, step]

        top = at("top_token")
        return {
            **self._place(view, row),
            **self._chain_columns(step),
            "active": at("active"),
            "params": Categorical([json.dumps(r.params, sort_keys=True) for r in records], step),
            "n_before": at("n_before"),
            "n_after": at("n_after"),
            "mass_pruned": at("mass_pruned"),
            "threshold": at("threshold"),
            "entropy_before": at("entropy_before"),
            "entropy_after": at("entropy_after"),
            "top_token": np.array([view.spell(int(token)) for token in top], dtype=object),
            "top_prob": at("top_prob"),
            "notes": [notes_of(record, index, view.spell) for index in range(n_rows) for record in records],
        }

    def _chain_columns(self, step: Any) -> dict[str, Any]:
        stages = [(chain, index, stage) for chain in self.chains for index, stage in enumerate(chain.stages)]
        return {
            "chain": Categorical([chain.name for chain, _, _ in stages], step),
            "engine": Categorical([chain.engine or None for chain, _, _ in stages], step),
            "stage_index": np.array([index for _, index, _ in stages])[step],
            "stage": Categorical([stage.name for _, _, stage in stages], step),
        }

    def _fate_columns(self, view: ReadoutView, ids: Tensor, ledgers: list[Ledger]) -> dict[str, Any]:
        records = [record for ledger in ledgers for record in ledger.records]
        real = (ids >= 0).cpu().numpy()[:, None, :].repeat(len(records), axis=1)
        row, step, k = real.nonzero()

        def at(name: str) -> Any:
            values: list[Tensor] = [getattr(record, name) for record in records]
            return torch.stack(values, 1).cpu().numpy()[row, step, k]

        chain = self._chain_columns(step)
        del chain["engine"]
        alive, left, ranks = at("alive_before"), at("alive_after"), at("rank_before")
        tokens = ids.cpu().numpy()[row, k]
        return {
            **self._place(view, row),
            **chain,
            "target": names_at(view.followed.texts, row, k),
            "token_id": tokens,
            "alive_before": alive,
            "alive_after": left,
            "prob_before": at("prob_before"),
            "prob_after": at("prob_after"),
            "rank_before": null_where(ranks, ~alive),
            "margin": at("margin"),
            "why": [
                _why(records[i], token, r, removed, view.spell)
                for r, i, token, removed in zip(
                    row.tolist(), step.tolist(), tokens.tolist(), (alive & ~left).tolist(), strict=True
                )
            ],
        }

    def _difference_columns(self, view: ReadoutView, found: Difference) -> dict[str, Any]:
        """One pair of chains on some rows; the tokens that tell them apart, by the model's probability."""
        row = np.arange(view.logits.shape[1])
        output = view.output.cpu()

        def first(only: Bool[Tensor, "rows vocab"]) -> list[list[str]]:
            likely, ids = output.masked_fill(~only.cpu(), -torch.inf).topk(min(SHOWN, output.shape[-1]), -1)
            kept = [[i for i, p in zip(*pair, strict=True) if p > -np.inf] for pair in _pairs(ids, likely)]
            return [[view.spell(token) for token in tokens] for tokens in kept]

        return {
            **self._place(view, row),
            "chain": np.full(len(row), found.left, dtype=object),
            "other": np.full(len(row), found.right, dtype=object),
            "total_variation": found.total_variation.cpu().numpy(),
            "n_only": found.only_left.sum(-1).cpu().numpy(),
            "only": first(found.only_left),
            "n_only_other": found.only_right.sum(-1).cpu().numpy(),
            "only_other": first(found.only_right),
        }

    def _survival_columns(
        self, view: ReadoutView, begun: Candidates, ids: Tensor, histories: list[History]
    ) -> dict[str, Any]:
        row, k = (ids >= 0).cpu().numpy().nonzero()
        limits = bounds(begun.scores, ids, begun)
        ranges = [temperature_ranges(chain, begun.scores, ids, histories, begun) for chain in self.chains]

        def at(values: Tensor) -> Any:
            return values.cpu().numpy()[row, k]

        safe = ids.clamp(min=0)
        return {
            **self._place(view, row),
            "target": names_at(view.followed.texts, row, k),
            "token_id": at(ids),
            "ambiguous": at(view.followed.ambiguous),
            "rank": at(rank(begun.scores, safe)[0]),
            "prob": at(begun.exact.gather(-1, safe)),
            "target_logprob": at(view.followed.logprob),
            "min_top_k": at(limits.min_top_k),
            "min_top_p": at(limits.min_top_p),
            "max_min_p": at(limits.max_min_p),
            "min_typical_p": at(limits.min_typical_p),
            "min_top_n_sigma": at(limits.min_top_n_sigma),
            "max_epsilon": at(limits.max_epsilon),
            "temperature_ranges": [
                [_range(chain, found, i, j) for chain, found in zip(self.chains, ranges, strict=True)]
                for i, j in zip(row.tolist(), k.tolist(), strict=True)
            ],
        }

    def finish(self) -> dict[str, Columns]:
        """Columns of the three tables."""
        return {
            "sampling": join(self.stages),
            "sampling_targets": join(self.fates),
            "chain_differences": self._in_order(join(self.differences)),
            "survival": join(self.survival),
        }

    def _in_order(self, columns: Columns) -> Columns:
        """Rows by prompt, position and pair: pairs were compared chunk by chunk, one after the other."""
        if not columns:
            return columns
        prompts = {one.prompt_id: index for index, one in enumerate(self.batch.encoded)}
        prompt = np.array([prompts[one] for one in columns["prompt_id"]])
        order = np.lexsort((columns["position"], prompt))
        return {
            key: [values[i] for i in order] if isinstance(values, list) else values[order]
            for key, values in columns.items()
        }


def notes_of(record: StageRecord, row: int, spell: Callable[[int], str]) -> list[str]:
    """What a stage has to tell about one row, tokens in words."""
    return [*record.notes, *(detail.told(spell) for detail in record.details(row).values())]


def _why(record: StageRecord, token: int, row: int, removed: bool, spell: Callable[[int], str]) -> str | None:
    """Why a stage removed a token, or what it holds against it; ``None`` if neither."""
    told = record.details(row).get(token)
    if told is not None:
        return told.told(spell)
    return record.why(token, row) if removed else None


def _pairs(ids: Tensor, likely: Tensor) -> Iterator[tuple[list[int], list[float]]]:
    return zip(ids.tolist(), likely.tolist(), strict=True)


def _range(chain: Chain, found: Any, row: int, k: int) -> dict[str, Any]:
    low, high = float(found.t_min[row, k]), float(found.t_max[row, k])
    return {
        "chain": chain.name,
        "t_min": None if np.isnan(low) else low,
        "t_max": None if np.isnan(high) else high,
        "status": found.status[row][k],
    }
