"""Targets of several tokens through chains: against Hugging Face's processors, by hand, and refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from math import log2, prod
from typing import Any

import numpy as np
import pytest
import torch

import elimtool
from elimtool import ElimError, Prompt, TraceOptions
from elimtool.engine.forced import outputs
from elimtool.engine.sequences import sequence_tables
from elimtool.engine.walk import walk
from elimtool.model.decode import Decoder
from elimtool.model.view import Target
from elimtool.run.selection import asked_by
from elimtool.samplers import History, resolve

TEXT = "The capital of France is"
TARGET = " Paris. The capital of France is Paris."
OPEN = "temperature=1,top_k=0,top_p=1,xtc_probability=0"


def through(model: Any, *chains: str, targets: Any = (TARGET,), text: Any = TEXT, **options: Any) -> Any:
    given = {"tables": ("top_tokens",), "lens": "raw", "target_space": "exact", "samplers": ("hf",)}
    asked = TraceOptions(through=chains, **{**given, **options})
    return elimtool.trace(model, text, targets=list(targets), options=asked)


def test_one_pass_predicts_what_token_by_token_reading_does(llama: Any) -> None:
    ids = llama.encode(Prompt(text=TEXT)).token_ids
    texts = [tuple(llama.tokenizer.encode(text, special=False).ids) for text in (TARGET, " Berlin", " a")]
    for text, found in zip(texts, outputs(llama, ids, texts), strict=True):
        decoder = Decoder(llama)
        steps = torch.cat([decoder.read(ids), *(decoder.read([token]) for token in text[:-1])])
        assert found.dtype == torch.float64
        torch.testing.assert_close(found, steps, atol=1e-4, rtol=0)


def test_each_token_is_as_probable_as_transformers_processors_leave_it(llama: Any) -> None:
    """The whole chain of another library, with the history that it would have had in ``generate``."""
    from transformers import (
        LogitsProcessorList,
        RepetitionPenaltyLogitsProcessor,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    theirs = LogitsProcessorList(
        [
            RepetitionPenaltyLogitsProcessor(1.3),
            TemperatureLogitsWarper(0.7),
            TopKLogitsWarper(200),
            TopPLogitsWarper(0.98),
        ]
    )
    chain = "hf:repetition_penalty=1.3,temperature=0.7,top_k=200,top_p=0.98"
    run = through(llama, chain)
    steps = run.table("sequence_steps")
    ids = list(llama.encode(Prompt(text=TEXT)).token_ids)
    for step in steps.itertuples():
        with torch.inference_mode():
            logits = llama.hf(input_ids=torch.tensor([ids]), use_cache=False).logits[:, -1]
            left = theirs(torch.tensor([ids]), logits.clone()).softmax(-1)[0]
        assert step.model_prob == pytest.approx(float(logits.softmax(-1)[0, step.token_id]), rel=1e-4)
        assert step.prob == pytest.approx(float(left[step.token_id]), rel=1e-3, abs=1e-9)
        assert step.alive == bool(left[step.token_id] > 0)
        ids.append(step.token_id)
    assert len(steps) > 10 and steps["alive"].nunique() == 2, "a target that lives and dies tells most"
    assert "".join(steps["token"]) == TARGET


def test_the_stages_bits_sum_to_what_the_chain_changes(llama: Any) -> None:
    chain = "repetition_penalty=1.2,temperature=0.8,top_k=295,xtc.probability=0.4,xtc.threshold=0.001"
    run = through(llama, chain, targets=(" Paris", " a token"))
    steps, stages = run.table("sequence_steps"), run.table("sequence_stages")
    for whole in run.table("sequences").itertuples():
        own = steps[steps["target"] == whole.target]
        fates = stages[stages["target"] == whole.target]
        assert whole.n_tokens == len(own) and whole.prob == pytest.approx(prod(own["prob"]))
        assert whole.model_prob == pytest.approx(prod(own["model_prob"]))
        assert whole.bits == pytest.approx(fates["bits"].sum()) and whole.prob > 0
        assert whole.bits == pytest.approx(log2(whole.prob / whole.model_prob))
        assert whole.bits_left == pytest.approx(-log2(whole.prob))
        assert own["prob_so_far"].iloc[-1] == pytest.approx(whole.prob)
        assert own["prob"].iloc[whole.least_step] == own["prob"].min()
        spared = fates.query("stage == 'top_k'")
        assert (spared["bits"] >= 0).all(), "a filter that spares a token makes it likelier"
    assert (stages.query("stage == 'xtc'")["active"]).any()


def test_it_dies_of_its_own_repetition_and_the_rule_is_named(llama: Any) -> None:
    """Nothing in the prompt is repeated: the ban comes from the target's own tokens before."""
    ids = llama.tokenizer.encode(" xyxy", special=False).ids
    run = through(llama, "no_repeat_ngram=2", targets=(" xyxy",), text="Hello")
    (whole,) = run.table("sequences").itertuples()
    seen = list(llama.encode(Prompt(text="Hello")).token_ids)
    expected = None
    for place, token in enumerate(ids):
        if expected is None and (seen[-1], token) in set(pairwise(seen)):
            expected = place
        seen.append(token)
    assert whole.dies_step == expected > 1 and whole.prob == 0
    assert whole.dies_stage == "no_repeat_ngram" and "2-gram" in whole.dies_why and "xy" in whole.dies_why
    assert np.isnan(whole.bits) and np.isnan(whole.bits_left)
    step = run.table("sequence_steps").iloc[expected]
    assert not step["alive"] and step["prob"] == 0 and step["removed_by"] == "no_repeat_ngram"
    assert through(llama, "no_repeat_ngram=0", targets=(" xyxy",), text="Hello").table("sequences")["prob"][0]


