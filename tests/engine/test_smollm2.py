"""The default model: the facts that the README states, and independence from batch and padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import elimtool
from elimtool import Prompt, TraceOptions
from elimtool.model.verify import verify
from elimtool.prompts.prompt import Message
from tests.engine.test_engine import assert_same

pytestmark = pytest.mark.smollm2

CAPITAL = "The capital of France is"


def test_paris_leads(smollm2: Any) -> None:
    run = elimtool.trace(smollm2, CAPITAL, targets=["Paris"], options=TraceOptions(lens="raw"))
    lens = run.table("lens").set_index("layer")
    assert lens.loc[29, "rank"] == 1
    assert lens.loc[29, "prob"] == pytest.approx(0.7725, abs=5e-4)
    assert lens.loc[0, "rank"] > 100
    assert run.prompts["token_ids"][0].tolist() == [504, 3575, 282, 4649, 314]
    assert run.manifest.bos == "none"


def test_it_matches_hugging_face(smollm2: Any) -> None:
    found = verify(smollm2)
    assert [one.what for one in found] == ["attention", "residual", "logits"]
    assert all(one.passed for one in found)


@pytest.mark.slow
def test_massive_activation_and_the_sink_move_together(smollm2: Any) -> None:
    """metrics.md, finding 7: the sink's mass collapses at layers 10 and 11, where the activation is gone."""
    text = (
        "The river ran slowly past the old mill, and the children threw stones into the deep water below. "
        * 3
    )
    run = elimtool.trace(
        smollm2, text, options=TraceOptions(position="all", heads=False, samplers=(), lens="raw")
    )
    sink = run.table("attention_layers").query("position >= 20").groupby("layer")["sink_mass"].mean()
    assert sink[12] > 0.3
    assert min(sink[8], sink[9]) > 3 * sink[10] > 3 * sink[11]
    assert sink[11] < 0.02


@pytest.mark.slow
def test_batched_equals_single_on_mixed_lengths(smollm2: Any) -> None:
    words = [
        "the",
        "quick",
        "brown",
        "fox",
        "jumps",
        "over",
        "12",
        "birds",
        "near",
        "Z\u00fcrich",
        "\u6771\u4eac",
    ]
    prompts = [" ".join(words[i % len(words)] for i in range(k)) + f" {k}" for k in (1, 2, 5, 17, 40, 90)]
    options = TraceOptions(samplers=("llama.cpp",), heads=False, lens="raw")
    together = elimtool.trace(smollm2, prompts, targets=[" the", " Paris"], options=options)
    for prompt in prompts:
        alone = elimtool.trace(smollm2, prompt, targets=[" the", " Paris"], options=options)
        for name in ("lens", "lens_layers", "attention", "survival"):
            whole = together.table(name)
            part = whole[whole["prompt_id"] == alone.prompts["prompt_id"][0]].reset_index(drop=True)
            _near(part, alone.table(name), name)


def _near(part: pd.DataFrame, alone: pd.DataFrame, name: str) -> None:
    """As the tiny models, but ranks may swap among near-ties, a nucleus may gain a token at its border, and a
    divergence, which weighs differences of log-probabilities by up to its own size, is compared relatively.
    """
    loose = [c for c in ("rank", "rank_ties", "nucleus_size", "survivor_jaccard", "min_top_k") if c in part]
    for column in loose:
        np.testing.assert_allclose(part[column].astype(float), alone[column].astype(float), rtol=0.02, atol=1)
    if "kl_to_final" in part:
        np.testing.assert_allclose(part["kl_to_final"], alone["kl_to_final"], rtol=1e-3, atol=1e-4)
        loose.append("kl_to_final")
    shaky = ("temperature_ranges", "logit", "eliminated_frac", "mass_max_head")  # near-ties, thresholds
    drop = [*loose, *(c for c in shaky if c in part)]
    assert_same(part.drop(columns=drop), alone.drop(columns=drop), name)


@pytest.mark.slow
def test_a_long_prompt_and_a_single_token(smollm2: Any) -> None:
    long = "A sentence of moderate length stands here. " * 220
    run = elimtool.trace(
        smollm2, [long, "Hi"], targets=[" A"], options=TraceOptions(samplers=("hf",), lens="raw")
    )
    assert run.prompts["n_tokens"].tolist()[0] > 1500
    assert run.prompts["n_tokens"].tolist()[1] == 1
    spans = run.table("attention").query(f"prompt_id == '{run.prompts['prompt_id'][0]}'")["span"].unique()
    assert spans[0] == "<sink>" and spans[1].startswith("S1: A sentence")
    alone = run.table("attention_layers").query(f"prompt_id == '{run.prompts['prompt_id'][1]}'")
    assert (alone["sink_mass"] == 1).all()
    assert alone["eliminated_frac"].isna().all()


def test_an_answer_that_was_begun_is_continued_as_transformers_does(smollm2: Any) -> None:
    """Read after a closed turn, ' Paris' was at rank 353; an open one gives 0.951265 in transformers."""
    turns = (
        Message("user", "What is the capital of France?"),
        Message("assistant", "The capital of France is"),
    )
    options = TraceOptions(lens="raw", tables=("survival",))
    run = elimtool.trace(smollm2, Prompt(messages=turns, targets=("Paris",)), options=options)
    chat = [{"role": turn.role, "content": turn.content} for turn in turns]
    backend = smollm2.tokenizer.backend
    own = backend.apply_chat_template(chat, continue_final_message=True, return_dict=False)
    assert run.prompts["token_ids"][0].tolist() == list(own)
    (row,) = run.table("survival").itertuples()
    assert row.rank == 1 and row.prob == pytest.approx(0.951265, abs=1e-4)
