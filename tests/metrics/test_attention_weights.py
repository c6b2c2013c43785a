"""Attention weights of chosen heads: those of Hugging Face's eager attention, key by key."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import elimtool
from elimtool import TraceOptions
from elimtool.errors import ElimError
from elimtool.model.loading import load_hugging_face, load_model
from elimtool.model.view import Batch
from elimtool.prompts.prompt import Prompt
from tests.families import WINDOW, save

TEXTS = ("The capital of France is Paris, and a token is eliminated.", "The capital of Spain")
HEADS = ("2.1", "L0H3", "0.3")


@pytest.fixture(scope="module", params=["gpt2", "mistral", "gemma3"])
def loaded(request: Any, tmp_path_factory: Any, tokenizer: Any) -> Any:
    directory = save(request.param, tmp_path_factory.mktemp(request.param), tokenizer)
    return load_model(str(directory)), load_hugging_face(request.param, directory, "float32", False)


def test_the_weights_are_those_of_eager_attention(loaded: Any) -> None:
    model, plain = loaded
    options = TraceOptions(attention_of=HEADS, tables=("attention_weights",), position="all")
    found = elimtool.trace(model, TEXTS, options=options).table("attention_weights")
    assert set(zip(found["layer"], found["head"], strict=True)) == {(0, 3), (2, 1)}
    for (_, rows), text in zip(found.groupby("prompt_id", sort=False), TEXTS, strict=True):
        ids = Batch.of([model.encode(Prompt(text=text))]).ids
        n = ids.shape[1]
        with torch.inference_mode():
            truth = plain(input_ids=ids, output_attentions=True).attentions
        assert len(rows) == 2 * n * (n + 1) / 2
        order = ["position", "layer", "head", "key"]
        assert rows[order].values.tolist() == sorted(rows[order].values.tolist())
        wanted = [float(truth[layer][0, head, at, key]) for at, layer, head, key in rows[order].values]
        np.testing.assert_allclose(rows["weight"].fillna(0), wanted, atol=1e-6, rtol=0)
        hidden = rows[rows["weight"].isna()]
        assert (hidden["key"] <= hidden["position"] - WINDOW).all()


def test_where_there_is_no_window_no_weight_is_null(llama: Any) -> None:
    options = TraceOptions(attention_of=("0.0",), tables=("attention_weights",), position="all")
    rows = elimtool.trace(llama, TEXTS[0], options=options).table("attention_weights")
    assert rows["weight"].notna().all()
    sums = rows.groupby("position")["weight"].sum()
    np.testing.assert_allclose(sums, 1, atol=1e-6)


def test_a_prompt_alone_and_in_a_batch_has_the_same_weights_at_the_last_position(llama: Any) -> None:
    options = TraceOptions(attention_of=("1.1",), tables=("attention_weights",))
    together = elimtool.trace(llama, TEXTS, options=options).table("attention_weights")
    alone = elimtool.trace(llama, TEXTS[1], options=options).table("attention_weights")
    part = together[together["prompt_id"] == alone["prompt_id"].iloc[0]].reset_index(drop=True)
    assert len(alone) == alone["position"].iloc[0] + 1
    assert part.drop(columns="weight").equals(alone.drop(columns="weight"))
    np.testing.assert_allclose(part["weight"], alone["weight"], atol=1e-6)


def test_other_tables_are_the_same_and_the_new_one_is_there_only_if_asked_for(llama: Any) -> None:
    plain = elimtool.trace(llama, TEXTS[0], options=TraceOptions())
    more = elimtool.trace(llama, TEXTS[0], options=TraceOptions(attention_of=("1.1",)))
    assert set(more.tables) - set(plain.tables) == {"attention_weights"}
    assert all(more.arrow(name).equals(plain.arrow(name)) for name in plain.tables)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention_of": ("mlp.3",)}, "`attention_of` must name heads, got 'mlp.3'"),
        ({"attention_of": ("x",)}, "`attention_of` must name heads, got 'x'"),
        ({"tables": ("attention_weights",)}, "table attention_weights needs `attention_of`"),
        ({"attention_of": ("99.0",)}, "has no layer 99"),
        ({"attention_of": ("0.99",)}, "has no head 99"),
    ],
)
def test_heads_that_cannot_be_kept_are_refused(llama: Any, options: Any, message: str) -> None:
    with pytest.raises(ElimError, match=message):
        elimtool.trace(llama, TEXTS[0], options=TraceOptions(**options))


def test_too_many_weights_are_refused_before_they_are_measured(llama: Any) -> None:
    from elimtool.metrics.attention_weights import MOST_WEIGHTS, refuse_many

    one = llama.encode(Prompt(text=TEXTS[0]), position="all")
    own = sum(position + 1 for position in one.positions)
    refuse_many(one, MOST_WEIGHTS // own)
    with pytest.raises(ElimError, match="more than 4,194,304"):
        refuse_many(one, MOST_WEIGHTS // own + 1)


def test_prompts_with_too_many_weights_together_are_refused_before_they_are_measured(
    llama: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from elimtool.metrics.attention_weights import MOST_TOGETHER, refuse_together

    one = llama.encode(Prompt(text=TEXTS[0]), position="all")
    own = sum(position + 1 for position in one.positions)
    refuse_together([one] * (MOST_TOGETHER // own), 1)
    with pytest.raises(ElimError, match="more than 33,554,432 at a time"):
        refuse_together([one] * (MOST_TOGETHER // own + 1), 1)
    monkeypatch.setattr("elimtool.metrics.attention_weights.MOST_TOGETHER", 50)
    heads = llama.n_heads * len(llama.attending)
    told: list[str] = []
    with pytest.raises(ElimError, match=f"{heads} heads and 2 prompts") as caught:
        elimtool.trace(llama, TEXTS[:2], keep_attention=True, progress=lambda *_: told.append("a pass"))
    assert told == [] and "`attention_of`" in caught.value.hint
    elimtool.trace(llama, TEXTS[:2], options=TraceOptions(tables=("lens",)))  # keeps none


def test_rows_of_every_head_are_kept_as_arrays_when_asked(loaded: Any) -> None:
    model, plain = loaded
    options = TraceOptions(tables=("lens",), position="all")
    run = elimtool.trace(model, TEXTS, options=options, keep_attention=True)
    for prompt, text in zip(run.prompts["prompt_id"], TEXTS, strict=True):
        with torch.inference_mode():
            ids = Batch.of([model.encode(Prompt(text=text))]).ids
            truth = plain(input_ids=ids, output_attentions=True).attentions
        for layer, heads in enumerate(truth):
            for head, wanted in enumerate(heads[0]):
                found = run.attention(layer, head, prompt)
                assert found.dtype == np.float32
                np.testing.assert_allclose(np.nan_to_num(found), wanted, atol=5e-6, rtol=0)  # in a batch
                assert np.isnan(found[0, 1:]).all()  # not seen: null, not zero
    chosen = elimtool.trace(model, TEXTS[1], options=TraceOptions(attention_of=HEADS), keep_attention=True)
    assert chosen.attention(2, 1).shape == (1, chosen.prompts["n_tokens"][0])


def test_arrays_that_were_not_kept_are_said(llama: Any) -> None:
    run = elimtool.trace(llama, TEXTS, options=TraceOptions(attention_of=("1.1",), tables=("lens",)))
    with pytest.raises(ElimError, match="the run has 2 prompts"):
        run.attention(1, 1)
    with pytest.raises(ElimError, match="no prompt 'x'"):
        run.attention(1, 1, "x")
    with pytest.raises(ElimError, match=r"head 1\.0 were not kept") as caught:
        run.attention(1, 0, run.prompts["prompt_id"][0])
    assert caught.value.hint == "kept: 1.1"
    with pytest.raises(ElimError, match="no table 'attention_weights'"):
        elimtool.trace(llama, TEXTS[0], options=TraceOptions(tables=("lens",))).attention(0, 0)
