"""A draft model proposes, a target verifies: against transformers' own logits, and drafts of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest
import torch

import elimtool
from elimtool.errors import ElimError
from elimtool.run.comparison import Comparison
from elimtool.tasks.compare.models import compare_models
from tests.families import save

PROMPTS = [
    elimtool.Prompt(text="The capital of France is", id="France"),
    elimtool.Prompt(text="abc", id="abc"),
]
CHAIN = "top_k=6,temperature=0.7"
OPTIONS = elimtool.TraceOptions(samplers=(CHAIN, "vllm"), lens="raw")
PROBABILISTIC = elimtool.Speculation(tokens=4, draft_chain="probabilistic", seed=2)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> tuple[Path, Path]:
    first, second = (
        save("llama", tmp_path_factory.mktemp(f"m{seed}"), tokenizer, seed=seed) for seed in (3, 4)
    )
    return first, second


@pytest.fixture(scope="module")
def pair(folders: tuple[Path, Path]) -> tuple[Any, Any]:
    draft, target = (elimtool.load_model(str(folder)) for folder in folders)
    return draft, target


@pytest.fixture(scope="module")
def found(pair: tuple[Any, Any]) -> Comparison:
    return compare_models(*pair, PROMPTS, options=OPTIONS, speculation=PROBABILISTIC)


def outputs(model: Any, ids: list[int]) -> torch.Tensor:
    """Logits of Hugging Face's own model after each token of a text."""
    with torch.inference_mode():
        return model.hf(torch.tensor([ids])).logits[0].double()


def chained(logits: torch.Tensor) -> torch.Tensor:
    """What ``CHAIN`` leaves, by hand."""
    kept = logits.masked_fill(logits < logits.topk(6).values[-1], -torch.inf)
    return torch.softmax(kept / 0.7, -1)


def test_probabilities_and_acceptance_are_those_of_hugging_faces_logits(
    found: Comparison, pair: tuple[Any, Any]
):
    draft, target = pair
    steps = found.table("speculation_steps").set_index(["pair_id", "chain", "step"]).sort_index()
    rules = found.table("speculation_rules").set_index(["pair_id", "chain", "step", "rule"]).sort_index()
    for prompt in PROMPTS:
        own = steps.loc[(prompt.id, CHAIN)]
        ids = [*draft.encode(prompt).token_ids, *own["token_id"]]
        ours, theirs = outputs(draft, ids), outputs(target, ids)
        for step, row in own.iterrows():
            q = torch.softmax(ours[row["position"]] / 0.7, -1)
            p = chained(theirs[row["position"]])
            token = row["token_id"]
            assert row["draft_prob"] == pytest.approx(float(q[token]), rel=1e-4)
            assert row["target_prob"] == pytest.approx(float(p[token]), rel=1e-4, abs=1e-9)
            assert row["mass_refused"] == pytest.approx(float(q[p == 0].sum()), rel=1e-4)
            assert (row["cut_stage"] == "top_k") == (float(p[token]) == 0)
            judged = rules.loc[(prompt.id, CHAIN, step)]
            assert judged.loc["standard", "alpha"] == pytest.approx(
                float(torch.minimum(p, q).sum()), rel=1e-4
            )
            assert judged.loc["match", "alpha"] == pytest.approx(float(p @ q), rel=1e-4)
            assert judged.loc["standard", "accept"] == pytest.approx(
                min(1.0, float(p[token] / q[token])), rel=1e-4
            )
            assert judged.loc["standard", "self_alpha"] == pytest.approx(
                float(torch.minimum(p, torch.softmax(theirs[row["position"]] / 0.7, -1)).sum()), rel=1e-4
            )


def test_expected_tokens_are_one_and_the_sum_of_products(found: Comparison):
    rules = found.table("speculation_rules")
    for _, row in found.table("speculation").iterrows():
        same = rules[(rules[["pair_id", "chain", "rule"]] == row[["pair_id", "chain", "rule"]]).all(axis=1)]
        assert row["n_drafted"] == len(same) == 4
        assert row["drafted_tokens"] == pytest.approx(1 + same["reached"].sum())
        if row["rule"] != "block":
            assert row["expected_tokens"] == pytest.approx(1 + same["alpha"].cumprod().sum())
            assert same["reached"].to_list() == pytest.approx(same["accept"].cumprod().to_list())
        assert row["worst_step"] == same.loc[same["alpha"].idxmin(), "step"]
    lossless = rules[rules["rule"].isin(["standard", "match", "siblings", "block"])]
    assert (lossless["bias"] == 0).all()


def test_greedy_drafts_are_what_the_model_generates(pair: tuple[Any, Any]):
    draft, target = pair
    asked = elimtool.Speculation(tokens=5)
    same = compare_models(draft, target, PROMPTS, options=OPTIONS, speculation=asked)
    steps = same.table("speculation_steps")
    for prompt in PROMPTS:
        ids = torch.tensor([list(draft.encode(prompt).token_ids)])
        written = draft.hf.generate(ids, max_new_tokens=5, do_sample=False)[0, ids.shape[1] :].tolist()
        for chain in (CHAIN, "vllm"):
            own = steps[(steps["pair_id"] == prompt.id) & (steps["chain"] == chain)]
            assert own["token_id"].tolist() == written
    assert (steps["draft_prob"] == 1).all()


def test_a_model_that_drafts_for_itself_loses_what_the_rule_loses_and_no_more(pair: tuple[Any, Any]):
    _, target = pair
    same = compare_models(target, target, PROMPTS[:1], options=OPTIONS, speculation=PROBABILISTIC)
    passes = same.table("speculation").set_index("rule")
    rest = passes.drop(index="block")
    assert rest["expected_tokens"].to_list() == pytest.approx(rest["self_tokens"].to_list())
    assert passes.loc["block", "self_tokens"].isna().all()
    plain = same.table("speculation_rules")
    plain = plain[(plain["chain"] == "vllm") & (plain["rule"] == "standard")]
    assert plain["alpha"].to_list() == pytest.approx([1.0] * 4)  # vllm's chain removes nothing by default


def test_the_same_seed_proposes_the_same(found: Comparison, pair: tuple[Any, Any]):
    again = compare_models(*pair, PROMPTS[:1], options=OPTIONS, speculation=PROBABILISTIC)
    for name in ("speculation", "speculation_steps", "speculation_rules"):
        known = found.arrow(name)
        assert again.arrow(name).equals(known.filter(pc.equal(known["pair_id"], "France"))), name


def test_what_cannot_be_drafted_is_refused(pair: tuple[Any, Any]):
    asked = elimtool.Speculation()
    with pytest.raises(ElimError, match="`speculation` and `position`"):
        compare_models(*pair, "abc", options=elimtool.TraceOptions(position=0), speculation=asked)
    with pytest.raises(ElimError, match="`tokens` must be 1 or more"):
        elimtool.Speculation(tokens=0)
    with pytest.raises(ElimError, match="`weight` must be above 0"):
        elimtool.Speculation(weight=2.0)
    with pytest.raises(ElimError, match="nowhere"):
        compare_models(*pair, "abc", options=OPTIONS, speculation=elimtool.Speculation(draft_chain="nowhere"))
