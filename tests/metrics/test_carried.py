"""What rows carry, against vectors formed by hand in float64 from hooks on plain Hugging Face models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import elimtool
from elimtool import TraceOptions
from elimtool.metrics.recovery import recovery
from elimtool.model.loading import load_hugging_face, load_model
from elimtool.prompts.prompt import SINK
from tests.families import save
from tests.model.carried import attention_of, updates

TEXT = "The capital of France is a token"
KEYS = ["position", "layer"]
EVERY = TraceOptions(
    position="2,-1",
    samplers=(),
    lens="raw",
    tables=("attention", "attention_heads", "attention_layers", "head_context", "contributions", "recovery"),
)
FAMILIES = ("llama", "gpt_neox", "gemma2", "granite", "gpt_oss", "afmoe")
"""Grouped keys; parallel blocks with biases; a norm behind; a multiplier; a learned null; an output gate."""


@pytest.fixture(scope="module", params=FAMILIES)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Any:
    directory: Path = save(request.param, tmp_path_factory.mktemp(request.param), tokenizer)
    return load_model(str(directory)), load_hugging_face(request.param, directory, "float32", False)


@pytest.fixture(scope="module")
def run(loaded: Any) -> Any:
    return elimtool.trace(loaded[0], TEXT, options=EVERY)


def test_shares_of_a_partition_sum_to_one(run: Any) -> None:
    spans = run.table("attention")
    assert (spans["norm_share"].notna() == spans["mass"].notna()).all()
    for column in ("mass", "norm_share", "block_share"):
        np.testing.assert_allclose(spans.groupby(KEYS)[column].sum(), 1, atol=1e-6)
    heads = run.table("attention_heads")
    np.testing.assert_allclose(heads.groupby([*KEYS, "head"])["norm_share"].sum(), 1, atol=1e-6)
    parts = run.table("contributions")
    sums = parts.groupby([*KEYS, "block_step"])[["contribution", "alignment"]].sum()
    np.testing.assert_allclose(sums, 1, atol=2e-6)
    assert (parts["contribution"].dropna() >= 0).all()
    steps = {"block"} if "block" in set(parts["block_step"]) else {"attention", "mlp"}
    assert set(parts["block_step"]) == steps
    first = parts[(parts["block_step"] != "mlp") & (parts["kind"] == "span")]
    both = first.merge(spans, left_on=[*KEYS, "part"], right_on=[*KEYS, "span"])
    assert len(both) == len(first) == len(spans)
    for column in ("contribution", "alignment"):
        np.testing.assert_array_equal(both[f"{column}_x"], both[f"{column}_y"])


def test_vectors_formed_by_hand_give_the_same(loaded: Any, run: Any) -> None:
    """Values are cut in a plain model: with v_j at zero, attention's output loses exactly what j carried."""
    model, plain = loaded
    blocks = plain.get_submodule(model.block_names)
    attention = attention_of(blocks[1])
    projection = getattr(attention, "v_proj", None)
    if (
        projection is None
        or hasattr(blocks[1], "post_mlp_layernorm")
        or hasattr(blocks[1], "pre_mlp_layernorm")
    ):
        pytest.skip("its values have no projection of their own, or a norm behind rescales what is left")
    if hasattr(blocks[1], "pre_feedforward_layernorm"):
        pytest.skip("a norm behind rescales what is left")
    ids = torch.tensor(run.table("prompts")["token_ids"][0].tolist())[None]
    whole, at = updates(plain, model.block_names, ids)[1].double(), ids.shape[1] - 1
    entering: list[Any] = []
    with blocks[1].register_forward_pre_hook(
        lambda _m, args, named: entering.append(args[0]), with_kwargs=True
    ):
        plain(input_ids=ids)
    before = entering[0][0].detach().double()
    carried = []
    for token in range(ids.shape[1]):

        def cut(_module: Any, _inputs: Any, out: Any, token: int = token) -> Any:
            kept = out.clone()
            kept[:, token] = 0
            return kept

        with projection.register_forward_hook(cut):
            carried.append((whole - updates(plain, model.block_names, ids)[1].double())[at])
    parts = torch.stack(carried)
    result = before[at] + whole[at]
    bias = whole[at] - parts.sum(0)
    taken = {"<residual>": before[at], "<bias>": bias} | dict(enumerate(parts))
    scores = {
        name: max(0.0, float(result.abs().sum() - (result - one).abs().sum())) for name, one in taken.items()
    }
    total = sum(scores.values())
    rows = run.table("contributions")
    rows = rows[(rows["layer"] == 1) & (rows["position"] == at) & (rows["block_step"] == "attention")]
    spans = run.table("attention")
    spans = spans[(spans["layer"] == 1) & (spans["position"] == at)]
    assert len(parts) == int(spans["span_size"].sum())  # every token is a span, the first the sink
    ours = rows[rows["kind"] == "span"]
    ours = ours[ours["part"] != "<null>"]
    order = [0 if name == SINK else int(name.split(":")[0]) for name in ours["part"]]
    aligned = [float(parts[index] @ result / result.square().sum()) for index in order]
    np.testing.assert_allclose(ours["alignment"], aligned, atol=2e-5)
    np.testing.assert_allclose(ours["contribution"], [scores[i] / total for i in order], atol=2e-5)
    lengths = parts.norm(dim=-1)
    np.testing.assert_allclose(
        spans[spans["span"] != "<null>"]["block_share"], (lengths / lengths.sum())[order], atol=2e-5
    )
    for name in ("<residual>", "<bias>"):
        own = rows[rows["part"] == name].iloc[0]
        assert own["contribution"] == pytest.approx(scores[name] / total, abs=2e-5)
        assert own["length"] == pytest.approx(float(taken[name].norm() / result.norm()), abs=2e-5)
    layer = run.table("attention_layers").query("layer == 1 and position == @at").iloc[0]
    others, own_part = parts[:at].sum(0).norm(), (parts[at] + before[at]).norm()
    assert layer["mixing"] == pytest.approx(float(others / (others + own_part)), abs=2e-5)
    assert layer["clipped"] == pytest.approx(np.mean([scores[i] == 0 for i in range(len(parts))]))


