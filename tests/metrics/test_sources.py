"""Sources: sums over spans by hand, cells from Hugging Face's own states, and what holds for any model."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import elimtool
from elimtool import Prompt, TraceOptions
from elimtool.metrics import sources
from elimtool.metrics.source_tables import reduced
from elimtool.metrics.span_parts import DistanceBins, SpanParts
from elimtool.model.loading import load_hugging_face
from elimtool.model.view import Batch, Rows
from elimtool.prompts.prompt import SpanRequest
from tests.metrics.views import encoded

TEXT = "The capital of France is Paris, and a token is eliminated."
HEADS = TraceOptions(heads=True, samplers=())
KEY = ["position", "target", "span"]


@st.composite
def divided(draw: st.DrawFn) -> tuple[SpanParts, torch.Tensor, torch.Tensor]:
    """Two prompts with spans of any lengths, also overlapping ones, weights and values."""
    n = draw(st.integers(2, 12))
    some = st.lists(st.integers(1, n - 1), min_size=1, max_size=n, unique=True)
    spans = [{f"s{i}": tuple(sorted(draw(some))) for i in range(draw(st.integers(1, 3)))} for _ in "ab"]
    batch = Batch.of([encoded(n, (n - 1,), own, (0,), name) for name, own in zip("ab", spans, strict=True)])
    groups, share = draw(st.sampled_from([(1, 1), (2, 2), (3, 1)]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    weights = torch.rand(2, groups * share, 2, n, generator=generator, dtype=torch.float64)
    return (
        SpanParts.of(batch),
        weights,
        torch.randn(2, groups, n, 5, generator=generator, dtype=torch.float64),
    )


@given(divided())
def test_weights_times_values_are_summed_over_the_tokens_of_each_span(case: Any) -> None:
    parts, weights, values = case
    found = parts.summed(weights, values, slice(None))
    share = weights.shape[1] // values.shape[1]
    for prompt, names in enumerate(parts.names):
        for index in range(len(names)):
            keys = parts.members[prompt, index].nonzero()[:, 0].tolist()
            for head in range(weights.shape[1]):
                truth = sum(
                    (
                        weights[prompt, head, :, key, None] * values[prompt, head // share, key]
                        for key in keys
                    ),
                    start=torch.zeros(2, 5, dtype=torch.float64),
                )
                torch.testing.assert_close(found[prompt, head, :, index], truth)
    alone = parts.summed(weights[1:], values[1:], slice(1, 2))
    torch.testing.assert_close(alone, found[1:])


def test_sinks_are_in_no_other_span_and_tokens_in_none_are_the_rest() -> None:
    parts = SpanParts.of(Batch.of([encoded(6, (5,), {"a": (0, 1, 2), "b": (4,)}, (0,))]))
    assert parts.names == [["<sink>", "a", "b", "<rest>"]]
    assert [row.nonzero()[:, 0].tolist() for row in parts.members[0]] == [[0], [1, 2], [4], [3, 5]]


def test_evenly_spread_weights_are_the_mean_over_all_shuffles_inside_distance_bins() -> None:
    """Position 7 sees 0, a sink, 4 to 6 away 1 to 3, then 4 and 5 in a bin, 6 and itself alone."""
    visible = torch.ones(1, 1, 8, dtype=torch.bool)
    sink = torch.zeros(1, 8, dtype=torch.bool)
    sink[0, 0] = True
    weights = torch.tensor([0.3, 0.1, 0.05, 0.15, 0.02, 0.08, 0.1, 0.2])
    found = DistanceBins(visible, sink, torch.tensor([[7]])).spread(weights.view(1, 1, 1, 8)).flatten()
    far = [weights[list(order)] for order in permutations((1, 2, 3))]
    near = [weights[list(order)] for order in permutations((4, 5))]
    truth = torch.cat([weights[:1], torch.stack(far).mean(0), torch.stack(near).mean(0), weights[6:]])
    torch.testing.assert_close(found, truth)
    hidden = visible.clone()
    hidden[0, 0, 1] = False
    less = DistanceBins(hidden, sink, torch.tensor([[7]])).spread(weights.view(1, 1, 1, 8)).flatten()
    assert float(less[1]) == 0 and float(less[2]) == pytest.approx(0.1)


def test_reductions_by_hand() -> None:
    cells = np.array([[[1.0, -2.0], [0.5, 0.0]], [[-3.0, 0.0], [4.0, 0.0]]])[None, None]  # layers heads spans
    seen = np.array([[[True, True], [True, False]]])
    found = {name: values[0, 0].tolist() for name, values in reduced(cells, seen).items()}
    assert found["dla_centred"] == [2.5, -2.0]
    assert found["promoted"] == [5.5, 0.0] and found["opposed"] == [-3.0, -2.0]
    assert found["handover_layer"][0] == 0 and np.isnan(found["handover_layer"][1])
    assert (found["top_layer"][0], found["top_head"][0], found["top_dla"][0]) == (1, 1, 4.0)
    assert (found["low_layer"][0], found["low_head"][0], found["low_dla"][0]) == (1, 0, -3.0)
    # an unseen layer's cells are absent, not 0: the largest of the second span is the other head's 0
    assert (found["top_layer"][1], found["top_head"][1], found["top_dla"][1]) == (0, 1, 0.0)
    nowhere = reduced(cells, np.zeros_like(seen))
    assert all(np.isnan(values).all() for values in nowhere.values())


def test_cells_are_those_of_hugging_faces_own_states(llama: Any, llama_directory: Path) -> None:
    """Weights, values and directions from transformers alone, key by key."""
    run = elimtool.trace(llama, TEXT, targets=[" is"], options=replace(HEADS, sinks="none"))
    one = llama.encode(Prompt(text=TEXT, targets=(" is",)), sinks="none")
    plain = load_hugging_face("llama", llama_directory, "float32", False)
    with torch.inference_mode():
        seen: list[torch.Tensor] = []
        hook = plain.model.norm.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        out = plain(input_ids=torch.tensor([one.token_ids]), output_attentions=True, use_cache=True)
        hook.remove()
        last = seen[0][0, -1]
        norm = plain.model.norm
        scale = (last.square().mean() + norm.variance_epsilon).rsqrt()
        toward = plain.lm_head.weight[one.targets[0].token_id] * norm.weight * scale
    table = run.table("sources").set_index(["layer", "head", "span"])["dla"]
    assert len(table) == 4 * 4 * len(one.token_ids)
    for layer, block in enumerate(plain.model.layers):
        values = out.past_key_values.layers[layer].values[0]
        back = (toward @ block.self_attn.o_proj.weight.detach()).view(4, -1)
        for head in range(4):
            carried = values[head // (4 // len(values))]
            truth = out.attentions[layer][0, head, -1] * (carried @ back[head])
            found = [table[layer, head, span.name] for span in one.spans]
            np.testing.assert_allclose(found, truth.detach(), atol=1e-5)


def test_spans_sum_to_heads_and_to_the_logit(tiny: Any) -> None:
    run = elimtool.trace(tiny, TEXT, targets=[" is", " of"], options=HEADS)
    sums_agree(run)


def sums_agree(run: Any) -> None:
    """Cells sum to heads' shares, and spans, embedding, MLPs and constants to the logit."""
    components = run.table("components")
    heads = components[components["kind"] == "head"].set_index(["position", "target", "layer", "head"])
    for column in ("dla", "dla_centred"):
        cells = run.table("sources").groupby(["position", "target", "layer", "head"])[column].sum()
        np.testing.assert_allclose(cells, heads[column].reindex(cells.index), atol=1e-4)
        of_spans = run.table("sources").groupby(KEY)[column].sum()
        spans = run.table("source_spans").set_index(KEY)[column]
        np.testing.assert_allclose(of_spans, spans.reindex(of_spans.index), atol=1e-5)
        total = run.table("source_spans").groupby(["position", "target"])[column].sum()
        truth = components.groupby(["position", "target"])[column].sum()
        np.testing.assert_allclose(total, truth.reindex(total.index), atol=1e-3)
    spans = run.table("source_spans").dropna(subset="promoted")
    np.testing.assert_allclose(spans["promoted"] + spans["opposed"], spans["dla_centred"], atol=1e-5)


