"""Components against numbers worked out by hand, Hugging Face's logits in every family, and invariants."""

from __future__ import annotations

from dataclasses import replace
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
from elimtool.errors import ElimError
from elimtool.metrics.branches import Branch, share_out
from elimtool.metrics.components import Components
from elimtool.metrics.metric import Followed, ReadoutView, Settings
from elimtool.model.affine import Directions, Gain, Projection, pull
from elimtool.model.decomposition import Decomposition
from elimtool.model.heads import Heads
from elimtool.model.loading import load_hugging_face, load_model
from elimtool.model.view import Batch, Block, LayerView, Target
from elimtool.numerics.shapes import shapes
from elimtool.prompts.prompt import Prompt
from tests.families import FAMILIES, save
from tests.metrics.test_sources import sums_agree
from tests.metrics.views import encoded

TEXT = "The capital of France is Paris, and a token is eliminated."
COMPLETE = 1e-3
"""Logits that the parts of a logit may miss it by, in float32."""

WEIGHT = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 2.0, 1.0, 0.0]])
EMBEDDING = torch.tensor([[[10.0, 20.0]]])
BIAS = torch.tensor([0.5, 0.0])


def block_by_hand() -> Block:
    """Two heads of two numbers each in a stream of two channels: head 0 adds (1, 4), head 1 adds (4, 3)."""
    heads = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])
    outputs = torch.tensor([[[5.5, 7.0]]])
    mlp = Projection(
        torch.tensor([[[2.0]]]), torch.tensor([[[2.0, -2.0]]]), torch.tensor([[1.0], [-1.0]]), None
    )
    attention = Projection(heads, outputs, WEIGHT, BIAS)
    return Block(attention, mlp, None, (None, None), (None, None), 1.0, 2)


def directions_by_hand() -> Directions:
    """Token 0 reads channel 0, token 1 both; the vocabulary's mean reads half of channel 1."""
    toward = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])
    mean = torch.tensor([[0.0, 0.5]])
    constant = torch.tensor([[0.25, 0.0]])
    final = torch.tensor([10.0, 20.0]) + torch.tensor([5.5, 7.0]) + torch.tensor([2.0, -2.0])
    logits = torch.einsum("rkd,d->rk", toward, final) + constant
    return Directions(toward, constant, mean, torch.tensor([0.0]), logits)


def table_by_hand(
    after: torch.Tensor | None = None, heads: bool = True, directions: Directions | None = None
) -> pd.DataFrame | None:
    batch = Batch.of([encoded(3, (2,), {"a": (1,)}, (0,))])
    metric = Components(batch, Settings(heads=heads))
    metric.observe(LayerView(-1, batch, EMBEDDING))
    last = torch.tensor([[[17.5, 25.0]]]) if after is None else after
    block = block_by_hand()
    whole = Decomposition()
    block = replace(block, flaw=whole.ask())
    whole.take(block, EMBEDDING, last)
    metric.observe(LayerView(0, batch, last, block=block))
    tokens = torch.tensor([[0, 1]])
    followed = Followed(
        ids=tokens,
        is_foil=torch.tensor([[False, True]]),
        ambiguous=torch.zeros_like(tokens, dtype=torch.bool),
        targets=[[Target.single("t0", 0), Target.single("t1", 1)]],
        logprob=torch.zeros(1, 2, dtype=torch.float64),
    )
    logits = torch.zeros(2, 1, 2)
    view = ReadoutView(
        batch,
        batch.rows,
        "raw",
        logits,
        shapes(logits),
        logits[-1],
        followed,
        str,
        lambda *_: directions or directions_by_hand(),
    )
    metric.read(view)
    found = metric.finish()["components"]
    return pd.DataFrame(dict(found)) if found else None


def test_hand_computed_shares() -> None:
    table = table_by_hand()
    assert table is not None
    assert table["component"].tolist() == ["embed", "head 0.0", "head 0.1", "mlp 0", "bias"]
    assert table["kind"].tolist() == ["embed", "head", "head", "mlp", "bias"]
    assert table["target"].tolist() == ["t0"] * 5  # the foil t1 has no rows
    assert table["position"].tolist() == [2] * 5
    assert table["layer"].fillna(-1).tolist() == [-1, 0, 0, 0, -1]
    assert table["head"].fillna(-1).tolist() == [-1, 0, 1, -1, -1]
    # token 0 reads channel 0: embedding 10, heads 1 and 4, MLP 2, bias 0.5 + 0.25
    assert table["dla"].tolist() == [10, 1, 4, 2, 0.75]
    # the mean reads half of channel 1: embedding 10, heads 2 and 1.5, MLP -1, bias 0
    assert table["dla_centred"].tolist() == [0, -1, 2.5, 3, 0.75]


