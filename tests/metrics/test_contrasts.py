"""Contrasts against foils traced as targets, against pairs traced themselves, the same in any company."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import elimtool
from elimtool import TraceOptions
from elimtool.analysis.contrasts import decision
from elimtool.lenses.ridge import RidgeLens
from elimtool.metrics.contrasts import differences, in_order, settled_from
from elimtool.metrics.controls import Matching
from elimtool.model.interventions import Ablate

TEXTS = ["The capital of France is", "a", "The text of a token is eliminated when no layer keeps it."]
NAMES = ("contrasts", "contrast_layers", "contrast_components", "contrast_stages")
FOLLOWED: dict[str, Any] = {"targets": [" of", " is"], "foils": [" a", "x"]}
CHAINS = ("top_k=150,top_p=0.6", "llama.cpp", "min_p=0.2", "temperature=0.5")


@pytest.fixture(scope="module")
def run(llama: Any) -> Any:
    return elimtool.trace(llama, TEXTS, **FOLLOWED, options=TraceOptions(samplers=CHAINS))


@given(st.integers(0, 10_000))
def test_what_has_settled_is_what_the_decision_layer_says(seed: int) -> None:
    found = torch.randint(-1, 2, (6, 5), generator=torch.Generator().manual_seed(seed))
    settled = settled_from(found.double())
    for pair in range(5):
        rows = [{"layer": i - 1, "difference": float(one)} for i, one in enumerate(found[:, pair])]
        first = decision(rows)
        assert settled[1:, pair].tolist() == [first is not None and i >= first["layer"] for i in range(5)]


def test_rows_go_by_row_then_item_then_pair() -> None:
    item, pair = in_order(2, np.array([0, 0, 1]))
    assert list(zip(item.tolist(), pair.tolist(), strict=True)) == [
        (0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (1, 2),
    ]  # fmt: skip


def test_differences_are_of_the_lens_rows_at_every_layer(run: Any) -> None:
    table = run.table("contrast_layers")
    logits = run.table("lens").set_index(["prompt_id", "position", "layer", "target"])["logit"]
    assert len(table) == 3 * 4 * (run.n_layers + 1)
    for row in table.itertuples():
        at = (row.prompt_id, row.position, row.layer)
        assert row.difference == pytest.approx(logits[(*at, row.target)] - logits[(*at, row.foil)], abs=1e-6)


def test_parts_sum_to_the_difference_in_the_output(run: Any) -> None:
    """Against Hugging Face's own logits in every family: ``test_components.py``."""
    key = ["prompt_id", "position", "target", "foil"]
    total = run.table("contrast_components").groupby(key)["dla_difference"].sum()
    final = run.table("contrasts").set_index(key)["difference"]
    np.testing.assert_allclose(total.reindex(final.index), final, atol=1e-3)
    parts = run.table("contrast_components")
    parts = parts[parts["kind"].isin(["head", "mlp"])]
    for at, row in run.table("contrasts").set_index(key).iterrows():
        own = parts[(parts[key] == list(at)).all(axis=1)].set_index("component")["dla_difference"]
        assert (row["promoter"], row["eliminator"]) == (own.idxmax(), own.idxmin())


def test_a_stage_parts_what_two_targets_of_their_own_part_at(llama: Any, run: Any) -> None:
    """The same four strings, all traced as targets: their fates say where two of them part."""
    both = elimtool.trace(
        llama, TEXTS, targets=[one for each in FOLLOWED.values() for one in each],
        options=TraceOptions(samplers=CHAINS, tables=("sampling_targets",)),
    ).table("sampling_targets")  # fmt: skip
    fates = {
        key: rows.sort_values("stage_index") for key, rows in both.groupby(["prompt_id", "chain", "target"])
    }
    table = run.table("contrast_stages")
    assert len(table) == 3 * 4 * len(CHAINS)
    assert table["kept"].isna().any() and {"target", "foil"} <= set(table["kept"].dropna())
    for row in table.itertuples():
        target, foil = (fates[row.prompt_id, row.chain, name] for name in (row.target, row.foil))
        apart = np.flatnonzero(target["alive_after"].to_numpy() != foil["alive_after"].to_numpy())
        assert row.target_survives == target["alive_after"].iloc[-1]
        assert row.foil_survives == foil["alive_after"].iloc[-1]
        if not len(apart):
            assert (
                pd.isna(row.stage) and pd.isna(row.kept) and pd.isna(row.target_margin) and pd.isna(row.why)
            )
            continue
        one, other = target.iloc[apart[0]], foil.iloc[apart[0]]
        assert (row.stage_index, row.stage, row.kind) == (one.stage_index, one.stage, one.kind)
        assert row.kept == ("target" if one.alive_after else "foil")
        assert row.why == (other if one.alive_after else one).why
        np.testing.assert_equal([row.target_margin, row.foil_margin], [one.margin, other.margin])
    counted = table[table["stage"].notna()].groupby(["prompt_id", "target", "foil"]).size()
    for row in run.table("contrasts").itertuples():
        assert row.n_separating == counted.get((row.prompt_id, row.target, row.foil), 0)
        assert row.n_chains == len(CHAINS)


