"""Control tokens: matched by hand, judged like the targets themselves, the same in any company."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import elimtool
from elimtool import Prompt, TraceOptions
from elimtool.analysis.verdict import FinalPlace, outcome, trajectory
from elimtool.engine.forward import launch
from elimtool.lenses.raw import RawLens
from elimtool.lenses.ridge import RidgeLens
from elimtool.metrics.controls import MATCHED_TOKENS, Matching, late_eliminated
from elimtool.metrics.metric import Settings
from elimtool.model.view import Target

TEXTS = ["The capital of France is", "a", "The text of a token is eliminated when no layer keeps it."]


def test_the_nearest_in_frequency_are_taken_by_id_among_equals() -> None:
    #            0    1    2    3    4    5    6    7
    prior = torch.tensor([0.0, 1.0, 2.0, 2.0, 2.5, 4.0, 4.1, 9.0])
    matching = Matching(prior, count=3)

    def controls(target: int, *excluded: int) -> list[int]:
        return matching.controls(torch.tensor([[target]]), torch.tensor([[target, *excluded]]))[0, 0].tolist()

    assert controls(2) == [3, 4, 1]
    assert controls(2, 3, -1) == [4, 1, 0]
    assert controls(7) == [6, 5, 4]
    assert controls(0) == [1, 2, 3]
    assert controls(0, 1, 2, 3, 4, 5) == [6, 7, -1]


@given(st.integers(0, 10_000), st.integers(0, 299))
def test_no_nearer_token_is_left_out(seed: int, target: int) -> None:
    prior = torch.randn(300, generator=torch.Generator().manual_seed(seed))
    followed = torch.tensor([[target, (target + 7) % 300, -1]])
    found = Matching(prior).controls(followed[:, :1], followed)[0, 0].tolist()
    assert len(set(found)) == MATCHED_TOKENS and not set(found) & set(followed[0].tolist())
    left = set(range(300)) - set(found) - set(followed[0].tolist())
    furthest = max(abs(prior[i] - prior[target]) for i in found)
    assert all(abs(prior[i] - prior[target]) >= furthest for i in left)


@given(st.integers(0, 10_000), st.booleans())
def test_many_tokens_are_judged_as_one_target_is(seed: int, ties: bool) -> None:
    """The rule of ``elimtool.analysis.verdict``, token by token, from ranks counted one at a time."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, 2, 40, generator=generator) * 4
    logits = logits.round() if ties else logits
    output = logits[-1].log_softmax(-1)
    tokens = torch.arange(40).repeat(2, 1)
    lost, severity = late_eliminated(logits, output, tokens)
    assert lost.any()
    for row in range(2):
        for token in range(40):
            ranks = [(i, 1 + int((layer > layer[token]).sum())) for i, layer in enumerate(logits[1:, row])]
            before = float(output[row].exp()[output[row] > output[row, token]].sum())
            if abs(before - 0.95) < 1e-5:
                continue
            events = trajectory(ranks)
            share = float((output[row, token] - output[row].max()).exp())
            said = outcome(FinalPlace(ranks[-1][1], before, share), False, events)
            assert bool(lost[row, token]) == (said == "late_eliminated"), (row, token)
            if lost[row, token]:
                assert severity[row, token].item() == pytest.approx(events.severity)
            else:
                assert severity[row, token].isnan()


