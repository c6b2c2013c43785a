"""Mechanisms against numbers worked out by hand, naive searches, and the massive activation of SmolLM2."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import elimtool
from elimtool.engine.options import TraceOptions
from elimtool.metrics.mechanisms import Mechanisms, cancellation, stream
from elimtool.metrics.metric import Settings
from elimtool.metrics.neurons import ERROR, STEPS, activity, droppable
from elimtool.model.affine import Projection
from elimtool.model.decomposition import Decomposition
from elimtool.model.heads import Heads
from elimtool.model.loading import load_hugging_face, load_model
from elimtool.model.view import Batch, Block, LayerView
from elimtool.prompts.prompt import Prompt
from tests.engine.tables import tables
from tests.families import FAMILIES, dense_layers, save
from tests.metrics.views import encoded

TEXT = "The capital of France is Paris, and a token is eliminated."
GATED = {"llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "gemma3_images", "olmo2", "granite"}
GATED |= {"cohere", "stablelm", "deepseek_v3", "qwen3_moe"}
SHARED_NORM = {"phi", "cohere", "falcon"}


def _cancelled(heads: torch.Tensor, weight: torch.Tensor, count: int) -> dict[str, torch.Tensor]:
    rows = torch.zeros(len(heads), dtype=torch.long), torch.arange(len(heads))
    return cancellation(*Heads(heads[None], weight, count).lengths(rows))


def test_hand_computed_stream() -> None:
    before, after = torch.tensor([[1.0, -8.0, 2.0, 2.0]]), torch.tensor([[1.0, -4.0, 2.0, 2.0]])
    found = {
        name: float(value)
        for name, value in stream(before, after, torch.tensor([2.0]), torch.tensor([False])).items()
    }
    assert found["top_channel_share"] == pytest.approx(64 / 73)
    assert found["top_channel_db"] == pytest.approx(10 * math.log10(9 / 73))
    assert (found["max_abs"], found["max_channel"], found["max_ratio"]) == (8, 1, 4)
    assert found["update_ratio"] == pytest.approx(4 / math.sqrt(73))
    assert found["residual_cos"] == pytest.approx(41 / math.sqrt(73 * 25))
    assert found["update_cos"] == pytest.approx(-32 / (4 * math.sqrt(73)))  # it erases
    centred = stream(torch.tensor([[3.0, 1.0, 1.0, 7.0]]), after, torch.tensor([1.0]), torch.tensor([True]))
    assert float(centred["top_channel_share"]) == pytest.approx(16 / (0 + 4 + 4 + 16))


def test_a_residual_of_nothing_has_no_shape() -> None:
    found = stream(torch.zeros(1, 4), torch.ones(1, 4), torch.zeros(1), torch.tensor([False]))
    assert all(bool(found[name].isnan()) for name in ("top_channel_share", "max_ratio", "update_ratio"))
    assert bool(found["residual_cos"].isnan() & found["update_cos"].isnan())
    assert float(found["max_abs"]) == 0


def test_hand_computed_cancellation() -> None:
    weight = torch.eye(2).repeat(1, 2)  # two heads of two numbers, each written as it is
    heads = torch.tensor([[3.0, 0.0, 0.0, 4.0], [1.0, 1.0, -1.0, -1.0], [1.0, 2.0, 2.0, 4.0], [0.0] * 4])
    found = _cancelled(heads, weight, 2)
    assert found["head_cancellation"][:3].tolist() == pytest.approx([1 - 5 / 7, 1, 0], abs=1e-6)
    expected = [1 - 5 / 7, 1 - math.sqrt(0.5), 1 - math.sqrt(5) / 3]
    assert found["head_cancellation_null"][:3].tolist() == pytest.approx(expected, abs=1e-6)
    assert bool(found["head_cancellation"][3].isnan())


def test_hand_computed_activity() -> None:
    found = activity(torch.tensor([[3.0, -1.0, 0.02, 0.0], [2.0, 2.0, -2.0, 2.0], [0.0] * 4]))
    assert found["below_threshold_frac"][:2].tolist() == [0.5, 0]
    assert found["participation_ratio"][0] == pytest.approx((9 + 1 + 4e-4) ** 2 / (81 + 1 + 1.6e-7))
    assert found["participation_ratio"][1] == pytest.approx(4)
    assert found["n90"][:2].tolist() == [2, 4]  # 9 of 10.0004 is just short of 0.9
    assert all(bool(values[2].isnan()) for values in found.values())


def test_hand_computed_droppable_neurons() -> None:
    weight = torch.eye(4)
    neurons = torch.tensor([[10.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 5.0], [0.0] * 4])
    (share,), (written,) = droppable(neurons[None], [weight], torch.ones(1, 4))
    assert torch.equal(written, neurons)
    assert share[:3].tolist() == [0.75, 0, 0.75]  # sqrt(3) of sqrt(103); 1 of 2; nothing of 5
    assert bool(share[3].isnan())


@st.composite
def activations(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    count, width, rows = draw(st.integers(1, 40)), draw(st.integers(1, 6)), draw(st.integers(1, 4))
    neurons = torch.randn(rows, count, generator=generator)
    neurons = neurons * torch.rand(rows, count, generator=generator) ** draw(st.sampled_from([0, 4, 12]))
    neurons[torch.rand(rows, count, generator=generator) < draw(st.sampled_from([0.0, 0.5]))] = 0
    return neurons, torch.randn(width, count, generator=generator)


@settings(deadline=None, max_examples=150)
@given(activations())
def test_invariants_of_activity(case: tuple[torch.Tensor, torch.Tensor]) -> None:
    neurons, _ = case
    found = activity(neurons)
    alive = neurons.abs().amax(-1) > 0
    nonzero = (neurons != 0).sum(-1)
    for name in ("participation_ratio", "n90"):
        values = found[name]
        assert bool(values.isnan().eq(~alive).all())
        assert bool((values[alive] >= 1 - 1e-9).all())
        assert bool((values[alive] <= nonzero[alive] * (1 + 1e-9)).all())
    shuffled = neurons[:, torch.randperm(neurons.shape[1], generator=torch.Generator().manual_seed(1))]
    for name, values in activity(shuffled * 4).items():  # a power of two: exact in floats
        torch.testing.assert_close(values, found[name], equal_nan=True)


@settings(deadline=None, max_examples=150)
@given(activations())
def test_dropping_one_neuron_more_would_be_too_much(case: tuple[torch.Tensor, torch.Tensor]) -> None:
    neurons, weight = case
    sizes = weight.norm(dim=0)
    (share,), _ = droppable(neurons[None], [weight], sizes[None])
    for row, values in enumerate(neurons):
        whole = float((weight @ values).norm())
        if math.isnan(float(share[row])):
            assert whole < 1e-6
            continue
        order = (values.abs() * sizes).argsort(stable=True)
        dropped = round(float(share[row]) * len(values))
        assert float(share[row]) == pytest.approx(dropped / len(values))

        def error(n: int, values: torch.Tensor = values, order: torch.Tensor = order) -> float:
            return float((weight[:, order[:n]] @ values[order[:n]]).norm())

        assert error(dropped) <= 0.2 * whole + 1e-5
        assert dropped == len(values) or error(dropped + 1) > 0.2 * whole - 1e-5


@pytest.mark.parametrize("spread", [0, 1, 6])
@pytest.mark.parametrize("count", [5, 40, 96, 300])
def test_the_last_step_within_the_error_is_found(count: int, spread: int) -> None:
    generator = torch.Generator().manual_seed(count + spread)
    weight = torch.randn(8, count, generator=generator, dtype=torch.float64)
    neurons = torch.randn(6, count, generator=generator, dtype=torch.float64)
    neurons *= torch.rand(6, count, generator=generator, dtype=torch.float64) ** spread  # peaked: more can go
    sizes = weight.norm(dim=0)
    (share,), _ = droppable(neurons[None], [weight], sizes[None])
    step = -(-count // STEPS)
    for row, values in enumerate(neurons):
        order = (values.abs() * sizes).argsort(stable=True)
        written = (weight[:, order] * values[order]).cumsum(1).norm(dim=0)
        within = [True, *(written <= ERROR * written[-1]).tolist()]
        done = max(n for n in range(0, count, step) if within[n])
        most = max(n for n in range(done, min(count, done + step) + 1) if within[n])
        assert float(share[row]) == pytest.approx(most / count)


def test_layers_are_worked_through_together_as_each_alone() -> None:
    generator = torch.Generator().manual_seed(3)
    weights = [torch.randn(5, 70, generator=generator, dtype=torch.float64) for _ in range(4)]
    neurons = torch.randn(4, 6, 70, generator=generator, dtype=torch.float64)
    neurons *= torch.rand(4, 6, 70, generator=generator, dtype=torch.float64) ** torch.tensor(
        [0, 1, 4, 16]  # in flat rows few neurons can go, in peaked ones most
    ).view(4, 1, 1)
    sizes = torch.stack([weight.norm(dim=0) for weight in weights])
    alone = [droppable(neurons[[i]], weights[i : i + 1], sizes[[i]]) for i in range(4)]
    for held in (2**20, 1):
        share, written = droppable(neurons, weights, sizes, held)
        assert torch.equal(share, torch.cat([one[0] for one in alone]))
        torch.testing.assert_close(written, torch.cat([one[1] for one in alone]))


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**20), st.sampled_from([1, 2, 4]), st.integers(1, 9))
def test_invariants_of_cancellation(seed: int, n_heads: int, width: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    heads = torch.randn(3, n_heads * 2, generator=generator)
    weight = torch.randn(width, n_heads * 2, generator=generator)
    found = _cancelled(heads, weight, n_heads)
    for values in found.values():
        assert bool(((values >= 0) & (values <= 1)).all())
    assert bool((found["head_cancellation_null"] <= 1 - n_heads**-0.5 + 1e-6).all())
    if n_heads == 1:
        assert bool((found["head_cancellation"].abs() < 1e-5).all())


def test_rows_in_chunks_change_nothing(llama: Any) -> None:
    options = TraceOptions(position="all", heads=True, tables=("mechanisms",))
    whole, parts = (tables(llama, [TEXT], options, held_numbers=held)["mechanisms"] for held in (2**22, 1))
    pd.testing.assert_frame_equal(whole, parts, rtol=1e-5)


def test_what_a_block_does_not_show_is_null() -> None:
    batch = Batch.of([encoded(3, (2,), {"a": (1,)}, (0,))])
    metric = Mechanisms(batch, Settings())
    metric.observe(LayerView(-1, batch, torch.ones(1, 1, 4), typical=torch.ones(1)))
    block = Block(
        None, Projection(None, torch.ones(1, 1, 4), None, None), None, (None, None), (None, None), 1, 2
    )
    after = torch.full((1, 1, 4), 2.0)
    whole = Decomposition()
    block = replace(block, flaw=whole.ask())
    whole.take(block, torch.ones(1, 1, 4), after)
    metric.observe(LayerView(0, batch, after, block=block))
    row = pd.DataFrame(dict(metric.finish()["mechanisms"])).iloc[0]
    assert row["undecomposed"] == "the output of attention or MLP cannot be seen"
    assert row["update_ratio"] == 1
    assert row[["norm1_scale", "norm2_scale", "head_cancellation", "gate_closed_frac", "n90"]].isna().all()
    assert row[["below_threshold_frac", "participation_ratio", "cett_sparsity"]].isna().all()


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Any:
    directory: Path = save(request.param, tmp_path_factory.mktemp(request.param), tokenizer)
    return request.param, load_model(str(directory))


def test_every_family_shows_its_parts(family: Any) -> None:
    name, model = family
    batch = Batch.of([model.encode(Prompt(text=TEXT), position="all")])
    views: list[LayerView] = []
    model.stream(batch, {"block"}, views.append)
    for before, view in pairwise(views):
        block = view.block
        assert block.flaw() is None
        attention, mlp = block.added()
        torch.testing.assert_close(attention + mlp, view.residual - before.residual, atol=1e-4, rtol=0)
        neurons = view.layer in dense_layers(name)
        assert block.mlp.explained() == neurons
        assert (block.gate is not None) == (neurons and name in GATED)
        assert (block.norms[1] is None) == (name in SHARED_NORM)
    named = TraceOptions(samplers=(), tables=("mechanisms",))
    table = elimtool.trace(model, TEXT, options=named).table("mechanisms")
    assert table["undecomposed"].isna().all()
    assert table["layer"].tolist() == list(range(model.n_layers))
    dense = table["layer"].isin(dense_layers(name))
    of_neurons = ["below_threshold_frac", "n90", "participation_ratio", "cett_sparsity"]
    always = table.drop(columns=["undecomposed", "gate_closed_frac", "norm2_scale", "intervention"])
    assert always[dense].notna().all(axis=None)
    assert always.drop(columns=of_neurons).notna().all(axis=None)
    assert table.loc[~dense, [*of_neurons, "gate_closed_frac"]].isna().all(axis=None)
    assert table.loc[dense, "gate_closed_frac"].notna().all() == (name in GATED or not dense.any())


def test_scale_is_the_norms_own(llama: Any) -> None:
    batch = Batch.of([llama.encode(Prompt(text=TEXT), position="all")])
    views: list[LayerView] = []
    llama.stream(batch, {"block"}, views.append)
    table = elimtool.trace(llama, TEXT, options=TraceOptions(position="all")).table("mechanisms")
    for before, view in pairwise(views):
        truth = (before.residual[0].square().mean(-1) + llama.hf.config.rms_norm_eps).rsqrt()
        found = table.loc[table["layer"] == view.layer, "norm1_scale"]
        np.testing.assert_allclose(found, truth, rtol=1e-4)
    assert table["cett_sparsity"].isna().all()  # not named
    for named, measured in (({"position": "all"}, False), ({}, True)):  # every position has no single heads
        options = TraceOptions(tables=("mechanisms",), **named)
        table = elimtool.trace(llama, TEXT, options=options).table("mechanisms")
        assert table["cett_sparsity"].notna().all() == measured


def test_the_largest_value_is_held_against_the_whole_hidden_state(llama: Any, llama_directory: Path) -> None:
    """Medians of Hugging Face's own hidden states; the shorter prompt is padded."""
    texts = [TEXT, "The capital of France"]
    # a model of its own: transformers leaves hooks on one that has been asked for hidden states
    plain = load_hugging_face("llama", llama_directory, "float32", False)
    table = elimtool.trace(llama, texts, options=TraceOptions(samplers=())).table("mechanisms")
    for number, text in enumerate(texts):
        ids = torch.tensor([llama.encode(Prompt(text=text)).token_ids])
        with torch.inference_mode():
            states = plain(input_ids=ids, output_hidden_states=True).hidden_states[: llama.n_layers]
        truth = [float(one[0, -1].abs().max()) / np.median(one[0].abs().numpy()) for one in states]
        found = table["max_ratio"][number * llama.n_layers : (number + 1) * llama.n_layers]
        np.testing.assert_allclose(found, truth, rtol=1e-4)


