"""Attention that goes to a learned score without a key: against Hugging Face's own softmax, and sums to 1."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import elimtool
from elimtool.engine.options import TraceOptions
from elimtool.model.loading import load_hugging_face, load_model
from elimtool.prompts.prompt import NULL, SINK
from tests.engine.tables import tables
from tests.families import save
from tests.metrics.test_attention import by_hand, frames
from tests.model.test_native import through_hooks
from tests.report.printed import printed

TEXT = "The capital of France is"
EVERY = TraceOptions(
    position="all", samplers=(), lens="raw", heads=True, tables=("attention", "attention_heads")
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    return save("gpt_oss", tmp_path_factory.mktemp("gpt_oss"), tokenizer)


@pytest.fixture(scope="module")
def model(directory: Path) -> Any:
    return load_model(str(directory))


def test_hand_computed_null() -> None:
    batch, view = by_hand()
    assert view.attention is not None
    kept = torch.tensor([0.75, 0.5]).reshape(1, 2, 1, 1)
    view = replace(view, attention=view.attention * kept, null=True)
    found = frames(batch, [view])
    table = found["attention"].set_index("span")
    assert list(table.index) == [SINK, "a", "b", NULL]
    assert table.loc[NULL, "mass"] == pytest.approx((0.25 + 0.5) / 2)
    assert table.loc[NULL, "mass_max"] == pytest.approx(0.5)
    assert table.loc[NULL, "mass_max_head"] == 1
    assert table.loc[NULL, ["span_size", "n_keys"]].tolist() == [0, 4]
    assert table.loc[NULL, ["lift", "mass_no_sink", "lift_no_sink"]].isna().all()
    assert table["mass"].sum() == pytest.approx(1)
    heads = found["attention_heads"]
    assert heads["span"].tolist() == [SINK, "a", "b", NULL] * 2
    assert heads[heads["span"] == NULL]["mass"].tolist() == pytest.approx([0.25, 0.5])


def test_a_layer_without_it_has_no_row() -> None:
    batch, view = by_hand()
    assert view.attention is not None
    views = [replace(view, layer=0), replace(view, layer=1, attention=view.attention / 2, null=True)]
    table = frames(batch, views)["attention"]
    assert table[table["span"] == NULL]["layer"].tolist() == [1]
    assert table["layer"].tolist() == [0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize("hooks", [False, True])
def test_it_is_the_column_that_hugging_face_drops(
    directory: Path, model: Any, hooks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with through_hooks(model) if hooks else nullcontext():
        run = elimtool.trace(model, TEXT, options=EVERY)
    plain = load_hugging_face("gpt_oss", directory, "float32", False)
    ids = torch.tensor(run.table("prompts")["token_ids"][0].tolist())[None]
    softmax, dropped = torch.nn.functional.softmax, list[Any]()

    def watched(values: Any, *args: Any, **named: Any) -> Any:
        out = softmax(values, *args, **named)
        if out.ndim == 4:
            dropped.append(out[0, ..., -1])
        return out

    monkeypatch.setattr(torch.nn.functional, "softmax", watched)
    with torch.inference_mode():
        plain(input_ids=ids)
    monkeypatch.undo()
    heads = run.table("attention_heads")
    null = heads[heads["span"] == NULL].sort_values(["layer", "head", "position"])
    truth = torch.stack(dropped)
    np.testing.assert_allclose(null["mass"].to_numpy().reshape(truth.shape), truth, atol=1e-5)
    assert float(truth.max()) > 0.05
    spans = run.table("attention")
    mean = spans[spans["span"] == NULL].sort_values(["layer", "position"])["mass"]
    np.testing.assert_allclose(mean.to_numpy().reshape(4, -1), truth.mean(1), atol=1e-5)
    for table, by in ((heads, ["position", "layer", "head"]), (spans, ["position", "layer"])):
        np.testing.assert_allclose(table.groupby(by)["mass"].sum(), 1, atol=1e-5)
        assert (table.groupby(by)["span"].last() == NULL).all()


def test_batched_and_in_parts_equal_single(model: Any) -> None:
    texts = [TEXT, "A shorter one"]
    for settings in ({}, {"held_numbers": 1}):
        together = tables(model, texts, EVERY, **settings)
        for text in texts:
            alone = tables(model, [text], EVERY)
            for name, mine in alone.items():
                both = together[name][together[name]["prompt_id"] == mine["prompt_id"].iloc[0]]
                assert both["span"].tolist() == mine["span"].tolist()
                np.testing.assert_allclose(both["mass"], mine["mass"], atol=1e-5)


def test_the_story_says_it_only_where_there_is_one(model: Any, llama: Any) -> None:
    run = elimtool.trace(model, TEXT, options=TraceOptions(samplers=()))
    table = run.table("attention")
    mean = table[table["span"] == NULL]["mass"].mean()
    told = " ".join(printed(run, width=100).split())
    assert f"{mean:.0%} of the attention in 4 layers went nowhere: to the model's learned null" in told
    dense = elimtool.trace(llama, TEXT, options=TraceOptions(samplers=()))
    assert NULL not in set(dense.table("attention")["span"]) | set(dense.table("attention_heads")["span"])
    assert "no token, but" not in printed(dense, width=100)


def test_softmax_off_by_one_is_a_null_whose_score_is_0(
    directory: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    """Scores of Hugging Face's own pass through p_i = exp(s_i) / (1 + sum of exp(s_j)), in float64."""
    model, plain = load_model(str(directory)), load_hugging_face("gpt_oss", directory, "float32", False)
    for one in (model.hf, plain):
        for name, parameter in one.named_parameters():
            if name.endswith("sinks"):
                parameter.data.zero_()
    run = elimtool.trace(model, TEXT, options=replace(EVERY, sinks="none"))
    ids = torch.tensor(run.table("prompts")["token_ids"][0].tolist())[None]
    softmax, seen = torch.nn.functional.softmax, list[Any]()

    def watched(values: Any, *args: Any, **named: Any) -> Any:
        if values.ndim == 4:  # a row's scores with the null's behind, all less the largest
            seen.append((values[0, ..., :-1] - values[0, ..., -1:]).double())
        return softmax(values, *args, **named)

    monkeypatch.setattr(torch.nn.functional, "softmax", watched)
    with torch.inference_mode():
        plain(input_ids=ids)
    monkeypatch.undo()
    powers = torch.stack(seen).exp()
    whole = 1 + powers.sum(-1)
    heads = run.table("attention_heads").sort_values(["layer", "head", "position"], kind="stable")
    null = heads[heads["span"] == NULL]["mass"].to_numpy()
    np.testing.assert_allclose(null.reshape(whole.shape), 1 / whole, atol=1e-5)
    first = heads[heads["span"] == heads["span"].iloc[0]]["mass"].to_numpy()
    seen_it = powers[..., 0].numpy() > 0  # a window hides the first token from later ones: null, not 0
    np.testing.assert_array_equal(np.isnan(first.reshape(whole.shape)), ~seen_it)
    np.testing.assert_allclose(
        first.reshape(whole.shape)[seen_it], (powers[..., 0] / whole).numpy()[seen_it], atol=1e-5
    )
    assert 0.05 < float((1 / whole).max()) < 1
