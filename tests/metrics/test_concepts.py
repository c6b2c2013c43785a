"""Concepts of a small model against its own distributions, layer by layer and stage by stage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import elimtool
from elimtool.engine.concepts import word_tokens
from elimtool.errors import ElimError
from elimtool.metrics.concepts import CONTROLS, concept

PROMPTS = ["The capital of France is", "A token of the text"]


def test_a_concept_is_alive_where_one_of_its_tokens_is(llama: Any) -> None:
    options = elimtool.TraceOptions(
        samplers=("top_k=9,min_p=0.2", "top_k=1"), lens="raw", concepts=("words= the, France,of",)
    )
    run = elimtool.trace(llama, PROMPTS, options=options)
    rows = run.table("concepts")
    assert rows["control"].isna().all() and set(rows["concept"]) == {"words"}
    first = list(word_tokens(llama, ("the", "France", "of")))
    assert set(rows["n_tokens"]) == {len(first)}
    for prompt in run.arrow("prompts").to_pylist():
        mine = rows[rows["prompt_id"] == prompt["prompt_id"]]
        with torch.inference_mode():
            logits = llama.hf(torch.tensor([prompt["token_ids"]])).logits[0, -1].double()
        probs = logits.softmax(-1)
        last = mine[mine["layer"] == llama.n_layers - 1].iloc[0]
        assert last["mass"] == pytest.approx(float(probs[first].sum()), abs=1e-5)
        order = probs.argsort(descending=True)
        inside = order[: int((probs[order].cumsum(0) < 0.9).sum()) + 1].tolist()
        assert last["alive"] == bool(set(inside) & set(first))
        assert mine["layer"].dropna().tolist() == list(range(-1, llama.n_layers))
        kept = set(order[:9].tolist()) & set((probs >= 0.2 * probs.max()).nonzero()[:, 0].tolist())
        chain = mine[mine["chain"] == "top_k=9,min_p=0.2"]
        assert chain["stage"].tolist() == ["top_k", "min_p"]
        assert chain["alive"].tolist() == [
            bool(set(order[:9].tolist()) & set(first)),
            bool(kept & set(first)),
        ]


def test_control_sets_are_as_frequent_and_share_no_token() -> None:
    prior = torch.tensor(np.log(np.random.default_rng(0).dirichlet(np.ones(400))))
    found = concept("words", (5, 9), prior)
    assert len(found.controls) == CONTROLS
    tokens = [token for one in found.controls for token in one]
    assert len(set(tokens)) == 2 * CONTROLS and not {5, 9} & set(tokens)
    for place, token in enumerate((5, 9)):
        gaps = [abs(float(prior[one[place]] - prior[token])) for one in found.controls]
        assert np.mean(gaps) < float((prior - prior[token]).abs().mean()) / 2
    assert concept("words", (5, 9), None).controls == ()


@pytest.mark.parametrize("concepts", [("snow",), ("=a",), ("a=",), ("a=b", "a=c")])
def test_a_concept_needs_a_name_and_words(concepts: tuple[str, ...]) -> None:
    with pytest.raises(ElimError, match="`concepts` must be different names with words"):
        elimtool.TraceOptions(concepts=concepts)