def test_what_greedy_decoding_writes_survives_and_is_certain(llama: Any) -> None:
    one = llama.encode(Prompt(text=TEXT))
    written = tuple(step.token for step in walk(llama, one, resolve("greedy"), 6, seed=0))
    other = (*written[:3], (written[3] + 1) % llama.vocab, *written[4:])
    targets = tuple(Target(name, ids, name, "") for name, ids in (("it", written), ("other", other)))
    found = sequence_tables(llama, replace(one, targets=targets), [resolve("greedy")])
    assert found["sequences"]["prob"] == [1.0, 0.0]
    assert found["sequences"]["dies_step"] == [None, 3]


CUTS = (
    "hf",
    "llama.cpp",
    "vllm:min_p=0.2,temperature=1.7",
    "sglang:top_k=1",
    "koboldcpp",
    "top_h=0.1",
    "p_less",
)
CUTS += (
    "eta=0.9",
    "epsilon=0.9",
    "top_n_sigma=0.01",
    "min_k=0",
    "tail_free=0.1",
    "top_a=1",
    "mirostat_v2=0.1",
)


def test_what_greedy_decoding_writes_survives_every_chain_that_only_cuts(llama: Any) -> None:
    """But XTC and typical: those remove the best; bans, DRY and penalties act on the text before."""
    one = llama.encode(Prompt(text=TEXT))
    written = tuple(step.token for step in walk(llama, one, resolve("greedy"), 6, seed=0))
    asked = replace(one, targets=(Target("it", written, "it", ""),))
    found = sequence_tables(llama, asked, [resolve(one) for one in CUTS])["sequences"]
    assert found["dies_step"] == [None] * len(CUTS) and all(prob > 0 for prob in found["prob"])
    killers = ["xtc=1,xtc.threshold=0.0001", f"suppress=[{written[2]}]"]
    gone = sequence_tables(llama, asked, [resolve(one) for one in killers])["sequences"]
    assert gone["dies_step"][1] == 2 and gone["dies_step"][0] is not None


def test_a_target_of_one_token_is_what_the_samplers_ledger_says(llama: Any) -> None:
    chain = "top_k=50,top_p=0.9,temperature=0.7"
    run = through(llama, chain, samplers=(chain,), targets=("a", "b"), tables=("sampling_targets",))
    told = run.table("sampling_targets").groupby("target").last()
    for step in run.table("sequence_steps").itertuples():
        assert step.step == 0 and step.alive == told.loc[step.target, "alive_after"]
        assert step.prob == pytest.approx(told.loc[step.target, "prob_after"], rel=1e-4)


def test_targets_that_begin_alike_are_followed_from_their_first_token(llama: Any) -> None:
    """What is appended to the prompt to read where they part is no history of theirs."""
    run = through(llama, "repetition_penalty=1.5", targets=(" Paris.", " Paris,"))
    assert run.prompts["n_appended"][0] > 0
    steps = run.table("sequence_steps")
    for target, own in steps.groupby("target"):
        assert "".join(own["token"]) == target
    alone = through(llama, "repetition_penalty=1.5", targets=(" Paris.",)).table("sequence_steps")
    both = steps[steps["target"] == " Paris."].reset_index(drop=True)
    np.testing.assert_allclose(alone["prob"], both["prob"], rtol=1e-4)