def test_a_trace_says_of_controls_what_it_says_of_targets(llama: Any, random_lens: str) -> None:
    """Every control of a target, traced as a target itself, has the outcome that was counted."""
    options = TraceOptions(lens=random_lens, tables=("controls", "verdicts", "lens"), samplers=())
    run = elimtool.trace(llama, TEXTS[0], targets=[" of"], options=options)
    row = run.table("controls").iloc[0]
    prior = RidgeLens.load(Path(random_lens)).reference.prior
    ids = Matching(prior).controls(torch.tensor([[row["token_id"]]]), torch.tensor([[row["token_id"]]]))
    assert row["n_controls"] == MATCHED_TOKENS
    assert row["prior"] == pytest.approx(float(prior[row["token_id"]].exp()))
    assert row["prior_low"] == pytest.approx(float(prior[ids].exp().min()))
    assert row["prior_high"] == pytest.approx(float(prior[ids].exp().max()))
    texts = [llama.tokenizer.texts([token])[0] for token in ids[0, 0].tolist()]
    spelt = {
        text
        for text, token in zip(texts, ids[0, 0].tolist(), strict=True)
        if list(llama.tokenizer.encode(text, special=False).ids) == [token]
    }
    exact = TraceOptions(lens=random_lens, samplers=(), target_space="exact")
    judged = elimtool.trace(llama, TEXTS[0], targets=sorted(spelt), options=exact).table("verdicts")
    assert len(judged) > 40
    severities = sorted(judged[judged["outcome"] == "late_eliminated"]["severity"])
    assert severities
    counted = list(row["lost_severities"])
    assert len(counted) == row["n_lost"]
    for one in severities:
        nearest = min(counted, key=lambda other: abs(other - one))
        assert nearest == pytest.approx(one, abs=1e-6)
        counted.remove(nearest)
    assert len(counted) <= MATCHED_TOKENS - len(judged)


@pytest.mark.parametrize(("name", "part"), [("source_spans", "span"), ("components", "component")])
def test_what_parts_wrote_is_in_standard_deviations_of_controls(
    llama: Any, random_lens: str, name: str, part: str
) -> None:
    """Every control followed itself: z is what a part wrote for the target over their spread."""
    options = TraceOptions(lens=random_lens, tables=(name, "controls"), samplers=())
    run = elimtool.trace(llama, TEXTS[0], targets=[" of"], options=options)
    parts = run.table(name).dropna(subset="z").set_index(part)
    assert len(parts) > 3
    target = run.table("controls")["token_id"].iloc[0]
    ids = Matching(RidgeLens.load(Path(random_lens)).reference.prior).controls(
        torch.tensor([[target]]), torch.tensor([[target]])
    )
    one = llama.encode(Prompt(text=TEXTS[0]))
    followed = tuple(Target.single(str(token), token) for token in ids[0, 0].tolist())
    settings = Settings(tables=frozenset({name}), heads=name == "components")
    leaders = {(one.prompt_id, one.positions[0]): followed}
    table = launch(llama, [one], settings, RawLens(), leaders).tables()[name].to_pandas()
    assert table["z"].isna().all()  # without the frequencies there are no controls
    wrote = table.pivot(index=part, columns="target", values="dla_centred").reindex(parts.index)
    assert wrote.shape[1] == MATCHED_TOKENS
    np.testing.assert_allclose(parts["z"], parts["dla_centred"] / wrote.std(axis=1), rtol=1e-3)


@pytest.mark.parametrize("position", ["last", "all"])
def test_batched_equals_single(llama: Any, random_lens: str, position: Any) -> None:
    options = TraceOptions(lens=random_lens, position=position)
    together = elimtool.trace(llama, TEXTS, targets=[" of", " is"], foils=[" a"], options=options)
    for text in TEXTS:
        alone = elimtool.trace(llama, text, targets=[" of", " is"], foils=[" a"], options=options)
        for name in ("controls", "verdicts"):
            whole = together.table(name)
            part = whole[whole["prompt_id"] == alone.prompts["prompt_id"][0]].reset_index(drop=True)
            own = alone.table(name)
            for column in ("n_lost", "prior_low") if name == "controls" else ("lost_p", "lost_chance"):
                np.testing.assert_array_equal(part[column], own[column])
            if name == "verdicts" and position == "last":  # at every position components are not measured
                for role in ("promoter", "eliminator"):
                    assert own[f"{role}_z"].notna().all() and part[role].tolist() == own[role].tolist()
                    np.testing.assert_allclose(part[f"{role}_z"], own[f"{role}_z"], rtol=1e-3)
    assert set(together.table("controls")["target"]) == {" of", " is"}