def test_observing_changes_nothing(llama: Any) -> None:
    batch = Batch.of([llama.encode(Prompt(text=TEXT))])
    plain: list[LayerView] = []
    llama.stream(batch, (), plain.append)
    shown: list[LayerView] = []
    metric = Mechanisms(batch, Settings())

    def observe(view: LayerView) -> None:
        metric.observe(view)
        shown.append(view)

    llama.stream(batch, {"attention", "block", "typical"}, observe)
    for one, two in zip(plain, shown, strict=True):
        assert torch.equal(one.residual, two.residual)
    assert all(not point.fwd_hooks and not point._forward_hooks for point in _points(llama))


def _points(model: Any) -> list[Any]:
    return [
        part for name, part in model.bridge.named_modules() if name.rpartition(".")[-1].startswith("hook_")
    ]


@pytest.mark.smollm2
def test_massive_activation_of_smollm2(smollm2: Any) -> None:
    """At position 0 channel 507: about 706 into layers 3 to 9, gone at 10 and 11, then about 23,147 to 28."""
    text = "The history of the city begins with a small settlement on the river, built by fishermen."
    table = elimtool.trace(smollm2, text, options=TraceOptions(position=0, samplers=())).table("mechanisms")
    assert (table["max_channel"][3:10] == 507).all()
    assert table["max_abs"][3:10].between(500, 850).all()
    assert (table["max_abs"][10:12] < 200).all()
    assert (table["max_channel"][12:29] == 507).all()
    assert table["max_abs"][12:29].between(20_000, 26_000).all()
    assert (table["max_ratio"][12:29] > 1_000).all()  # massive by the rule of Sun et al.
    assert (table["top_channel_share"][12:29] > 0.9).all()
