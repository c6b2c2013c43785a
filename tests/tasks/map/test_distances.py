"""How far heads look: rotations of many families, kernels against the scores of one repeated token, lifts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import elimtool
from elimtool.analysis.map.distances import correlation, kernel, reach
from elimtool.analysis.map.named import NO_ROTATION
from elimtool.analysis.map.units import SHOWS_NONE
from elimtool.model.loading import load_model
from elimtool.model.rotation import Rotation, Unread, rotations
from elimtool.model.rows import Formed
from elimtool.model.view import Batch, LayerView
from elimtool.run.analysis import Analysis
from elimtool.tasks.map.corpus import Corpus
from elimtool.tasks.map.distances import Distances, DistanceSums
from elimtool.tasks.map.options import MapOptions
from elimtool.tasks.map.readable import formed
from elimtool.tasks.map.units import MapSource, Unit, Units
from tests.families import save

LONG = 64
FAR = LONG // 2
ASKED = MapOptions.of(tokens=LONG)
TURNING = {
    "gpt_neox": {},  # a part of the channels
    "qwen3": {},  # norms of queries and keys
    "cohere": {},  # channels side by side
    "gemma3": {},  # two rotations, and windows
    "gpt_oss": {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4,
                                    "original_max_position_embeddings": 32}},
    "smollm3": {"no_rope_layers": [1, 0, 1, 0]},  # layers without any
}  # fmt: skip


def repeated(model: Any) -> tuple[Unit, Batch]:
    """A unit that is one token again and again, without a sink."""
    encoded = model.encode(elimtool.Prompt(text="the"))
    whole = replace(
        encoded, token_ids=(encoded.token_ids[-1],) * LONG, sinks=(), positions=tuple(range(LONG))
    )
    return Unit("text", 0, whole), Batch.of([whole])


@pytest.mark.parametrize("family", TURNING)
def test_kernels_are_the_scores_of_one_repeated_token(family: str, tmp_path: Path, tokenizer: Any) -> None:
    model = load_model(str(save(family, tmp_path, tokenizer, **TURNING[family])))
    unit, batch = repeated(model)
    sums = DistanceSums(Distances(model, ASKED), [unit], batch)
    model.stream(
        batch, {"attention"}, lambda view: sums.observe(view, formed(view) if view.layer >= 0 else None)
    )
    found, totals = sums.sums(), sums.totals()
    assert not found["why_not"].any() and found["read"].all()
    # learned scores without a key take less of later queries: only layer 0 sees the same of all tokens
    for layer in range(1 if family == "gpt_oss" else model.n_layers):
        n, seen = found["n"][0, layer], found["seen"][0, layer]
        for head in range(model.n_heads):
            key = totals[f"key.{layer}"]
            own = kernel(
                totals[f"query.{layer}"][head] / n,
                key[head * len(key) // model.n_heads] / n,
                totals[f"cos.{layer}"],
                totals[f"sin.{layer}"],
            )
            score = found["score"][0, layer, head][seen > 0] / seen[seen > 0]
            np.testing.assert_allclose(own[seen > 0], score, rtol=1e-3, atol=1e-4, err_msg=f"{layer}.{head}")
            assert own[0] == pytest.approx(found["own"][0, layer, head] / n, rel=1e-3, abs=1e-4)
    if family == "smollm3":
        assert [one.cos.shape[1] > 0 for one in sums.turns] == [True, False, True, False]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("family", "why"), [("gpt2", Unread.NOT_PASSED), ("opt", Unread.NOT_PASSED), ("bloom", Unread.HIDDEN)]
)
def test_positions_that_are_not_turns_have_no_kernel_and_say_why(
    family: str, why: Unread, tmp_path: Path, tokenizer: Any, corpus: Path
) -> None:
    model = load_model(str(save(family, tmp_path, tokenizer)))
    found = elimtool.map_model(model, only=["distances"], corpus=corpus, tokens=LONG)
    rows = found.table("head_kernels")
    assert set(rows["no_kernel"]) == {NO_ROTATION[why - 1]} and rows["d50"].notna().all()
    assert rows[["self_bias_position", "self_bias_net", "kernel_r"]].isna().all(axis=None)
    lifts = found.table("head_distances")
    assert lifts["kernel"].isna().all() and lifts["lift"].notna().all()


def test_layers_without_attention_weights_say_so(tmp_path: Path, tokenizer: Any, corpus: Path) -> None:
    model = load_model(str(save("falcon_mamba", tmp_path, tokenizer)))
    found = elimtool.map_model(model, only=["distances", "categories"], corpus=corpus, tokens=LONG)
    for name in ("head_kernels", "head_categories", "head_selectivity"):
        assert set(found.table(name)["unmeasured"]) == {SHOWS_NONE}
    assert set(found.table("head_kernels")["no_kernel"]) == {SHOWS_NONE}
    assert len(NO_ROTATION) == len(Unread)


def test_a_turn_is_undone_and_depends_on_the_distance_alone(llama: Any) -> None:
    ids = torch.arange(LONG)[None] % 50
    (turn, *_) = rotations(llama, ids)
    assert isinstance(turn, Rotation) and not turn.adjacent
    size = 2 * turn.cos.shape[1]
    query, key = torch.randn(2, size, dtype=torch.float64)
    every = query.expand(LONG, size)
    torch.testing.assert_close(turn.back(turn.turned(every)), every)
    cos, sin = (one.double().numpy() for one in (turn.cos, turn.sin))
    own = kernel(query.numpy(), key.numpy(), cos, sin)
    assert own[0] == pytest.approx(float(query @ key))
    far = turn.turned(every) @ turn.turned(key.expand(LONG, size)).T
    np.testing.assert_allclose(
        [float(far[at, at - 9]) for at in range(9, LONG)], own[9], rtol=1e-4, atol=1e-5
    )
    assert not kernel(np.zeros(size), key.numpy(), cos, sin).any()


@pytest.fixture(scope="module")
def units(llama: Any, corpus: Path) -> list[Unit]:
    records = MapSource(llama, Corpus.of(corpus), ASKED).records()
    return [one for record in records if (one := Units(llama, LONG).of(record)).kind == "text"][:2]


def looked(llama: Any, units: list[Unit], weights: torch.Tensor) -> dict[str, Any]:
    """Lift of layer 0's first head by distance."""
    batch = Batch.of([one.encoded for one in units])
    sums = DistanceSums(Distances(llama, ASKED), units, batch)
    visible = torch.tril(torch.ones(LONG, LONG, dtype=torch.bool)).expand(len(units), -1, -1)
    whole = weights.expand(len(units), llama.n_heads, -1, -1)
    sums.observe(LayerView(0, batch, torch.zeros(len(units), LONG, 16), visible=visible), Formed(whole))
    return sums.sums()


