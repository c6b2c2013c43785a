"""Texts that are scored token by token, against plain transformers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

import elimtool
from elimtool import TraceOptions
from elimtool.engine.forward import launch
from elimtool.errors import ElimError
from elimtool.lenses.raw import RawLens
from elimtool.metrics.metric import Metric, ReadoutView, Settings
from elimtool.prompts.prompt import Prompt
from elimtool.prompts.record import record_of

TEXTS = [" The gardeners water the roses every morning.", "Two sentences. One is short!", "é, 東京"]
OPTIONS = TraceOptions(tables=("lens", "survival"), samplers=("hf",), lens="raw", batch_size=4)


def plain(model: Any, text: str, rule: str) -> tuple[list[int], list[float]]:
    backend = model.tokenizer.backend
    ids = backend(text, add_special_tokens=rule != "lm-eval").input_ids
    if rule == "lm-eval":
        first = backend.eos_token_id if backend.bos_token_id is None else backend.bos_token_id
        ids = [first, *ids]
    with torch.inference_mode():
        logprobs = model.hf(torch.tensor([ids])).logits[0, :-1].double().log_softmax(-1)
    return ids, logprobs.gather(1, torch.tensor(ids)[1:, None])[:, 0].tolist()


@pytest.mark.parametrize("rule", ["lm-eval", "no-prefix"])
def test_each_token_after_the_first_is_scored(llama: Any, rule: str) -> None:
    prompts = [Prompt(text=text, id=text, scored=rule) for text in TEXTS]
    run = elimtool.trace(llama, [*prompts, Prompt(text="as before", id="other")], options=OPTIONS)
    for text in TEXTS:
        ids, expected = plain(llama, text, rule)
        row = run.prompts.set_index("prompt_id").loc[text]
        assert list(row["token_ids"]) == ids and row["scored"] == rule
        rows = run.table("survival").query("prompt_id == @text")
        assert rows["position"].tolist() == list(range(len(ids) - 1))
        assert rows["token_id"].tolist() == ids[1:], "the token that stands next, and no other"
        assert rows["target_logprob"].tolist() == pytest.approx(expected, rel=1e-5)
        lens = run.table("lens").query("prompt_id == @text and layer == layer.max()")
        assert lens["logprob"].tolist() == pytest.approx(expected, rel=1e-5)
    other = run.table("survival").query("prompt_id == 'other'")
    assert set(other["position"]) == {1} or len(other) >= 5, "others are measured where they were asked"
    assert run.prompts["scored"].isna().tolist() == [False] * 3 + [True]


def test_a_prefix_is_not_put_twice(llama: Any) -> None:
    backend = llama.tokenizer.backend
    first = backend.eos_token if backend.bos_token is None else backend.bos_token
    one = llama.encode(Prompt(text=f"{first}France", scored="lm-eval"))
    assert one.token_ids == llama.encode(Prompt(text="France", scored="lm-eval")).token_ids


def test_what_cannot_be_scored_is_refused(llama: Any) -> None:
    with pytest.raises(ElimError, match="has one token: nothing is left to score"):
        llama.encode(Prompt(text="a", scored="no-prefix"))
    with pytest.raises(ElimError, match="`scored` goes with a text alone, not with targets"):
        Prompt(text="a", targets=("b",), scored="lm-eval")
    with pytest.raises(ElimError, match=r"`scored` must be one of lm-eval, no-prefix, got 'lmeval'"):
        Prompt(text="a", scored="lmeval")


def test_records_name_it_and_answers_are_followed() -> None:
    one = record_of({"prompt": "a b", "scored": "no-prefix"}, 1, "f:1").prompt
    assert isinstance(one, Prompt) and one.scored == "no-prefix"
    assert "scored" not in Prompt(text="a").said(), "as before, so that what was begun then goes on"
    one = record_of({"prompt": "A city:", "answers": ["Paris", ["UK", "Britain"]]}, 1, "f:1").prompt
    assert isinstance(one, Prompt) and one.targets == ("Paris", "UK", "Britain")
    one = record_of({"prompt": "A city:", "answers": ["Paris"], "target": "Rome"}, 1, "f:1").prompt
    assert isinstance(one, Prompt) and one.targets == ("Rome",)


def test_texts_can_fill_survival_alone(llama: Any) -> None:
    """Their scores are the same, nothing else is measured of them, and other prompts keep all tables."""
    asked = [Prompt(text=text, id=text, scored="lm-eval") for text in TEXTS]
    asked.append(Prompt(text="The capital of France is", id="other", targets=("Paris",)))
    tables = ("lens", "survival", "sampling", "verdicts")
    whole, alone = (
        elimtool.trace(llama, asked, options=replace(OPTIONS, tables=tables, scores_only=only))
        for only in (False, True)
    )
    scores = [run.table("survival").set_index(["prompt_id", "position"]) for run in (whole, alone)]
    assert scores[0].index.equals(scores[1].index)
    assert scores[1]["target_logprob"].to_numpy() == pytest.approx(
        scores[0]["target_logprob"].to_numpy(), abs=1e-4
    )
    assert (scores[1]["rank"] == scores[0]["rank"]).all()
    for name in ("lens", "sampling", "verdicts"):
        assert set(alone.table(name)["prompt_id"]) == {"other"} < set(whole.table(name)["prompt_id"])
    stated = [run.manifest.config.get("scores_only") for run in (whole, alone)]
    assert stated == [None, True], "runs without it keep the fingerprint that they had"


@pytest.mark.parametrize("output_only", [False, True])
def test_no_layer_is_read_out_where_the_output_alone_is_wanted(llama: Any, output_only: bool) -> None:
    seen: list[int] = []

    class Watching(Metric):
        def read(self, view: ReadoutView) -> None:
            seen.append(len(view.logits))
            assert len(view.shapes.top) == len(view.logits)

    one = llama.encode(Prompt(text=TEXTS[0], scored="lm-eval"))
    settings = Settings(tables=frozenset(), output_only=output_only)
    launch(llama, [one], settings, RawLens(), extra=[Watching]).tables()
    assert seen == [1 if output_only else llama.n_layers + 1]
