"""Copy suppression: numbers by hand, and a trace against attention and outputs taken by plain hooks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import elimtool
from elimtool import Prompt, TraceOptions
from elimtool.metrics.copy_suppression import PREDICTED, Weights, opposition
from elimtool.model.rows import AttentionRows
from elimtool.model.view import Batch
from tests.engine.tables import tables

TEXT = "The capital of France is Paris. The capital of Spain is the"


def test_the_sum_over_counted_keys_of_minus_attention_times_effect() -> None:
    attention = torch.tensor([[[0.5, 0.25, 0.25], [0.0, 0.1, 0.9]]], dtype=torch.float64)
    written = torch.tensor([[[-2.0, 4.0, 100.0], [1.0, -3.0, 100.0]]], dtype=torch.float64)
    among = torch.tensor([[True, True, False]])
    # head 0: -(0.5 x -2 + 0.25 x 4) = 0; head 1: -(0 x 1 + 0.1 x -3) = 0.3
    assert opposition(attention, written, among)[0].tolist() == pytest.approx([0.0, 0.3])
    assert opposition(attention, written, ~among)[0].tolist() == pytest.approx([-25.0, -90.0])


def by_hand(directory: Path, ids: list[int]) -> dict[tuple[int, int], tuple[float, int]]:
    """Score and number of keys of each (layer, head) at the last position, one key at a time."""
    from transformers import AutoModelForCausalLM

    hf = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    inputs: dict[int, torch.Tensor] = {}
    before: dict[int, torch.Tensor] = {}
    final: list[torch.Tensor] = []
    for index, block in enumerate(hf.model.layers):
        block.self_attn.o_proj.register_forward_pre_hook(
            lambda _m, given, i=index: inputs.__setitem__(i, given[0][0, -1])
        )
        block.register_forward_pre_hook(lambda _m, given, i=index: before.__setitem__(i, given[0][0, -1]))
    hf.model.norm.register_forward_pre_hook(
        lambda _m, given: final.append(given[0].reshape(-1, given[0].shape[-1])[-1])
    )
    with torch.no_grad():
        attentions = hf(input_ids=torch.tensor([ids]), output_attentions=True).attentions
        norm, unembed = hf.model.norm, hf.lm_head.weight
        scale = 1 / (final[0].square().mean() + norm.variance_epsilon).sqrt()
        toward = (unembed - unembed.mean(0)) * norm.weight * scale
        found = {}
        for layer in range(len(hf.model.layers)):
            top = hf.lm_head(norm(before[layer])).topk(PREDICTED).indices.tolist()
            heads = attentions[layer].shape[1]
            size = len(inputs[layer]) // heads
            for head in range(heads):
                part = slice(head * size, (head + 1) * size)
                output = hf.model.layers[layer].self_attn.o_proj.weight[:, part] @ inputs[layer][part]
                each = [
                    -float(attentions[layer][0, head, -1, j]) * float(toward[token] @ output)
                    for j, token in enumerate(ids)
                    if token in top
                ]
                found[layer, head] = (float(np.mean(each)) if each else float("nan"), len(each))
    return found


def test_a_trace_gives_what_plain_hooks_give(llama: Any, llama_directory: Path) -> None:
    run = elimtool.trace(llama, TEXT, targets=[" of"], options=TraceOptions(lens="raw"))
    table = run.table("copy_suppression")
    expected = by_hand(llama_directory, run.prompts["token_ids"][0].tolist())
    assert len(table) == len(expected)
    assert table["n_predicted"].max() > 0
    for row in table.itertuples():
        score, count = expected[row.layer, row.head]
        assert row.n_predicted == count
        assert row.copy_suppression == pytest.approx(score, abs=1e-5, nan_ok=True)


def test_it_is_off_without_heads_and_alone_on_request(llama: Any) -> None:
    off = elimtool.trace(llama, TEXT, options=TraceOptions(heads=False))
    assert "copy_suppression" not in off.tables
    alone = elimtool.trace(llama, TEXT, options=TraceOptions(tables=("copy_suppression",)))
    assert set(alone.tables) == {"prompts", "copy_suppression"}


def test_weights_that_are_formed_again_are_the_same(llama: Any) -> None:
    options = TraceOptions(position="all", heads=True, tables=("copy_suppression",), lens="raw")
    texts = [TEXT, "A token of a token"]
    held = tables(llama, texts, options)["copy_suppression"]
    small = {
        "kept_weights": 0,
        "held_numbers": 7 * llama.width * 2,  # two keys of seven rows
        "readout_bytes": 7 * (llama.n_layers + 1) * llama.vocab * 4,  # seven rows
    }
    formed = tables(llama, texts, options, **small)["copy_suppression"]
    pd.testing.assert_frame_equal(formed, held, check_exact=False, rtol=0, atol=1e-6)


class Asked:
    """Attention rows that note which of them are formed."""

    def __init__(self, rows: AttentionRows) -> None:
        self.rows = rows
        self.seen: list[tuple[slice, slice]] = []

    def parts(self) -> Any:
        raise AssertionError("all rows are formed")

    def whole(self) -> Any:
        raise AssertionError("all rows are formed")

    def of(self, prompts: slice, probes: slice) -> torch.Tensor:
        self.seen.append((prompts, probes))
        return self.rows.of(prompts, probes)


def test_of_many_weights_only_the_rows_asked_for_are_formed(llama: Any) -> None:
    prompts = [llama.encode(Prompt(text=text), position="all") for text in (TEXT, "A token of a token")]
    batch, views = Batch.of(prompts), []
    llama.stream(batch, {"attention"}, views.append)
    rows = batch.rows.part(slice(-7, None))
    keys = torch.arange(3).expand(7, -1)
    for view in views[1:]:
        asked = Asked(view.rows)
        held = Weights.of(view, view.attention.numel())
        formed = Weights.of(replace(view, rows=asked), view.attention.numel() - 1)
        found = formed.at(rows, keys)
        torch.testing.assert_close(found, held.at(rows, keys), atol=1e-7, rtol=0)
        assert [one for one, _ in asked.seen] == [slice(row, row + 1) for row in set(rows.here[0].tolist())]
        assert sum(some.stop - some.start for _, some in asked.seen) == 7
