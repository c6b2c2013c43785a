"""The decoding walk against Hugging Face's own generation, and what makes it reproducible."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import elimtool
from elimtool import ElimError, Prompt, TraceOptions
from elimtool.engine.walk import drawn, walk
from elimtool.model.decode import Decoder
from elimtool.model.loading import load_hugging_face
from elimtool.report.trace.walk import competitor
from elimtool.samplers import STAGES, Chain, resolve

TEXT = "The capital of France is"


def walked(model: Any, chain: str, tokens: int, seed: int = 0, text: str = TEXT) -> Any:
    options = TraceOptions(samplers=(chain,), generate=tokens, seed=seed)
    return elimtool.trace(model, text, options=options)


def test_cached_steps_equal_whole_passes(llama: Any) -> None:
    ids = llama.encode(Prompt(text=TEXT)).token_ids
    decoder = Decoder(llama)
    steps = [decoder.read(ids[:3]), *(decoder.read([token]) for token in ids[3:])]
    for length, logits in enumerate(steps, start=3):
        with torch.inference_mode():
            whole = llama.hf(input_ids=torch.tensor([ids[:length]]), use_cache=False).logits[:, -1]
        torch.testing.assert_close(logits, whole.double(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("chain", ["greedy", "repetition=1.3,greedy", "top_k=1"])
def test_without_chance_it_writes_what_hugging_face_writes(
    llama: Any, llama_directory: Path, chain: str
) -> None:
    plain = load_hugging_face("llama", llama_directory, "float32", False)
    ids = torch.tensor([llama.encode(Prompt(text=TEXT)).token_ids])
    chain = chain.replace("repetition=", "repetition_penalty=")
    settings = {"repetition_penalty": 1.3} if "repetition" in chain else {}
    written = plain.generate(
        ids, do_sample=False, max_new_tokens=12, pad_token_id=0, eos_token_id=None, **settings
    )
    found = walked(llama, chain, 12).table("walk")
    assert found["token_id"].tolist() == written[0, ids.shape[1] :].tolist()
    assert (found["prob"] == 1).all()
    assert (found["n_survivors"] == 1).all()
    assert found["position"].tolist() == list(range(ids.shape[1] - 1, ids.shape[1] + 11))


def test_one_seed_writes_one_text(llama: Any) -> None:
    runs = [walked(llama, "hf", 15, seed).table("walk")["token_id"].tolist() for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_drawn_follows_the_probabilities() -> None:
    probs = torch.tensor([[0.0, 0.5, 0.0, 0.3, 0.2, 0.0]], dtype=torch.float64)
    choices = torch.rand(20_000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = torch.cat([drawn(probs, choice) for choice in choices])
    shares = torch.bincount(found, minlength=6) / len(found)
    torch.testing.assert_close(shares.double(), probs[0], atol=0.015, rtol=0)
    assert int(drawn(probs, torch.tensor([0.0], dtype=torch.float64))) == 1
    assert int(drawn(probs, torch.tensor([1.0 - 2**-53], dtype=torch.float64))) == 4


def test_the_reason_why_a_token_was_cut_spells_its_tokens(llama: Any) -> None:
    best = walked(llama, "greedy", 1).table("walk").iloc[0]
    (row,) = walked(llama, f"bad_words=[[{best.token_id}]],greedy", 1).table("walk").itertuples()
    assert row.almost_id == best.token_id and row.almost_why == f"bad_words: bad word 0: {best.token!r}"


def test_a_survivor_without_a_chance_is_told_apart_from_one_with_one(llama: Any) -> None:
    budget = STAGES["thinking_budget"](tokens=0, opening=" is", closing="The")
    forced = TraceOptions(samplers=(Chain("forced", stages=(budget,)),), generate=1)
    (row,) = elimtool.trace(llama, TEXT, options=forced).arrow("walk").to_pylist()
    assert (row["token"], row["runner_up_cut"], row["runner_up_left"], row["prob"]) == ("The", None, 0, 1)
    (free,) = walked(llama, "temperature=0.7", 1).arrow("walk").to_pylist()
    assert free["runner_up_cut"] is None and free["runner_up_left"] > 0
    assert [competitor(one)[2] for one in (row, free)] == ["kept, p 0", "kept"]


def test_what_almost_survived_was_cut_and_says_by_what(llama: Any) -> None:
    run = walked(llama, "top_k=3,top_p=0.9", 8)
    rows = run.table("walk")
    assert (rows["n_survivors"] <= 3).all()
    assert (rows["almost_id"] != rows["token_id"]).all()
    assert rows["almost_why"].str.len().min() > 10
    stages = run.table("walk_stages")
    assert stages.groupby("step")["stage"].apply(list).tolist() == [["top_k", "top_p"]] * 8
    assert (
        stages.query("stage == 'top_p'").set_index("step")["n_after"] == rows.set_index("step")["n_survivors"]
    ).all()


def test_penalties_and_dry_see_what_was_written(llama: Any) -> None:
    """Greedy decoding of a random model loops; DRY breaks the loop and names what repeats."""
    plain = walked(llama, "greedy", 40).table("walk")["token_id"].tolist()
    run = walked(llama, "dry.multiplier=50,dry.allowed_length=1,greedy", 40)
    broken = run.table("walk")["token_id"].tolist()
    assert broken != plain
    assert len(set(pairwise(broken))) > len(set(pairwise(plain)))
    notes = [note for notes in run.table("walk_stages").query("stage == 'dry'")["notes"] for note in notes]
    assert notes


def test_a_survivor_of_probability_zero_is_not_removed(llama: Any) -> None:
    found = walked(llama, "temperature=0.0001", 2).table("walk")
    assert (found["n_survivors"] == llama.vocab).all()
    assert found["almost"].isna().all() and found["almost_why"].isna().all()


def test_mirostat_carries_its_state(llama: Any) -> None:
    one = llama.encode(Prompt(text=TEXT))
    steps = walk(llama, one, resolve("mirostat_v2.tau=2"), 10, seed=0)
    thresholds = [float(step.ledger.records[0].threshold[0]) for step in steps]
    assert len(set(thresholds)) > 5
    assert thresholds[0] == pytest.approx(4.0)


def test_an_end_token_ends_the_walk(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = walked(llama, "greedy", 5).table("walk")["token_id"].tolist()
    end = first[2]
    monkeypatch.setattr(llama.hf.generation_config, "eos_token_id", end)
    assert walked(llama, "greedy", 5).table("walk")["token_id"].tolist() == first[: first.index(end) + 1]


def test_errors(llama: Any, tiny: Any) -> None:
    with pytest.raises(ElimError, match="context is 128"):
        walked(llama, "greedy", 500)
    with pytest.raises(ElimError, match="cannot generate"):
        walked(tiny, "greedy", 5)
    with pytest.raises(ElimError, match="needs a sampler"):
        TraceOptions(samplers=(), generate=3)
    assert json.dumps(walked(llama, "greedy", 2).to_dict())


def test_the_runner_up_is_the_likeliest_other_token_cut_or_not(llama: Any) -> None:
    run = walked(llama, "top_k=3,top_p=0.9", 8)
    ids = run.prompts["token_ids"][0].tolist()
    fates = set()
    rows = run.arrow("walk").to_pylist()
    for step in (SimpleNamespace(**row) for row in rows):
        with torch.inference_mode():
            logits = llama.hf(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].double()
        others = [token for token in logits.argsort(descending=True).tolist() if token != step.token_id]
        assert step.runner_up_id == others[0]
        assert step.runner_up_prob == pytest.approx(float(logits.softmax(-1)[others[0]]), rel=1e-4)
        assert step.runner_up_cut in (None, "top_p", "top_k")
        if step.runner_up_cut is not None:
            assert step.runner_up_cut == step.almost_why.partition(":")[0] or step.almost_id != others[0]
        fates.add(step.runner_up_cut)
        ids.append(step.token_id)
    greedy = walked(llama, "greedy", 4).table("walk")
    assert greedy["runner_up_cut"].notna().all() and (greedy["n_survivors"] == 1).all()
    assert None in fates, "a runner-up that survived is said to be in reach"
