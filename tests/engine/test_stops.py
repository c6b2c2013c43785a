"""Tokens that end a text, along a walk and over texts: against enumeration and transformers' generate."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
import pytest
import torch

import elimtool
from elimtool import ElimError, Prompt, TraceOptions
from elimtool.engine.sequences import sequence_tables
from elimtool.engine.walk import moments, walk
from elimtool.model.view import Target
from elimtool.run.selection import asked_by
from elimtool.samplers import resolve

TEXT = "The capital of France is"
ENDS = tuple(range(10, 40))
DRAWS = 4000
"""Texts that transformers writes: a probability of one half has a standard error of 0.008."""


@pytest.fixture
def ending(llama: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The tiny model with so many tokens that end a text that texts do end."""
    monkeypatch.setattr(llama.hf.generation_config, "eos_token_id", list(ENDS))
    return llama


def watched(model: Any, chain: str, tokens: int, watch: Any = ("eos",), **options: Any) -> Any:
    asked = TraceOptions(
        **{
            "samplers": (chain,),
            "generate": tokens,
            "watch": watch,
            "tables": ("walk",),
            "lens": "raw",
            **options,
        }
    )
    return elimtool.trace(model, TEXT, options=asked)


def theirs(model: Any, tokens: int, **settings: Any) -> Any:
    """What transformers writes: tokens [draws, tokens], padded with -1 behind the end of a text."""
    torch.manual_seed(0)
    ids = torch.tensor([model.encode(Prompt(text=TEXT)).token_ids] * DRAWS)
    with torch.inference_mode():
        found = model.hf.generate(
            ids, do_sample=True, max_new_tokens=tokens, pad_token_id=0, **{"top_k": 0, **settings}
        )
    return found[:, ids.shape[1] :]


def test_it_stops_as_often_as_texts_that_transformers_writes(ending: Any) -> None:
    run = watched(ending, "hf:temperature=0.9,top_k=200", 5, samples=32)
    written = theirs(ending, 5, temperature=0.9, top_k=200)
    ended = torch.isin(written, torch.tensor(ENDS)).cumsum(-1) > 0
    for row in run.table("stops").itertuples():
        share = float(ended[:, row.step].double().mean())
        error = sqrt(row.stop_by * (1 - row.stop_by) / DRAWS + row.stop_by_se**2)
        assert abs(share - row.stop_by) < 4 * error, row
    assert 0.2 < row.stop_by < 0.95 and row.step == 4 and row.n_texts == 32


def test_the_mean_over_texts_is_the_sum_over_all_texts(ending: Any) -> None:
    """Two steps, every first token in turn: the exact probability, from plain logits."""
    rows = watched(ending, "temperature=0.8", 2, samples=64).table("stops")
    ids = list(ending.encode(Prompt(text=TEXT)).token_ids)
    with torch.inference_mode():
        first = (ending.hf(input_ids=torch.tensor([ids])).logits[0, -1].double() / 0.8).softmax(-1)
        every = torch.tensor([[*ids, token] for token in range(ending.vocab)])
        second = (ending.hf(input_ids=every).logits[:, -1].double() / 0.8).softmax(-1)
    here = float(first[list(ENDS)].sum())
    going = first.clone()
    going[list(ENDS)] = 0
    exact = here + float((going * second[:, list(ENDS)].sum(-1)).sum())
    assert rows["stop_by"][0] == pytest.approx(here, rel=1e-4)
    assert rows["stop_by_se"][0] == pytest.approx(0, abs=1e-9)
    assert rows["stop_by"][1] == pytest.approx(exact, abs=4 * rows["stop_by_se"][1])
    assert 0 < rows["stop_by_se"][1] < 0.02 and exact > here + 0.02


def test_sequences_are_as_frequent_as_texts_that_transformers_writes(llama: Any) -> None:
    from dataclasses import replace

    from scipy.stats import chisquare

    chain = resolve("hf:repetition_penalty=1.3,top_k=3")
    written = theirs(llama, 2, top_k=3, repetition_penalty=1.3, eos_token_id=None)
    pairs, counts = written.unique(dim=0, return_counts=True)
    names = [str(index) for index in range(len(pairs))]
    targets = tuple(
        Target(name, tuple(pair), name, "") for name, pair in zip(names, pairs.tolist(), strict=True)
    )
    one = replace(llama.encode(Prompt(text=TEXT)), targets=targets)
    probs = np.array(sequence_tables(llama, one, [chain])["sequences"]["prob"])
    assert len(pairs) == 9 and probs.sum() == pytest.approx(1, abs=1e-6), "all that the chain can write"
    assert chisquare(counts.numpy(), DRAWS * probs / probs.sum()).pvalue > 0.001
    wrong = np.roll(probs, 1)
    assert chisquare(counts.numpy(), DRAWS * wrong / wrong.sum()).pvalue < 1e-9, "the test can fail"


