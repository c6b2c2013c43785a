"""Gradient methods: against finite differences, and complete."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import elimtool
from elimtool import AttributeOptions, Prompt
from elimtool.model.gradients import InputGradients, target_value

PROMPT = "The capital of France is"


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "granite", "bloom"])
def test_gradients_are_those_of_finite_differences(family: str, tmp_path: Any, tokenizer: Any) -> None:
    from tests.families import save

    model = elimtool.load_model(str(save(family, tmp_path, tokenizer)), dtype="float64")
    one = model.encode(Prompt(text=PROMPT))
    runs = InputGradients(model, one)
    value = target_value(7, [9])
    direction = torch.randn(runs.inputs.shape, generator=torch.Generator().manual_seed(0)).to(runs.inputs)
    slope = float((runs.at(runs.inputs[None], value)[0] * direction).sum())
    step = 1e-3  # norms compute in float32
    ends = torch.stack([runs.inputs + step * direction, runs.inputs - step * direction])
    high, low = runs.values(ends, value).tolist()
    assert slope == pytest.approx((high - low) / (2 * step), rel=1e-2, abs=1e-3)
    with torch.no_grad():
        own = model.hf(torch.tensor([one.token_ids])).logits[0, -1]
    assert float(runs.values(runs.inputs[None], value)[0]) == pytest.approx(float(own[7] - own[9]), abs=1e-5)


def test_the_neutral_input_is_the_mean_embedding(llama: Any) -> None:
    one = llama.encode(Prompt(text=PROMPT))
    neutral = InputGradients(llama, one).neutral()
    weight = dict(llama.hf.named_parameters())
    (embedding,) = [value for name, value in weight.items() if "embed_tokens" in name]
    assert np.allclose(neutral[2].numpy(), embedding.mean(0).detach().numpy(), atol=1e-6)


def test_integrated_gradients_add_up_and_leave_the_sink_alone(llama: Any) -> None:
    options = AttributeOptions(methods=("integrated-gradients",))
    run = elimtool.attribute(llama, PROMPT, targets=["Paris"], options=options)
    facts = run.table("attribution_methods").iloc[0]
    one = llama.encode(Prompt(text=PROMPT, targets=("Paris",)))
    runs = InputGradients(llama, one)
    value = target_value(one.targets[0].token_id, [])
    base = runs.inputs.clone()
    base[1:-1] = runs.neutral()[1:-1]
    prompt, baseline = runs.values(torch.stack([runs.inputs, base]), value).tolist()
    total = run.table("attributions")["score"].sum()
    assert facts["value"] == pytest.approx(prompt, abs=1e-5)
    assert total == pytest.approx(prompt - baseline, rel=0.0101, abs=0.002)
    assert facts["completeness_error"] == pytest.approx(abs(total / (prompt - baseline) - 1), abs=1e-4)
    assert facts["samples"] == facts["n_backward_passes"]


def test_too_few_steps_leave_an_error_that_is_told(llama: Any) -> None:
    text = "The capital of France is Paris. The token is a text. The capital of Spain is"
    few, many = (
        elimtool.attribute(
            llama,
            text,
            targets=["Madrid"],
            options=AttributeOptions(methods=("integrated-gradients",), steps=steps, units="tokens"),
        )
        .table("attribution_methods")
        .iloc[0]
        for steps in (24, 512)
    )
    assert few["samples"] == 24
    assert many["completeness_error"] <= 0.01 <= few["completeness_error"]


@pytest.mark.smollm2
def test_integrated_gradients_are_complete_on_smollm2(smollm2: Any) -> None:
    options = AttributeOptions(methods=("integrated-gradients",))
    run = elimtool.attribute(smollm2, PROMPT, targets=["Paris"], options=options)
    facts = run.table("attribution_methods").iloc[0]
    assert facts["completeness_error"] <= 0.01
    assert facts["samples"] < 200
