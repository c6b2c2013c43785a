"""Sampler ledger: what every stage of every chain removes from the model's output, and each target's fate.

Tables ``sampling`` (one row per stage), ``sampling_targets`` (one row per stage and target),
``chain_differences`` (one row per pair of chains) and ``survival`` (one row per target: the settings at which
it just survives). ``elimtool.samplers`` computes the ledgers; here they become columns. Foils are left out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import isnan
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from elimtool.metrics.columns import Categorical, Columns, null_where, place, spelled
from elimtool.metrics.grammar_passes import pass_columns
from elimtool.metrics.grammars import grammars_of, stage_columns, target_columns
from elimtool.metrics.metric import Here, Metric, OtherRows, ReadoutView, RowFacts, Settings
from elimtool.metrics.stage_fates import bounds_of, notes_of, others_of, rule_of, why_one, whys
from elimtool.model.view import Batch
from elimtool.numerics.transfer import array, arrays
from elimtool.samplers import Chain, History, Ledger
from elimtool.samplers.candidates import Candidates, check
from elimtool.samplers.combine import LAYERS, needed_rows
from elimtool.samplers.compare import ChainDifference, Ordering, differences
from elimtool.samplers.fetching import condensed, facts, with_facts
from elimtool.samplers.stage import Stage
from elimtool.samplers.survival import bounds, temperature_ranges
from elimtool.samplers.temperature_range import WORDS

SHOWN = 5
"""Number of tokens named that survive only one of two chains."""


class SamplerLedger(Metric):
    """Runs the sampler chains on the last layer's distribution of every probed row."""

    tables: ClassVar[tuple[str, ...]] = (
        "sampling",
        "sampling_targets",
        "chain_differences",
        "survival",
        "grammar",
        "grammar_targets",
        "grammar_passes",
        "grammar_pass_targets",
    )

    def __init__(self, batch: Batch, settings: Settings) -> None:
        super().__init__(batch, settings)
        self.chains = settings.chains

    def read(self, view: ReadoutView) -> None:
        """Run the chains on some rows, where their logits are."""
        logits, here = view.logits[-1], view.followed.here
        ids = torch.from_numpy(np.where(here["is_foil"], -1, here["ids"]))
        past = histories(view, self.settings)
        begun = Candidates.of(logits, ids, compiled=self.settings.compiled)
        unchecked, vocab = begun.unchecked or (), begun.vocab
        maxima = view.shapes.maxima
        by = Ordering(logits, None if maxima is None else maxima[-len(logits) :], begun.ranked)
        if not begun.masked:
            begun.led_by(by.ahead)
        ledgers = [chain.run(logits, ids, histories=past, begun=begun) for chain in self.chains]
        self._read_grammars(view, ledgers, past)
        pairs = differences(ledgers)
        tensors = {
            **_of_pairs(pairs, by),
            **_of_targets(view, begun, ids),
            **self._of_temperatures(begun, ids, past, ledgers),
            **{("unchecked", index): one for index, one in enumerate(unchecked)},
        }
        names, rows = [(one.left, one.right) for one in pairs], view.facts
        if begun.masked:  # what is brought when the pass has been asked for must be small
            ledgers = condensed(ledgers)

        def columns(found: Here) -> dict[str, Columns]:
            if unchecked:
                bad, lost = (torch.from_numpy(found["unchecked", index]) for index in range(2))
                check(bad, lost, vocab)
            known = with_facts(ledgers, found)
            tables: dict[str, Columns] = {"survival": self._survival_columns(rows, ids, found)}
            if known:
                tables["sampling"] = self._stage_columns(rows, len(ids), known)
                tables["sampling_targets"] = self._fate_columns(rows, ids, known)
            if names:
                tables["chain_differences"] = self._difference_columns(rows, names, found)
            return tables

        if begun.masked:
            self.bring({**tensors, **facts(ledgers)}, columns)
        else:  # the host has all of it
            for name, one in columns(arrays(tensors)).items():
                self.filled[name].append(one)

    def _read_grammars(self, view: ReadoutView, ledgers: Sequence[Ledger], past: Sequence[History]) -> None:
        """Fill the tables of grammars, whose chains run on the host."""
        if not any(any(grammars_of(chain)) for chain in self.chains):
            return
        for name, columns in (
            ("grammar", stage_columns(view, self.chains, ledgers, past)),
            ("grammar_targets", target_columns(view, self.chains, past)),
        ):
            self.filled[name] += [columns] if columns else []
        for name, columns in pass_columns(view, ledgers, why_one).items():
            self.filled[name].append(columns)

    def _of_temperatures(
        self, begun: Candidates, ids: Tensor, past: Sequence[History], ledgers: Sequence[Ledger]
    ) -> dict[Any, Tensor]:
        """Find the temperatures at which targets survive each chain."""
        found: dict[Any, Tensor] = {}
        for index, (chain, ledger) in enumerate(zip(self.chains, ledgers, strict=True)):
            ranges = temperature_ranges(chain, begun.scores, ids, past, begun, ledger)
            ends = {"t_min": ranges.t_min, "t_max": ranges.t_max, "status": ranges.code}
            found |= {("range", index, name): one for name, one in ends.items()}
        return found

    def _stage_columns(self, facts: RowFacts, n_rows: int, ledgers: Sequence[Ledger]) -> dict[str, Any]:
        records = [record for ledger in ledgers for record in ledger.records]
        row, step = np.divmod(np.arange(n_rows * len(records)), len(records))

        def at(name: str) -> Any:
            values: list[Tensor] = [getattr(record, name) for record in records]
            return torch.stack(values, 1).numpy()[row, step]

        left = at("n_after")
        top = np.where(left == 0, -1, at("top_token"))
        return {
            **place(self.batch, facts.rows, row),
            **self._chain_columns(step),
            "active": at("active"),
            "params_from": Categorical(
                [_origins(chain, s) for chain in self.chains for s in chain.stages], step
            ),
            "params": Categorical([json.dumps(r.params, sort_keys=True) for r in records], step),
            "n_before": at("n_before"),
            "n_after": left,
            "mass_pruned": at("mass_pruned"),
            "threshold": at("threshold"),
            "entropy_before": at("entropy_before"),
            "entropy_after": at("entropy_after"),
            "top_token": spelled(top, lambda token: facts.spell(token) if token >= 0 else None),
            "top_prob": np.where(top < 0, np.nan, at("top_prob")),
            "collision_after": torch.stack([one.collision_after for one in records], 1).numpy()[row, step],
            "output_mass": _output_mass(ledgers)[row, step],
            "notes": [notes_of(record, index, facts.spell) for index in range(n_rows) for record in records],
            "n_drawable": at("n_drawable"),
            "rule": [rule_of(record, index, facts.spell) for index in range(n_rows) for record in records],
        }

    def _chain_columns(self, step: Any) -> dict[str, Any]:
        stages = [(chain, index, stage) for chain in self.chains for index, stage in enumerate(chain.stages)]
        return {
            "chain": Categorical([chain.name for chain, _, _ in stages], step),
            "engine": Categorical([chain.engine or None for chain, _, _ in stages], step),
            "stage_index": np.array([index for _, index, _ in stages])[step],
            "stage": Categorical([stage.name for _, _, stage in stages], step),
            "kind": Categorical([stage.kind for _, _, stage in stages], step),
            "margin_unit": Categorical([stage.margin_unit or None for _, _, stage in stages], step),
        }

    def _fate_columns(self, facts: RowFacts, ids: Tensor, ledgers: Sequence[Ledger]) -> dict[str, Any]:
        records = [record for ledger in ledgers for record in ledger.records]
        real = (ids >= 0).numpy()[:, None, :].repeat(len(records), axis=1)
        row, step, k = real.nonzero()

        def at(name: str) -> Any:
            values: list[Tensor] = [getattr(record, name) for record in records]
            return torch.stack(values, 1).numpy()[row, step, k]

        chain = self._chain_columns(step)
        del chain["engine"]  # table sampling has it
        alive, left, ranks = at("alive_before"), at("alive_after"), at("rank_before")
        margin = at("margin")
        near = torch.stack([record.within_rounding for record in records], 1).numpy()
        return {
            **place(self.batch, facts.rows, row),
            **chain,
            **facts.followed.names(row, k),
            "token_id": ids.numpy()[row, k],
            "alive_before": alive,
            "alive_after": left,
            "prob_before": at("prob_before"),
            "prob_after": at("prob_after"),
            "rank_before": null_where(ranks, ~alive),
            "margin": margin,
            "within_rounding": null_where(near[row, step, k], np.isnan(margin)),
            "why": whys(facts, records, (row, step, k), alive & ~left),
            **bounds_of(records, (row, step, k), alive & ~left, margin),
            **others_of(records, (row, step, k)),
        }

    def _difference_columns(
        self, facts: RowFacts, pairs: Sequence[tuple[str, str]], found: Here
    ) -> dict[str, Any]:
        """Compare chains on some rows; differing tokens are ordered by the model's probability."""
        row, pair = (one.ravel() for one in np.indices((len(facts.rows.here[0]), len(pairs))))

        def at(name: str) -> Any:
            return np.stack([found["pair", index, name] for index in range(len(pairs))], 1)[row, pair]

        def told(name: str) -> list[list[str]]:
            return [[facts.spell(token) for token in some if token >= 0] for some in at(name).tolist()]

        return {
            **place(self.batch, facts.rows, row),
            "chain": Categorical([left for left, _ in pairs], pair),
            "other": Categorical([right for _, right in pairs], pair),
            "total_variation": at("total_variation"),
            "n_only": at("n_only"),
            "only": told("only"),
            "n_only_other": at("n_only_other"),
            "only_other": told("only_other"),
        }

    def _survival_columns(self, facts: RowFacts, ids: Tensor, found: Here) -> dict[str, Any]:
        row, k = (ids >= 0).numpy().nonzero()
        followed, names = facts.followed, [chain.name for chain in self.chains]
        ends = [
            [found["range", index, one][row, k].tolist() for one in ("t_min", "t_max", "status")]
            for index in range(len(names))
        ]
        return {
            **place(self.batch, facts.rows, row),
            **followed.names(row, k),
            "token_id": ids.numpy()[row, k],
            "spelling": followed.told(lambda one: one.spelling, row, k),
            "other_spelling": followed.told(lambda one: one.other_spelling, row, k),
            "other_spelling_logprob": np.array(
                [followed.targets[i][j].other_logprob for i, j in zip(row.tolist(), k.tolist(), strict=True)]
            ),
            "ambiguous": followed.here["ambiguous"][row, k],
            **{key[1]: one[row, k] for key, one in found.items() if key[0] == "target"},
            "temperature_ranges": [
                [
                    _range(name, low[i], high[i], WORDS[status[i]])
                    for name, (low, high, status) in zip(names, ends, strict=True)
                ]
                for i in range(len(row))
            ],
        }

    def finish(self) -> dict[str, Columns]:
        """Return the columns of the tables."""
        found = super().finish()
        return {**found, "chain_differences": self._in_order(found["chain_differences"])}

    def _in_order(self, columns: Columns) -> Columns:
        """Sort rows by prompt, position and pair: parts hold one pair on a chunk of rows each."""
        if not columns:
            return columns
        prompts = {one.prompt_id: index for index, one in enumerate(self.batch.encoded)}
        prompt = np.array([prompts[one] for one in columns["prompt_id"]])
        order = np.lexsort((columns["position"], prompt))  # stable, so that pairs stay in order
        return {
            key: [values[i] for i in order] if isinstance(values, list) else values[order]
            for key, values in columns.items()
        }


