"""What holds of a map whatever the family: bounds, sums, permutations; null with a reason where it cannot be.

Families: rotations with groups (llama), a part of the channels turned and parallel blocks (gpt_neox), norms
of queries and keys and windows (gemma3), learned positions (gpt2), biases for distance (bloom), linear
attention in some layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import elimtool
from elimtool.analysis.map.named import NO_ROTATION
from elimtool.analysis.map.units import SHOWS_NONE
from elimtool.model.loading import load_model
from elimtool.run.analysis import Analysis
from tests.families import save

FAMILIES = {"gpt_neox": None, "gemma3": None, "gpt2": NO_ROTATION[1], "bloom": NO_ROTATION[0]}
TOKENS = 64


@pytest.fixture(scope="module", params=["llama", *FAMILIES])
def found(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tokenizer: Any, corpus: Path,
    mapped: Analysis,
) -> Iterator[tuple[str, Analysis]]:  # fmt: skip
    if request.param == "llama":
        yield request.param, mapped
        return
    directory = save(request.param, tmp_path_factory.mktemp(request.param), tokenizer)
    model = load_model(str(directory))
    only = ["categories", "distances", "redundancy", "layers", "neurons"]
    yield request.param, elimtool.map_model(model, only=only, corpus=corpus, tokens=TOKENS)


def test_numbers_are_in_their_range_and_nothing_is_missing_without_a_reason(
    found: tuple[str, Analysis],
) -> None:
    family, analysis = found
    kernels = analysis.table("head_kernels")
    why = FAMILIES.get(family)
    assert set(kernels["no_kernel"].dropna()) == ({why} if why else set())
    assert kernels["unmeasured"].isna().all() and (kernels["d50"] <= kernels["d90"]).all()
    kept = analysis.table("head_categories")
    known = kept["unmeasured"].isna()
    assert kept.loc[known, ["retention", "selectivity"]].notna().all(axis=None) and known.any()
    assert kept.loc[~known, ["retention", "selectivity"]].isna().all(axis=None)
    pairs = analysis.table("head_pairs")
    assert pairs["js"].between(0, 1).all() and pairs["affinity"].between(0, 1).all()
    assert (pairs["cka"].dropna() <= 1).all() and pairs["cka"].notna().any()
    assert abs(pairs["cka_null"].mean()) < 0.1  # what has nothing to do with each other
    assert pairs["affinity"].mean() == pytest.approx(pairs["affinity_null"].mean(), abs=0.05)  # random maps
    layers = analysis.table("layers")
    assert layers["influence"].between(0, 2).all() and (layers["skip_kl"] >= 0).all()
    assert layers["linearity_published"].between(0, 1).all() and (layers["linearity"] <= 1).all()
    last = layers.iloc[-1]
    assert last["exit_agree"] == last["saturated"] == 1
    assert (layers["saturated"] <= layers["exit_agree"]).all()
    assert analysis.table("neurons")["open"].between(0, 1).all()


def test_lift_over_all_distances_is_one_where_all_are_seen(found: tuple[str, Analysis]) -> None:
    """Random weights look at every distance about alike, so lifts of visible distances are near 1."""
    family, analysis = found
    lifts = analysis.table("head_distances")["lift"].dropna()
    assert (lifts >= 0).all()
    if family != "bloom":  # whose biases (ALiBi) make near tokens likelier, whatever the weights
        assert lifts.mean() == pytest.approx(1, abs=0.15)


def test_a_layer_of_linear_attention_says_that_it_has_no_weights(
    tmp_path: Path, tokenizer: Any, corpus: Path
) -> None:
    model = load_model(str(save("qwen3_next", tmp_path, tokenizer)))
    found = elimtool.map_model(model, only=["distances", "redundancy"], corpus=corpus, tokens=TOKENS)
    linear = [layer for layer in range(model.n_layers) if layer not in model.attending]
    assert linear and model.attending
    kernels = found.table("head_kernels").set_index("layer")
    assert set(kernels.loc[linear, "unmeasured"]) == {SHOWS_NONE}
    assert kernels.loc[list(model.attending), "unmeasured"].isna().all()
    pairs = found.table("head_pairs").set_index("layer_a")
    assert pairs.loc[linear, ["js", "js_null"]].isna().all(axis=None)
    assert pairs.loc[list(model.attending), "js"].notna().all()


def test_relabelled_heads_have_each_others_numbers(
    llama_directory: Path, corpus: Path, mapped: Analysis
) -> None:
    """Groups of heads of layer 2 change places, weights and all: the map is the same, but for their names."""
    model = load_model(str(llama_directory))
    attention = model.hf.get_submodule("model.layers.2.self_attn")
    with torch.no_grad():
        for name, groups in (("q_proj", 4), ("k_proj", 2), ("v_proj", 2)):
            weight = getattr(attention, name).weight
            weight.copy_(weight.reshape(2, -1, weight.shape[1]).flip(0).reshape(weight.shape))
            assert groups % 2 == 0
        weight = attention.o_proj.weight
        weight.copy_(weight.reshape(len(weight), 2, -1).flip(1).reshape(weight.shape))
    parts = ["categories", "distances", "redundancy"]
    turned = elimtool.map_model(model, only=parts, corpus=corpus, tokens=TOKENS)
    order = np.array([2, 3, 0, 1])
    for table, column in (("head_kernels", "self_bias_net"), ("head_kernels", "d50")):
        one, other = (some.table(table).query("layer == 2")[column].to_numpy() for some in (mapped, turned))
        np.testing.assert_allclose(other, one[order], atol=1e-4)
    by_pair = [
        {(row.head_a, row.head_b): row for row in some.table("head_pairs").itertuples() if row.layer_a == 2}
        for some in (mapped, turned)
    ]
    for (a, b), row in by_pair[1].items():
        twin = by_pair[0][tuple(sorted((order[a], order[b])))]
        assert [row.js, row.cka, row.affinity] == pytest.approx([twin.js, twin.cka, twin.affinity], abs=1e-4)
        assert row.same_group == twin.same_group


def test_a_block_that_does_nothing_has_no_influence_loses_nothing_and_is_linear(
    llama_directory: Path, corpus: Path
) -> None:
    model = load_model(str(llama_directory))
    with torch.no_grad():
        model.hf.get_submodule("model.layers.1.self_attn.o_proj").weight.zero_()
        model.hf.get_submodule("model.layers.1.mlp.down_proj").weight.zero_()
    found = elimtool.map_model(model, only=["roles", "redundancy", "layers"], corpus=corpus, tokens=TOKENS)
    row = found.table("layers").loc[1]
    assert row["influence"] == pytest.approx(0, abs=1e-9) and row["skip_kl"] == pytest.approx(0, abs=1e-9)
    assert row["skip_agree"] == 1 and row["linearity"] == pytest.approx(1, abs=1e-3)
    assert row["linearity_published"] == pytest.approx(1, abs=1e-6) and pd.isna(row["update_linearity"])
    pairs = found.table("head_pairs").query("layer_a == 1")
    assert pairs[["cka", "affinity"]].isna().all(axis=None) and pairs["js"].notna().all()
    roles = found.table("head_roles").query("layer == 1")
    written = roles[roles["role"].isin(["copying", "suppressing", "successor"])]
    assert len(written) and written["score"].isna().all()  # what writes nothing has no role in writing