def test_lifts_of_even_attention_and_of_a_head_that_looks_back(llama: Any, units: list[Unit]) -> None:
    even = torch.tril(torch.ones(LONG, LONG)) / torch.arange(1, LONG + 1)[:, None]
    found = looked(llama, units, even)
    lift = found["lift"][:, 0, 0] / found["rows"][:, 0, 0][:, None]
    np.testing.assert_allclose(lift, 1, rtol=1e-5)
    back = torch.zeros(LONG, LONG)
    back[range(LONG), [max(0, at - 3) for at in range(LONG)]] = 1
    found = looked(llama, units, back)
    lift = (found["lift"][:, 0, 0] / found["rows"][:, 0, 0][:, None])[0]
    # the mean number of keys that the queries see, all on one distance
    assert lift[3] == pytest.approx(np.mean(range(FAR, LONG))) and np.delete(lift, 3).max() == 0
    assert reach(lift, 0.5) == reach(lift, 0.9) == 3
    assert not found["scored"].any()


def test_reach_and_correlation_by_hand() -> None:
    lift = np.array([1.0, 2.0, np.nan, 1.0])
    assert reach(lift, 0.5) == 1 and reach(lift, 0.9) == 3 and reach(lift, 0.25) == 0
    assert correlation(np.array([1.0, 2, 3]), np.array([2.0, 4, 6])) == pytest.approx(1)
    assert correlation(np.ones(9), np.arange(9.0)) is None


def test_distances_of_a_map(mapped: Analysis) -> None:
    rows = mapped.table("head_kernels")
    assert rows["unmeasured"].isna().all() and rows["no_kernel"].isna().all()
    assert (rows["d50"] <= rows["d90"]).all() and (rows["peak"] < FAR).all()
    np.testing.assert_allclose(rows["self_bias_net"], rows["self_bias_position"] + rows["self_bias_content"])
    lifts = mapped.table("head_distances")
    first = lifts[(lifts["layer"] == 1) & (lifts["head"] == 2)].sort_values("distance")
    row = rows[(rows["layer"] == 1) & (rows["head"] == 2)].iloc[0]
    assert row["self_bias_position"] == pytest.approx(first["kernel"].iloc[0] - first["kernel"].iloc[1])
    assert row["kernel_r"] == pytest.approx(np.corrcoef(first["kernel"], first["score"])[0, 1])