def _of_pairs(pairs: Sequence[ChainDifference], by: Ordering) -> dict[Any, Tensor]:
    """Collect what pairs of chains differ in, by place of the pair and column."""
    found: dict[Any, Tensor] = {}
    for index, one in enumerate(pairs):
        first, second = one.first(by, SHOWN)
        columns = {
            "total_variation": one.total_variation,
            "n_only": one.n_only_left,
            "only": first,
            "n_only_other": one.n_only_right,
            "only_other": second,
        }
        found |= {("pair", index, name): tensor for name, tensor in columns.items()}
    return found


def _of_targets(view: ReadoutView, begun: Candidates, ids: Tensor) -> dict[Any, Tensor]:
    """Collect what is known of targets before any chain, by column of the table ``survival``."""
    limits = bounds(begun.scores, ids, begun)
    columns = {
        # a logit of -inf comes after every finite one
        "rank": torch.where(begun.gone, begun.n[:, None] + 1, begun.ranks),
        "prob": begun.target_probs,
        "target_logprob": view.followed.logprob,
        "min_top_k": limits.min_top_k,
        "min_top_p": limits.min_top_p,
        "max_min_p": limits.max_min_p,
        "min_typical_p": limits.min_typical_p,
        "min_top_n_sigma": limits.min_top_n_sigma,
        "max_epsilon": limits.max_epsilon,
    }
    return {("target", name): one for name, one in columns.items()}