def test_target_and_foil_are_antisymmetric(llama: Any) -> None:
    there = elimtool.trace(llama, TEXT, targets=[" of"], foils=[" is"], options=HEADS)
    back = elimtool.trace(llama, TEXT, targets=[" is"], foils=[" of"], options=HEADS)
    one, other = (run.table("contrast_sources").set_index("span") for run in (there, back))
    np.testing.assert_allclose(one["dla_difference"], -other["dla_difference"], atol=1e-5)
    np.testing.assert_allclose(one["promoted"], -other["opposed"], atol=1e-5)
    np.testing.assert_allclose(one["expected"], -other["expected"], atol=1e-5)
    assert (one["top_layer"].dropna() == other["low_layer"].dropna()).all()
    both = elimtool.trace(llama, TEXT, targets=[" of", " is"], options=HEADS).table("source_spans")
    wide = both.pivot(index="span", columns="target", values="dla_centred")
    np.testing.assert_allclose(
        (wide[" of"] - wide[" is"]).reindex(one.index), one["dla_difference"], atol=1e-5
    )


def test_a_repeated_token_gives_cells_in_proportion_to_the_weights(llama: Any) -> None:
    options = replace(HEADS, sinks="none", target_space="exact")
    run = elimtool.trace(llama, "a" * 9, targets=["b"], options=options)
    assert len(set(run.table("prompts")["tokens"][0])) == 1
    cells = run.table("sources").set_index(["layer", "head", "span"])["dla"]
    mass = run.table("attention_heads").set_index(["layer", "head", "span"])["mass"]
    ratio = (cells / mass.reindex(cells.index)).unstack("span").dropna(axis=1)
    assert ratio.shape[1] == len(run.table("prompts")["tokens"][0])
    np.testing.assert_allclose(ratio, ratio.to_numpy()[:, :1].repeat(ratio.shape[1], 1), rtol=1e-3, atol=1e-5)