def test_a_block_that_does_not_add_up_has_no_rows() -> None:
    assert table_by_hand(torch.tensor([[[17.5, 26.0]]])) is None


def test_single_heads_are_not_listed_where_they_are_not_asked_for() -> None:
    assert table_by_hand(heads=False) is None


def test_parts_that_miss_the_logit_are_refused() -> None:
    one = directions_by_hand()
    wrong = Directions(one.toward, one.constant, one.mean_toward, one.mean_constant, one.logits + 1)
    with pytest.raises(ElimError, match="sum to it only within 1 logits"):
        table_by_hand(directions=wrong)


@st.composite
def branches(draw: st.DrawFn) -> tuple[Branch, torch.Tensor, torch.Tensor]:
    """A random attention branch with or without bias and norm behind it, what it adds, and directions."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    rows, width, heads = 3, draw(st.sampled_from([4, 5, 8])), draw(st.sampled_from([1, 2, 4]))
    weight, bias = normal(width, heads * 2), normal(width) if draw(st.booleans()) else None
    inputs, multiplier = normal(1, rows, heads * 2), draw(st.sampled_from([1.0, 0.5]))
    added = torch.nn.functional.linear(inputs, weight, bias)
    gain = scale = None
    if draw(st.booleans()):
        norm: Any = torch.nn.LayerNorm(width) if draw(st.booleans()) else torch.nn.RMSNorm(width)
        norm = norm.double()
        for parameter in norm.parameters():
            parameter.data = normal(width)
        with torch.no_grad():
            gain = Gain.of(norm, width, torch.zeros(1, dtype=torch.float64))
            frozen = gain.frozen(added, norm(added))
            assert bool(frozen.explained.all())
            scale, added = frozen.scale, norm(added)
    return (
        Branch(Heads(inputs, weight, heads), bias, gain, scale, multiplier),
        added * multiplier,
        normal(rows, 2, width),
    )


@settings(deadline=None, max_examples=100)
@given(branches())
def test_heads_and_biases_sum_to_what_the_branch_added(
    case: tuple[Branch, torch.Tensor, torch.Tensor],
) -> None:
    branch, added, toward = case
    rows = torch.zeros(3, dtype=torch.long), torch.arange(3)
    shares, constant = branch.shares(rows, toward), branch.constant(rows)
    assert isinstance(branch.values, Heads)
    assert shares.shape == (3, 2, branch.values.count)
    truth = torch.einsum("rkd,rd->rk", toward, added[0])
    total = shares.sum(-1)
    if constant is not None:
        total = total + torch.einsum("rkd,rd->rk", toward, constant)
    torch.testing.assert_close(total, truth, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("width", [3, 7, 8])
@pytest.mark.parametrize("centred", [True, False])
def test_a_norms_gain_is_read_off_by_running_it(width: int, centred: bool) -> None:
    norm: Any = torch.nn.LayerNorm(width, eps=1e-3) if centred else torch.nn.RMSNorm(width, eps=1e-3)
    torch.manual_seed(width)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(width))
        found = Gain.of(norm, width, torch.zeros(1))
        torch.testing.assert_close(found.gain, norm.weight, atol=1e-5, rtol=1e-5)
        assert found.centred == centred
        inputs = torch.randn(1, 4, width)
        frozen = found.frozen(inputs, norm(inputs))
        energy = found.centre(inputs).square().mean(-1)
        torch.testing.assert_close(frozen.scale, (energy + 1e-3).rsqrt(), atol=1e-4, rtol=1e-4)
        toward = torch.randn(4, 2, width)
        back = pull(toward, found, frozen.scale[0])
        truth = torch.einsum("rkd,rd->rk", toward, norm(inputs)[0] - found.bias)
        torch.testing.assert_close(torch.einsum("rkd,rd->rk", back, inputs[0]), truth, atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Any:
    directory: Path = save(request.param, tmp_path_factory.mktemp(request.param), tokenizer)
    return load_model(str(directory)), load_hugging_face(request.param, directory, "float32", False)


def test_parts_sum_to_hugging_faces_logit_in_every_family(family: Any) -> None:
    model, plain = family
    options = TraceOptions(position="all", heads=True, samplers=())
    run = elimtool.trace(model, TEXT, targets=[" of", " is"], foils=["x"], options=options)
    table = run.table("components")
    encoded = model.encode(Prompt(text=TEXT, targets=(" of", " is")), position="all")
    cap = getattr(plain.config, "final_logit_softcapping", None)
    plain.config.final_logit_softcapping = None
    with torch.inference_mode():
        logits = plain(input_ids=torch.tensor([encoded.token_ids])).logits[0].double()
    assert cap is None or float(logits.abs().max()) > cap  # the cap matters, and is not attributed to
    per_layer = model.n_heads + 1
    for target in encoded.targets:
        rows = table[table["target"] == target.text]
        assert len(rows) == len(encoded.token_ids) * (2 + model.n_layers * per_layer)
        total = rows.groupby("position")["dla"].sum().to_numpy()
        np.testing.assert_allclose(total, logits[:, target.token_id], atol=COMPLETE, rtol=0)
        centred = rows.groupby("position")["dla_centred"].sum().to_numpy()
        mean = logits[:, : model.vocab].mean(-1)
        np.testing.assert_allclose(centred, logits[:, target.token_id] - mean, atol=COMPLETE, rtol=0)
    contrasts = (
        run.table("contrast_components").groupby(["target", "foil", "position"])["dla_difference"].sum()
    )
    ids = run.table("contrasts").groupby(["target", "foil"])[["token_id", "foil_token_id"]].first()
    assert len(ids) == 2
    for (target, foil), (one, other) in zip(ids.index, ids.to_numpy(), strict=True):
        truth = logits[:, one] - logits[:, other]
        np.testing.assert_allclose(contrasts[target, foil], truth, atol=COMPLETE, rtol=0)


def test_spans_sum_to_heads_and_to_the_logit_in_every_family(family: Any) -> None:
    model, _ = family
    options = TraceOptions(position="5,-1", heads=True, samplers=())
    run = elimtool.trace(model, TEXT, targets=[" of", " is"], foils=["x"], options=options)
    assert run.table("source_spans")["undecomposed"].isna().all()
    sums_agree(run)


def test_each_head_gives_what_it_alone_adds_in_every_family(family: Any) -> None:
    """With the last block's norms linear in what is behind them, a head's share is its own matrix product."""
    model, _ = family
    batch = Batch.of([model.encode(Prompt(text=TEXT))])
    views: list[LayerView] = []
    model.stream(batch, {"block"}, views.append)
    assert all(view.block.flaw() is None for view in views[1:])
    one = views[-1].block
    last = views[-1].residual[0]
    directions = model.directions(last, torch.tensor([[5, 7]]), model.readout(last))
    shares = share_out(
        views[0].residual[0],
        [branch for view in views[1:] for branch in (Branch.attention(view.block), Branch.mlp(view.block))],
        batch.rows,
        directions,
    )
    d_head = one.attention.inputs.shape[-1] // model.n_heads
    heads = slice(shares.shape[-1] - 2 - model.n_heads, -2)
    for head in range(model.n_heads):
        part = slice(head * d_head, (head + 1) * d_head)
        output = one.attention.inputs[0, 0, part] @ one.attention.weight[:, part].T
        if one.behind[0] is not None:
            output = output * one.behind[0].fixed.gain * one.behind[0].scale[0, 0]
        truth = directions.toward[0] @ (output * one.multiplier)
        torch.testing.assert_close(shares[0, :2, heads][:, head].float(), truth, atol=1e-5, rtol=1e-4)


def test_centred_shares_are_antisymmetric_between_two_targets(llama: Any) -> None:
    options = TraceOptions(heads=True)
    table = elimtool.trace(llama, TEXT, targets=[" of", " is"], options=options).table("components")
    wide = table.pivot_table(index="component", columns="target", values=["dla", "dla_centred"])
    margin = wide["dla"][" of"] - wide["dla"][" is"]
    np.testing.assert_allclose(margin, wide["dla_centred"][" of"] - wide["dla_centred"][" is"], atol=1e-5)


def test_half_precision_is_shared_out_too(llama_directory: Path) -> None:
    model = load_model(str(llama_directory), dtype="bfloat16")
    run = elimtool.trace(model, TEXT, targets=[" of"])
    lens = run.table("lens")
    total = run.table("components")["dla"].sum()
    assert total == pytest.approx(lens[lens["layer"] == model.n_layers - 1]["logit"].iloc[0], abs=0.1)


@pytest.mark.smollm2
def test_parts_sum_to_the_logit_on_smollm2(smollm2: Any) -> None:
    options = TraceOptions(position="all", heads=True, samplers=())
    run = elimtool.trace(smollm2, "The capital of France is", targets=[" Paris", " London"], options=options)
    table, lens = run.table("components"), run.table("lens")
    last = lens[lens["layer"] == smollm2.n_layers - 1].set_index(["position", "target"])["logit"]
    total = table.groupby(["position", "target"])["dla"].sum().reindex(last.index)
    assert float((total - last).abs().max()) < COMPLETE
    heads = table[(table["kind"] == "head") & (table["position"] == 4) & (table["target"] == " Paris")]
    assert len(heads) == 30 * 9
    assert heads["dla_centred"].max() > 1