def _output_mass(ledgers: Sequence[Ledger]) -> npt.NDArray[np.float64]:
    """Sum what every stage of every chain leaves of the output's probability, [rows, stages]."""
    stages = [(ledger, stage) for ledger in ledgers for stage in range(len(ledger.records))]
    found: npt.NDArray[np.float64] = torch.stack([one.output_mass(stage) for one, stage in stages], 1).numpy()
    return found


def histories(view: ReadoutView, settings: Settings) -> list[History]:
    """Return the tokens up to each probed row, and the other logits there that stages combine."""
    needed = needed_rows(stage for chain in settings.chains for stage in chain.stages)
    key = needed, settings.against
    if key not in view.shared:
        view.shared.clear()  # pages that keep what was read out ask for others again and again
        view.shared[key] = _histories(view, *key)
    found: list[History] = view.shared[key]
    return found


def _histories(view: ReadoutView, needed: frozenset[str], against: OtherRows | None) -> list[History]:
    prompt, probe = view.rows.here
    positions = view.batch.here["positions"][prompt, probe].tolist()
    layers = torch.from_numpy(array(view.logits)) if LAYERS in needed else None
    found = []
    for index, (row, position) in enumerate(zip(prompt.tolist(), positions, strict=True)):
        one = view.batch.encoded[row]
        ids, own = one.token_ids[: position + 1], len(one.token_ids) - one.n_written
        others = {} if layers is None else {LAYERS: layers[:, index].double()}
        if needed and against is not None:
            others |= against(ids[:own], ids[own:], others)
        found.append(History(prompt=ids[:own], generated=ids[own:], rows=others))
    return found


def _origins(chain: Chain, stage: Stage) -> str | None:
    found = chain.origins_of(stage.name)
    return json.dumps(found, sort_keys=True) if found else None


def _range(chain: str, low: float, high: float, status: str) -> dict[str, Any]:
    return {
        "chain": chain,
        "t_min": None if isnan(low) else low,
        "t_max": None if isnan(high) else high,
        "status": status,
    }
