"""Bounds of targets: a bias, a least length, a step: each is the one that a search finds."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import elimtool
from elimtool import TraceOptions
from elimtool.samplers import STAGES, History, resolve
from elimtool.samplers.stage import BIAS
from tests.report.printed import printed
from tests.samplers.rows import alone, rows

BIASED = {
    "top_k": {"k": 3},
    "min_p": {"p": 0.5},
    "greedy": {},
    "temperature": {"temperature": 0.0},
    "dynamic_temperature": {"temperature": 0.0},
}


def test_every_stage_with_a_bias_is_tried() -> None:
    assert {kind for kind, stage in STAGES.items() if stage.bound_of == BIAS} == set(BIASED)


@pytest.mark.parametrize("kind", BIASED)
def test_a_target_survives_with_a_little_more_than_the_bias_and_not_with_less(kind: str) -> None:
    chain = alone(STAGES[kind](**BIASED[kind]))
    for row in rows("normal", 20, 30, seed=1):
        entry = chain.run(row[None], torch.arange(30)[None]).records[0]
        for token in (~entry.alive_after[0]).nonzero()[:6, 0].tolist():
            bias = -float(entry.margin[0, token])
            for more, survives in ((1e-6, True), (-1e-6, False)):
                raised = row.clone()
                raised[token] += bias + more
                assert bool(chain.run(raised[None], torch.tensor([[token]])).kept[0, token]) == survives


def test_the_step_from_which_an_end_leads_is_the_first_at_which_it_does() -> None:
    stage = STAGES["length_decay"](factor=1.07, after=4, eos=(3,))
    seen = set()
    for seed in range(40):
        x = rows("normal", 1, 12, seed) * 0.5
        entry = alone(stage).run(x, torch.tensor([[3]]), [History((1,))]).records[0]
        found = entry.least(0)
        leads = []
        for step in range(120):
            after = alone(stage).run(x, torch.tensor([[3]]), [History((1,), (0,) * step)])
            leads.append(int(after.end.top_token) == 3)
        if found is None:
            assert float(x[0, 3]) == 0 or not any(leads)
        elif found < 120:
            assert leads.index(True) == found and all(leads[int(found) :])
        seen.add(found)
    assert 0 in seen and len(seen) > 5
    assert replace(stage, factor=0.9).leads_from(1.0, 2.0) is None


def test_rows_name_rules_and_bounds(tiny) -> None:  # type: ignore[no-untyped-def]
    options = TraceOptions(
        samplers=("no_repeat_ngram=1,top_k=2", "suppress=[1],remove_invalid=true"),
        tables=("sampling", "sampling_targets"),
    )
    run = elimtool.trace(tiny, elimtool.Prompt("a b a", targets=(" a", " zebra")), options=options)
    stages, targets = run.table("sampling"), run.table("sampling_targets")
    first = stages[stages["stage"] == "no_repeat_ngram"].iloc[0]
    assert "would repeat the 1-gram" in first["rule"] and first["n_drawable"] == first["n_after"]
    soft = stages[stages["stage"] == "remove_invalid"].iloc[0]
    assert soft["n_after"] == soft["n_before"] + 1 == soft["n_drawable"] + 1
    banned = targets[(targets["stage"] == "no_repeat_ngram") & ~targets["alive_after"]]
    assert set(banned["bound_of"]) == {"n"} and (banned["bound"] >= 2).all()
    cut = targets[(targets["stage"] == "top_k") & targets["alive_before"] & ~targets["alive_after"]]
    assert set(cut["bound_of"]) <= {"bias"} and (cut["bound"] == -cut["margin"]).all()
    assert resolve("no_repeat_ngram=1").stages[0].bound_of == "n"


def test_a_chain_that_leaves_nothing_is_a_run_like_any_other(llama) -> None:  # type: ignore[no-untyped-def]
    """Null where there is nothing to say, and the walk ends there."""
    every = list(range(llama.vocab))
    options = TraceOptions(samplers=(f"suppress={every},top_k=4", "hf"), generate=3)
    run = elimtool.trace(llama, elimtool.Prompt("The capital", targets=(" of",)), options=options)
    rows_ = run.table("sampling")
    emptied = rows_[rows_["chain"] == rows_["chain"].iloc[0]]
    assert emptied["n_after"].tolist() == [0, 0] and emptied["n_before"].tolist() == [llama.vocab, 0]
    assert emptied["top_token"].isna().all() and emptied["top_prob"].isna().all()
    assert emptied["entropy_after"].isna().all() and emptied["mass_pruned"].iloc[0] == pytest.approx(1)
    assert "no token is left" in emptied["notes"].iloc[0][0] and emptied["active"].tolist() == [True, False]
    between = run.table("chain_differences")
    assert between["n_only"].tolist() == [0] and between["total_variation"].isna().all()
    assert not len(run.table("walk")) if "walk" in run.tables else True
    stages = run.table("walk_stages")
    assert stages["step"].tolist() == [0, 0] and stages["n_after"].tolist() == [0, 0]
    assert set(run.table("verdicts")["outcome"]) and "suppress of suppress=[" in printed(run)