@pytest.mark.parametrize("n_heads", [1, 4])
def test_what_is_repeated_is_carried_as_it_is_weighed(tmp_path: Path, tokenizer: Any, n_heads: int) -> None:
    """With one token repeated all values of a head are equal, so its shares of norms are its weights.

    In every layer, as all rows mix equal vectors. Heads summed first they are not: what heads write cancels
    more or less as their weights differ from key to key. A head alone has nothing to cancel it.
    """
    heads = {"num_attention_heads": n_heads, "num_key_value_heads": max(1, n_heads // 2)}
    model = load_model(str(save("llama", tmp_path, tokenizer, **heads)))
    options = TraceOptions(samplers=(), lens="raw", sinks="none", tables=EVERY.tables)
    run = elimtool.trace(model, "zzzzzzzz", options=options)
    spans, single = run.table("attention"), run.table("attention_heads")
    assert len(set(single["head"])) == n_heads and single["mass"].std() > 0.01  # far from even rows
    np.testing.assert_allclose(single["norm_share"], single["mass"], atol=1e-5)
    np.testing.assert_allclose(spans["norm_share"], spans["mass"], atol=1e-5)
    if n_heads == 1:
        np.testing.assert_allclose(spans["block_share"], spans["mass"], atol=1e-5)
    else:
        assert np.abs(spans["block_share"] - spans["mass"]).max() > 0.01


def test_first_position_mixes_nothing(loaded: Any) -> None:
    options = TraceOptions(position=0, samplers=(), lens="raw", tables=("attention_layers", "contributions"))
    layers = elimtool.trace(loaded[0], TEXT, options=options).table("attention_layers")
    assert (layers["mixing"] == 0).all()


def test_batched_and_through_parts_equal_single(loaded: Any) -> None:
    from tests.engine.tables import tables

    texts = [TEXT, "A shorter one"]
    together = tables(loaded[0], texts, EVERY)
    held = tables(loaded[0], texts, EVERY, held_numbers=1)
    for text in texts:
        for name, mine in tables(loaded[0], [text], EVERY).items():
            for all_of in (together, held):
                both = all_of[name][all_of[name]["prompt_id"] == mine["prompt_id"].iloc[0]]
                pd.testing.assert_frame_equal(
                    both.reset_index(drop=True),
                    mine.reset_index(drop=True),
                    check_dtype=False,
                    rtol=1e-4,
                    atol=2e-5,
                )


def test_unknown_parts_are_null_and_say_why(tmp_path: Path, tokenizer: Any) -> None:
    run = elimtool.trace(load_model(str(save("bitnet", tmp_path, tokenizer))), TEXT, options=EVERY)
    layers, spans = run.table("attention_layers"), run.table("attention")
    assert layers["undecomposed"].str.contains("something else").all()
    assert layers[["mixing", "clipped", "sink_norm_share"]].isna().all(axis=None)
    assert spans[["norm_share", "block_share", "contribution", "alignment"]].isna().all(axis=None)
    # weights are known all the same: of each span that the query sees, which is none behind it
    last = run.table("prompts")["token_ids"][0].size - 1
    whole = spans[spans["position"] == last]
    assert layers["entropy"].notna().all() and len(whole) and whole["mass"].notna().all()
    np.testing.assert_allclose(spans.groupby(KEYS)["mass"].sum(), 1, atol=1e-6)


def test_long_prompts_and_all_positions_form_vectors_on_request_only(tiny_long: Any) -> None:
    long = "z" * 140
    plain = elimtool.trace(tiny_long, long, options=TraceOptions(samplers=(), lens="raw"))
    assert plain.table("attention")["contribution"].isna().all()
    assert plain.table("attention")["alignment"].notna().all()
    assert "contributions" not in plain.tables  # nothing filled it, and nobody named it
    asked = TraceOptions(samplers=(), lens="raw", tables=("attention", "contributions"))
    assert elimtool.trace(tiny_long, long, options=asked).table("attention")["contribution"].notna().all()
    every = elimtool.trace(tiny_long, TEXT, options=TraceOptions(samplers=(), lens="raw", position="all"))
    assert "contributions" not in every.tables and "recovery" not in every.tables
    assert every.table("attention")["norm_share"].dropna().between(0, 1).all()


@pytest.fixture(scope="module")
def tiny_long(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Any:
    directory = tmp_path_factory.mktemp("long")
    return load_model(str(save("llama", directory, tokenizer, max_position_embeddings=256)))


def test_recovery_by_hand() -> None:
    early, late = np.full(40, 1.0), np.full(40, 0.5)
    # the bin of distances 32 to 39 has keys 0 to 7, that of 16 to 31 has keys 8 to 23
    early[:6], early[8:12] = 0.1, 0.1
    late[4:8], late[12:16] = 2.0, 2.0
    found = recovery(early, late, 39)
    assert (found["n_keys"], found["starved"], found["recovered"]) == (40, 10, 2)
    assert found["expected"] == pytest.approx(6 * 4 / 8 + 4 * 4 / 16)
    few = recovery(early[:31], late[:31], 30)
    assert few["n_keys"] == 31 and few["starved"] is None
    same = recovery(np.arange(40.0), np.arange(40.0), 39)
    assert same["carry_over"] == pytest.approx(1)
    turned = recovery(np.arange(40.0), -np.arange(40.0), 39)
    assert turned["carry_over"] == pytest.approx(-1)


def test_expected_recovery_is_the_mean_over_shuffles() -> None:
    random = np.random.default_rng(0)
    early, late = random.random(64) * 2, random.random(64) * 2
    distance = 63 - np.arange(64)
    bins = np.where(distance > 0, np.floor(np.log2(np.maximum(distance, 1))) + 1, 0)
    counts = []
    for _ in range(2000):
        shuffled = late.copy()
        for one in np.unique(bins):
            shuffled[bins == one] = random.permutation(late[bins == one])
        counts.append(int(((early < 0.5) & (shuffled >= 1)).sum()))
    found = recovery(early, late, 63)
    assert found["expected"] == pytest.approx(np.mean(counts), abs=4 * np.std(counts) / np.sqrt(2000))


def test_reach_and_low_scores_equal_plain_transformers(loaded: Any, run: Any) -> None:
    _, plain = loaded
    ids = torch.tensor(run.table("prompts")["token_ids"][0].tolist())[None]
    with torch.inference_mode():
        weights = plain(input_ids=ids, output_attentions=True).attentions
    layers, at = run.table("attention_layers"), ids.shape[1] - 1
    heads = run.table("head_context")
    for layer, rows in enumerate(weights):
        row = rows[0, :, at].double().numpy()
        total = row.sum(-1, keepdims=True)
        entropy = -np.where(row > 0, row / total * np.log(np.maximum(row / total, 1e-300)), 0).sum(-1)
        ours = layers[(layers["layer"] == layer) & (layers["position"] == at)].iloc[0]
        assert ours["entropy"] == pytest.approx(entropy.mean(), abs=1e-5)
        assert ours["n_eff"] == pytest.approx(np.exp(entropy).mean(), rel=1e-4)
        seen = np.nonzero((row > 0).any(0))[0]
        outside = seen[seen > 0][::-1]
        each = heads[(heads["layer"] == layer) & (heads["position"] == at)].set_index("head")["context_90"]
        for head in range(len(row)):
            kept = row[head, outside]
            share = kept.cumsum() / kept.sum()
            near = np.abs(share - 0.9) < 1e-4
            if kept.sum() > 0.011 and not near.any():
                assert each[head] == 1 + int((share < 0.9).sum())
        assert ours["context_90_even"] == int(np.ceil(0.9 * len(outside) - 1e-9))
        assert 0 <= ours["negative_mass"] <= 1 and 0 <= ours["below_mean_mass"] <= 1
        # log-weights are scores but for a shift, which the row's mean removes
        logs = np.log(np.maximum(row[:, seen], 1e-300))
        edge = logs.mean(-1, keepdims=True)
        if (np.abs(logs - edge) > 1e-4).all():
            below = np.where(logs < edge, row[:, seen], 0).sum(-1).mean()
            assert ours["below_mean_mass"] == pytest.approx(below, abs=1e-5)