def test_the_end_of_the_text_is_watched_beside_each_token(llama: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(llama.hf.generation_config, "eos_token_id", [7, 9])
    run = through(llama, "min_tokens=2,temperature=0.7", targets=(" Paris. The",))
    steps, stages = run.table("sequence_steps"), run.table("sequence_stages")
    assert steps["end_removed_by"].tolist()[:2] == ["min_tokens"] * 2
    assert steps["end_removed_by"][2:].isna().all() and (steps["end_prob"][2:] > 0).all()
    assert (steps["end_prob"][:2] == 0).all() and (steps["end_model_prob"] > 0).all()
    ids = list(llama.encode(Prompt(text=TEXT)).token_ids) + steps["token_id"].tolist()[:2]
    with torch.inference_mode():
        probs = (llama.hf(input_ids=torch.tensor([ids])).logits[0, -1].double() / 0.7).softmax(-1)
    assert steps["end_prob"][2] == pytest.approx(float(probs[[7, 9]].sum()), rel=1e-4)
    last = stages.query("step == 2").iloc[-1]
    assert last["end_prob_after"] == pytest.approx(steps["end_prob"][2])


def test_the_tables_are_measured_only_on_request_and_batches_equal_single_prompts(llama: Any) -> None:
    assert not set(asked_by("through")) & set(elimtool.trace(llama, TEXT, targets=["a"]).tables)
    texts = [TEXT, "A token of the text is", "Hello"]
    both = through(llama, "hf", text=texts, batch_size=3)
    alone = through(llama, "hf", text=texts[1])
    found = both.table("sequence_steps")
    one = found[found["prompt_id"] == alone.prompts["prompt_id"][0]].reset_index(drop=True)
    np.testing.assert_allclose(one["prob"], alone.table("sequence_steps")["prob"], rtol=1e-3, atol=1e-7)
    assert both.table("sequences").equals(through(llama, "hf", text=texts, batch_size=3).table("sequences"))
    assert [chain["name"] for chain in through(llama, "vllm").manifest.chains] == ["hf", "vllm"]


def test_errors_say_what_to_do(llama: Any) -> None:
    with pytest.raises(ElimError, match="there is none") as error:
        through(llama, "hf", targets=())
    assert "`target`" in (error.value.hint or "")
    with pytest.raises(ElimError, match="lama"):
        through(llama, "lama.cpp")
    with pytest.raises(ElimError, match="context is 128"):
        through(llama, "hf", targets=(" a" * 200,))
    with pytest.raises(ElimError, match="table sequences needs `through`"):
        TraceOptions(tables=("sequences",))
    with pytest.raises(ElimError, match="cannot be combined"):
        TraceOptions(through=("hf",), interventions=(elimtool.model.interventions.Ablate.parse("mlp.1"),))


def test_a_banned_phrase_takes_other_continuations_of_its_first_token_with_it(llama: Any) -> None:
    """Against the chain without the ban, all of whose continuations of the first token are summed."""
    ids = tuple(llama.tokenizer.encode(TARGET, special=False).ids)[:3]
    phrase, one = "".join(llama.tokenizer.texts(ids)), llama.tokenizer.texts(ids[:1])[0]
    plain, alone = f"koboldcpp:{OPEN}", f"phrase_ban=[{json.dumps(one)}]"
    banned = f"{plain},banned_strings=[{json.dumps(phrase)}]"
    rows = through(llama, banned, alone, plain, targets=(phrase,)).table("sequences").set_index("chain")
    whole, single, free = (rows.loc[name] for name in (banned, alone, plain))
    assert whole["dies_step"] == 2 and whole["back_step"] == 0
    prompt = llama.encode(Prompt(TEXT)).token_ids
    chain = resolve(plain)
    probs = [
        chain.run(row[None], torch.tensor([[-1]]), [History(prompt, ids[:place])]).probs()[0]
        for place, row in enumerate(outputs(llama, prompt, [ids])[0])
    ]
    first, second, third = (float(row[token]) for row, token in zip(probs, ids, strict=True))
    missed = [
        float(row.index_fill(0, torch.tensor([token]), 0.0).sum())
        for row, token in zip(probs, ids, strict=True)
    ]
    others = first * missed[1] + first * second * missed[2]
    assert whole["back_prob"] == pytest.approx(first, rel=1e-6) and others > 0
    assert whole["collateral"] == pytest.approx(others, rel=1e-6)
    assert first * second * third == pytest.approx(free["prob"], rel=1e-6)
    assert single["collateral"] == 0 and single["dies_step"] == single["back_step"] == 0
    assert free[["back_step", "back_prob", "collateral"]].isna().all()