def test_company_changes_nothing(llama: Any, run: Any) -> None:
    for text in TEXTS:
        alone = elimtool.trace(llama, text, **FOLLOWED, options=TraceOptions(samplers=CHAINS))
        (name,) = alone.table("prompts")["prompt_id"]
        for table in NAMES:
            together = run.table(table)
            together = together[together["prompt_id"] == name].reset_index(drop=True)
            pd.testing.assert_frame_equal(alone.table(table), together, atol=1e-4, rtol=1e-4)


def test_nothing_is_filled_without_foils_or_without_targets(llama: Any) -> None:
    for follow in ({"targets": [" of"]}, {"foils": [" of"]}, {}):
        run = elimtool.trace(llama, TEXTS[0], **follow)
        assert not any(run.arrow(name).num_rows for name in NAMES)


def test_foils_leave_the_targets_tables_as_they_are(llama: Any) -> None:
    options = TraceOptions(samplers=CHAINS)
    names = ("sampling_targets", "survival", "verdicts", "sampling")
    plain, contrasted = (
        elimtool.trace(llama, TEXTS[0], targets=[" of"], foils=foils, options=options)
        for foils in ([], [" a"])
    )
    for name in names:
        assert plain.arrow(name).equals(contrasted.arrow(name)), name


def test_one_token_for_both_decides_nothing(llama: Any) -> None:
    found = elimtool.trace(llama, TEXTS[0], targets=["zq", "of"], foils=["zx"])
    row = found.table("contrasts").iloc[0]
    assert row["token_id"] == row["foil_token_id"]
    assert row["difference"] == 0 and pd.isna(row["decision_layer"])
    assert row["n_chains"] == 3 and row["n_separating"] == 0


def test_both_passes_are_contrasted(llama: Any) -> None:
    options = TraceOptions(samplers=CHAINS, interventions=(Ablate("3.1", "zero"),))
    found = elimtool.trace(llama, TEXTS[0], **FOLLOWED, options=options)
    table = found.table("contrasts")
    assert table["intervention"].isna().tolist() == [True] * 4 + [False] * 4
    layers = found.table("contrast_layers")
    for row in table.itertuples():
        own = layers[layers["intervention"].isna() == pd.isna(row.intervention)]
        own = own[(own["target"] == row.target) & (own["foil"] == row.foil)]
        assert own["difference"].iloc[-1] == row.difference


def test_control_pairs_are_settled_as_pairs_traced_themselves(llama: Any, random_lens: str) -> None:
    """Each control pair, traced as a target and a foil, has the decision layer that was counted."""
    options = TraceOptions(lens=random_lens, samplers=(), tables=("contrasts", "contrast_layers"))
    found = elimtool.trace(llama, TEXTS[0], targets=[" of"], foils=[" a"], options=options)
    row, layers = found.table("contrasts").iloc[0], found.table("contrast_layers")
    prior = RidgeLens.load(Path(random_lens)).reference.prior
    ids = torch.tensor([[row["token_id"], row["foil_token_id"]]])
    matched = Matching(prior).controls(ids, ids)[0]
    first, second = matched[0], matched[1].roll(matched.shape[-1] // 2, -1)
    logits = _logits(llama, options, TEXTS[0])
    assert len({frozenset(pair) for pair in zip(first.tolist(), second.tolist(), strict=True)}) == len(first)
    decided = []
    for one, other in zip(first.tolist(), second.tolist(), strict=True):
        rows = [{"layer": i - 1, "difference": float(at[one] - at[other])} for i, at in enumerate(logits)]
        decided.append(decision(rows))
    known = [one["layer"] for one in decided if one is not None]
    assert row["n_controls"] == len(known)
    for layer, counted in zip(layers["layer"], layers["n_controls_settled"], strict=True):
        if layer >= 0:
            assert counted == sum(one <= layer for one in known)
    assert row["n_controls_settled"] == sum(one <= row["decision_layer"] for one in known)


def _logits(model: Any, options: TraceOptions, text: str) -> torch.Tensor:
    """Every layer's logits through the lens, read token by token from the table ``lens``."""
    from elimtool.engine.loop import measure_together
    from elimtool.engine.session import Session
    from elimtool.metrics.metric import Metric, ReadoutView
    from elimtool.prompts.prompt import Prompt

    kept: list[torch.Tensor] = []

    class Keep(Metric):
        def read(self, view: ReadoutView) -> None:
            kept.append(view.logits.double().clone())

    session = Session(model, options)
    measure_together(session, [session.encode(Prompt(text=text))], (Keep,))
    return kept[0][:, 0]


def test_differences_are_in_double_precision() -> None:
    logits = torch.tensor([[[16_777_216.0, 0.5]]])
    found = differences(logits, np.array([0]), torch.tensor([[0]]), torch.tensor([[1]]))
    assert found.dtype == torch.float64 and found.item() == 16_777_215.5