SPANS = (SpanRequest("country", "France"), SpanRequest("end", "eliminated"))


def together(model: Any, position: str = "last") -> pd.DataFrame:
    prompts = [
        Prompt(text=TEXT, id="long", targets=(" is",), spans=SPANS),
        Prompt(text="A token of", id="short"),
    ]
    options = replace(
        HEADS, position=position, batch_size=2, tables=("source_spans", "sources", "components")
    )
    return elimtool.trace(model, prompts, options=options).table("source_spans")


@given(st.data(), st.integers(0, 12))
def test_blocks_of_rows_are_the_rows_in_their_order(data: st.DataObject, most: int) -> None:
    rows = []
    for prompt in range(data.draw(st.integers(1, 8))):
        start, length = data.draw(st.tuples(st.integers(0, 1), st.integers(0, 3)))
        rows += [(prompt, probe) for probe in range(start, start + length)]
    assume(rows)
    prompt, probe = np.array(rows).T
    found = list(sources.blocks(Rows.of(prompt, probe, torch.device("cpu")), most))
    asked = [[(i, j) for i in range(*a.indices(9)) for j in range(*b.indices(9))] for a, b in found]
    assert [row for some in asked for row in some] == rows
    assert all(len(some) <= most or a.stop - a.start == 1 for some, (a, _) in zip(asked, found, strict=True))


def test_batched_equals_single_and_computed_again_equals_held(
    llama: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = together(llama, "all")
    last = together(llama)
    alone = elimtool.trace(
        llama, Prompt(text=TEXT, id="long", targets=(" is",), spans=SPANS), options=HEADS
    ).table("source_spans")
    monkeypatch.setattr(sources, "HELD_NUMBERS", 0)
    again = together(llama, "all")
    numbers = ["dla", "dla_centred", "expected", "promoted", "opposed", "top_dla", "low_dla"]
    for one, other in (
        (again, every),
        (last[last["prompt_id"] == "long"], alone),
        (every[(every["prompt_id"] == "long") & (every["position"] == every["position"].max())], alone),
    ):
        assert one["span"].tolist() == other["span"].tolist()
        np.testing.assert_allclose(one[numbers], other[numbers], atol=1e-5)
        assert one["top_layer"].tolist() == other["top_layer"].tolist()


def test_spans_that_the_query_does_not_see_are_null_and_add_nothing(llama: Any) -> None:
    every = together(llama, "all")
    early = every[(every["prompt_id"] == "long") & (every["position"] == 1) & (every["span"] == "end")]
    assert len(early) and early["dla"].isna().all() and early["top_layer"].isna().all()
    assert early["undecomposed"].isna().all()


def test_overlapping_spans_each_have_the_sum_of_their_tokens(llama: Any) -> None:
    spans = (SpanRequest("wide", "capital of France"), SpanRequest("narrow", "France"))
    named = elimtool.trace(llama, Prompt(text=TEXT, targets=(" is",), spans=spans), options=HEADS)
    single = elimtool.trace(llama, Prompt(text=TEXT, targets=(" is",)), options=HEADS)
    each = single.table("source_spans").set_index("span")["dla"]
    found = named.table("source_spans").set_index("span")["dla"]
    one = llama.encode(Prompt(text=TEXT, spans=spans))
    for span in one.spans:
        if span.name in ("wide", "narrow"):
            parts = [each[f"{index}:{one.tokens[index]}"] for index in span.tokens]
            assert found[span.name] == pytest.approx(sum(parts), abs=1e-5)


def test_only_its_own_name_or_heads_fill_the_large_table(tiny: Any) -> None:
    assert "sources" not in elimtool.trace(tiny, TEXT).tables
    assert "source_spans" in elimtool.trace(tiny, TEXT).tables
    named = elimtool.trace(tiny, TEXT, options=TraceOptions(tables=("sources",)))
    assert len(named.table("sources")) and "source_spans" not in named.tables
    everywhere = elimtool.trace(tiny, TEXT, options=TraceOptions(position="all"))
    assert "source_spans" not in everywhere.tables
