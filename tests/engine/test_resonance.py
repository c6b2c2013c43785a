"""Repetition: a token that cannot resonate, a sentence that does; nothing in elimtool is made for either."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import elimtool
from elimtool import TraceOptions
from elimtool.model.view import Batch, LayerView

SENTENCE = " The old man walked slowly to the harbour."
COPIES = 6


def residuals(model: Any, text: str) -> tuple[list[int], torch.Tensor]:
    """Token ids of a text, and the residuals of every layer at every position: [layers, positions, width]."""
    kept: list[torch.Tensor] = []

    def observe(view: LayerView) -> None:
        kept.append(view.residual[0].clone())

    encoded = model.encode(elimtool.Prompt(text=text), position="all")
    model.stream(Batch.of([encoded]), (), observe)
    return list(encoded.token_ids), torch.stack(kept)


def assert_equal_everywhere(layers: torch.Tensor) -> None:
    """Every position has the residual of the first, to a part in ten thousand of the largest channel."""
    for layer in layers:
        assert float((layer - layer[0]).abs().max()) < 1e-4 * float(layer.abs().max())


def test_one_token_repeated_gives_the_same_state_everywhere(llama: Any) -> None:
    """With rotary positions and no BOS, P(x | x^n) does not depend on n.

    All inputs are equal, so are all values, and attention's average of equal values is that value, whatever
    its weights: every residual is the same at all positions.
    """
    options = TraceOptions(position="all", target_space="exact")
    run = elimtool.trace(llama, "e" * 40, targets=["e"], options=options)
    assert run.manifest.bos == "none"
    assert len(set(run.prompts["token_ids"][0])) == 1
    by_layer = run.table("lens").groupby("layer")["logprob"]
    assert (by_layer.max() - by_layer.min()).max() < 1e-4
    assert_equal_everywhere(residuals(llama, "e" * 40)[1])


@pytest.mark.smollm2
def test_it_holds_in_smollm2(smollm2: Any) -> None:
    ids, layers = residuals(smollm2, " the" * 32)
    assert len(ids) == 32 and len(set(ids)) == 1
    assert_equal_everywhere(layers)
    probs = smollm2.readout(layers[-1]).softmax(-1)[:, ids[0]]
    assert float(probs[0]) == pytest.approx(0.00927, rel=0.02)
    np.testing.assert_allclose(probs, probs[0], rtol=2e-3)


@pytest.mark.smollm2
def test_a_repeated_sentence_resonates(smollm2: Any) -> None:
    """TP_n, the mean probability of the tokens of the n-th copy, grows (Xu et al. 2022, arXiv 2206.02369)."""
    unit = list(smollm2.tokenizer.encode(SENTENCE).ids)
    ids, layers = residuals(smollm2, SENTENCE * COPIES)
    assert ids == unit * COPIES
    probs = smollm2.readout(layers[-1, :-1]).softmax(-1)
    following = probs.gather(-1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()
    copies = [following[max(n * len(unit) - 1, 0) : (n + 1) * len(unit) - 1] for n in range(COPIES)]
    mean = [float(np.mean(copy)) for copy in copies]
    assert mean == sorted(mean)
    assert mean[0] < 0.2 and mean[1] > 0.4 and mean[-1] > 0.8
