"""A patchscope: against hooks of transformers, and what must not change anything."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import elimtool
from elimtool import Prompt, TraceOptions
from elimtool.lenses.corpus import Document
from elimtool.lenses.evaluate import evaluate, with_space
from elimtool.lenses.patchscope import Patchscope, residuals_of
from elimtool.report.facts import Tables
from elimtool.report.figures.patchscope import patchscopes
from elimtool.report.screen import Screen
from elimtool.report.trace.patchscope import patchscope_lines, spans_of, token_sentence

TEXT = "The capital of France is"


@pytest.fixture(scope="module")
def scope(llama: Any) -> Patchscope:
    return Patchscope(llama)


def plain(model: Any, ids: tuple[int, ...]) -> torch.Tensor:
    with torch.inference_mode():
        return model.hf(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].float().log_softmax(-1)


def test_the_prompt_as_it_is_and_a_patch_with_itself_are_the_plain_run(llama: Any, scope: Patchscope) -> None:
    own = residuals_of(llama, scope.ids, [scope.slot])[:, 0]
    puts = [None, *enumerate(own, start=-1)]
    found = scope.after(puts)
    torch.testing.assert_close(found[0], plain(llama, scope.ids), atol=1e-5, rtol=1e-5)
    for row in found[1:]:
        torch.testing.assert_close(row, found[0], atol=1e-5, rtol=1e-5)
    last = residuals_of(llama, scope.ids, [len(scope.ids) - 1])[
        -1
    ]  # alone too: other batches round otherwise
    assert torch.equal(scope.after([None]), llama.readout(last).log_softmax(-1))


def test_a_patch_is_what_a_hook_of_transformers_puts_in(llama: Any, scope: Patchscope) -> None:
    ids = llama.encode(Prompt(text=TEXT)).token_ids
    residuals = residuals_of(llama, ids, [2, 4])
    with torch.inference_mode():
        states = llama.hf(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
    for layer in range(-1, llama.n_layers - 1):
        torch.testing.assert_close(residuals[layer + 1], states[layer + 1][0, [2, 4]], atol=1e-5, rtol=1e-5)
    found = scope.after([(layer, residuals[layer + 1, 1]) for layer in range(llama.n_layers)])
    for layer in range(llama.n_layers):

        def put(_module: Any, _args: Any, out: Any, layer: int = layer) -> Any:
            hidden = (out[0] if isinstance(out, tuple) else out).clone()
            hidden[0, scope.slot] = residuals[layer + 1, 1]
            return (hidden, *out[1:]) if isinstance(out, tuple) else hidden

        block = llama.hf.model.layers[layer]
        with block.register_forward_hook(put):
            truth = plain(llama, scope.ids)
        torch.testing.assert_close(found[layer], truth, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(found[0], plain(llama, scope.ids), atol=1e-3)


def test_what_is_written_goes_on_under_the_patch(llama: Any, scope: Patchscope) -> None:
    own = residuals_of(llama, llama.encode(Prompt(text=TEXT)).token_ids, [1])[:, 0]
    puts = [(0, own[1]), None]
    first = scope.after(puts)
    written = scope.greedy(puts, first, 3)
    ids = [(int(row.argmax()),) for row in first]
    for _ in range(2):
        then = torch.cat([scope.after([put], [one]) for put, one in zip(puts, ids, strict=True)])
        ids = [(*one, int(row.argmax())) for one, row in zip(ids, then, strict=True)]
    assert written == ["".join(llama.tokenizer.texts(one)) for one in ids]


@pytest.fixture(scope="module")
def run(llama: Any) -> Any:
    options = TraceOptions(patchscope=True, lens="raw", tables=("top_tokens",), position="0,-1")
    return elimtool.trace(llama, TEXT, targets=("e",), options=options)


def test_a_trace_has_a_row_for_each_layer_and_token(llama: Any, run: Any, scope: Patchscope) -> None:
    rows = run.table("patchscope")
    assert rows.groupby(["prompt_id", "position", "token_id"]).size().unique().tolist() == [
        llama.n_layers + 1
    ]
    assert rows.groupby(["prompt_id", "token_id"])["rank_unpatched"].nunique().max() == 1
    unpatched = scope.after([None])[0]
    one = rows.iloc[0]
    assert one["rank_unpatched"] == int((unpatched > unpatched[one["token_id"]]).sum()) + 1
    ids = llama.encode(Prompt(text=TEXT)).token_ids
    found = scope.after([(1, residuals_of(llama, ids, [len(ids) - 1])[2, 0])])[0]
    last = rows[
        (rows["prompt_id"] == one["prompt_id"]) & (rows["position"] == len(ids) - 1) & (rows["layer"] == 1)
    ]
    for row in last.itertuples():
        assert row.rank == int((found > found[row.token_id]).sum()) + 1
        assert row.prob == pytest.approx(float(found[row.token_id].exp()), rel=1e-3)
    assert set(rows["is_source"]) == {True, False}


def test_the_story_and_the_page_name_the_control(run: Any) -> None:
    tables = Tables(run)
    prompt = run.prompts.iloc[0].to_dict()
    told = " ".join(line.plain for line in patchscope_lines(tables, prompt, Screen(80)))
    assert "with other text)" in told and "Written by layer:" in told
    lines, listing = patchscopes(tables, prompt)
    assert [line.dashed for line in lines.lines] == [False, True] * (len(lines.lines) // 2)  # type: ignore[attr-defined]
    assert len(listing.rows) == len(lines.layers)  # type: ignore[attr-defined]
    assert spans_of([-1, 0, 1, 4, 6, 7]) == "-1 to 1, 4, 6 to 7"
    row = {"token": " a", "is_source": True, "rank": 1, "layer": 2, "rank_unpatched": 1, "rank_control": 3.0}
    assert "and so it is without" in token_sentence([row], Screen(80))


def test_lenses_and_a_patchscope_are_read_on_the_same_text(llama: Any, scope: Patchscope) -> None:
    documents = (Document("a", "prose", 1, "The capital of France is Paris. " * 8),)
    found = evaluate(llama, [scope], documents, samples=6, window=40).layers
    assert {one.lens for one in found} == {"raw", "patchscope"}
    assert all(0 <= one.own_token <= 1 for one in found)
    spaced = with_space(llama)
    texts = llama.tokenizer.texts(range(llama.vocab))
    assert any(texts[spaced[token]] == f" {text}" for token, text in enumerate(texts))
    assert all(texts[spaced[i]] in (f" {text}", text) for i, text in enumerate(texts))