def test_along_the_text_it_is_the_product_of_the_steps(ending: Any) -> None:
    run = watched(ending, "temperature=0.5", 12, seed=3)
    rows = run.table("stops")
    walked = run.table("walk")
    own = rows[rows["token"].notna()]
    assert own["token"].tolist() == walked["token"].tolist() and len(rows) == 12
    assert own["stopped_by"].to_numpy() == pytest.approx(1 - np.cumprod(1 - own["prob"]))
    assert own["model_stopped_by"].to_numpy() == pytest.approx(1 - np.cumprod(1 - own["model_prob"]))
    each = run.table("stop_tokens").groupby("step")[["prob", "model_prob"]].sum()
    np.testing.assert_allclose(each["prob"], own["prob"])
    np.testing.assert_allclose(each["model_prob"], own["model_prob"])
    over = rows[rows["token"].isna()]
    assert over["stop_by"].notna().all() and over["prob"].isna().all()
    assert rows["stop_by"].is_monotonic_increasing


def test_the_stage_that_forbids_the_end_is_named_and_one_that_pushes_it_gives_bits(ending: Any) -> None:
    chain = "min_tokens=3,length_decay.factor=1.5,length_decay.after=1,temperature=0.8"
    run = watched(ending, chain, 6, seed=1)
    rows, stages = run.table("stops"), run.table("stop_stages")
    assert rows["removed_by"].tolist()[:3] == ["min_tokens"] * 3
    assert rows["stopped_by"].tolist()[:3] == [0, 0, 0] and rows["stop_by"].tolist()[:3] == [0, 0, 0]
    assert rows["removed_by"][3:].isna().all() and rows["prob"][3] > 0
    why = run.table("stop_tokens").query("step == 0")["why"]
    assert why.str.contains("banned under 3 tokens").all()
    pushed = stages.query("stage == 'length_decay' and step == 3")
    assert pushed["prob_after"].sum() > 1.2 * pushed["prob_before"].sum() and pushed["bits"].max() > 1
    gone = stages.query("stage == 'temperature' and step == 0")
    assert gone["rank_before"].isna().all() and (gone["prob_before"] == 0).all()


def test_watching_changes_nothing_of_what_is_written(ending: Any) -> None:
    chain = "mirostat_v2.tau=3"
    plain = watched(ending, chain, 8, watch=())
    assert not set(asked_by("watch")) & set(plain.tables)
    seen = watched(ending, chain, 8)
    assert seen.table("walk").equals(plain.table("walk"))
    assert seen.table("stops").equals(watched(ending, chain, 8).table("stops"))


def test_texts_side_by_side_are_those_written_alone(llama: Any) -> None:
    one, chain = llama.encode(Prompt(text=TEXT)), resolve("mirostat_v2.tau=3,xtc.probability=0.5")
    together = []
    for at, moment in enumerate(moments(llama, one, chain, [4, 5, 6])):
        together.append(moment.tokens)
        if at == 9:
            break
    for row, seed in enumerate((4, 5, 6)):
        alone = [step.token for step in walk(llama, one, chain, 10, seed)]
        assert torch.stack(together)[: len(alone), row].tolist() == alone


def test_a_token_that_is_not_the_models_end_can_be_watched(llama: Any) -> None:
    """The usual mistake of chats: the token that ends a turn is not the one that ends a text."""
    run = watched(llama, "temperature=1", 4, watch=("<|end|>", "a"))
    assert set(run.table("stop_tokens")["token"]) == {"<|end|>", "a"}
    assert len(run.table("stop_tokens")) == 2 * len(run.table("walk"))
    assert (run.table("stops")["n_texts"] == 10).all()


def test_errors_say_what_to_do(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ElimError, match="none is generated") as error:
        TraceOptions(watch=("eos",))
    assert "`generate`" in (error.value.hint or "")
    for text in ("<|stop|>", "", "The capital"):
        with pytest.raises(ElimError, match="is not one token") as error:
            watched(llama, "hf", 2, watch=(text,))
        assert "<|end|>" in (error.value.hint or "")
    with pytest.raises(ElimError, match="table stops needs `watch`"):
        TraceOptions(generate=2, tables=("stops",))
    monkeypatch.setattr(llama.hf.generation_config, "eos_token_id", [])
    with pytest.raises(ElimError, match="states no token that ends a text") as error:
        watched(llama, "hf", 2)
    assert "<|end|>" in (error.value.hint or "")
