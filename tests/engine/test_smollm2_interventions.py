"""Interventions on the default model: against Hugging Face by hand, and what they show about Paris."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import elimtool
from elimtool import Ablate, Knockout, Scale, TraceOptions
from elimtool.model.interventions import Intervention
from elimtool.model.loading import load_hugging_face

pytestmark = pytest.mark.smollm2

CAPITAL = "The capital of France is"


def effect(model: Any, *interventions: Intervention) -> Any:
    options = TraceOptions(interventions=interventions, samplers=(), lens="raw", tables=("effects",))
    return elimtool.trace(model, CAPITAL, targets=["Paris"], options=options).table("effects").iloc[0]


def test_late_attention_to_france_carries_paris_and_early_does_not(smollm2: Any) -> None:
    """metrics.md, finding 5: 0.773 becomes 0.744 without layers 0 to 9, and 0.079 without 20 to 29."""
    early, late = effect(smollm2, Knockout("France", (0, 9))), effect(smollm2, Knockout("France", (20, 29)))
    assert early["prob_before"] == pytest.approx(0.7725, abs=5e-4)
    assert early["prob_after"] == pytest.approx(0.744, abs=1e-3)
    assert late["prob_after"] == pytest.approx(0.079, abs=1e-3)
    assert (early["outcome_after"], late["outcome_after"]) == ("survived", "outranked")


@pytest.mark.slow
def test_they_equal_hugging_face_by_hand(smollm2: Any) -> None:
    plain = load_hugging_face("smollm2", smollm2.directory, "float32", False)
    one = smollm2.encode(elimtool.Prompt(text=CAPITAL, targets=("Paris",)))
    ids, paris = torch.tensor([one.token_ids]), one.targets[0].token_id

    def by_hand(module: Any = None, hook: Callable[..., Any] | None = None, **options: Any) -> float:
        handle = None if module is None else module.register_forward_pre_hook(hook)
        with torch.inference_mode():
            logits = plain(input_ids=ids, use_cache=False, **options).logits[0, -1]
        if handle is not None:
            handle.remove()
        return float(logits.softmax(-1)[paris])

    def scaled(_module: Any, args: Any, factor: float) -> Any:
        x = args[0].clone()
        x[:, 1:, 4 * 64 : 5 * 64] *= factor
        return (x,)

    out = plain.model.layers[23].self_attn.o_proj
    found = effect(smollm2, Ablate("23.4", "zero"))["prob_after"]
    assert found == pytest.approx(by_hand(out, lambda m, a: scaled(m, a, 0.0)), abs=1e-5)
    found = effect(smollm2, Scale("23.4", 2.5))["prob_after"]
    assert found == pytest.approx(by_hand(out, lambda m, a: scaled(m, a, 2.5)), abs=1e-5)
    hidden = torch.ones(5, 5, dtype=torch.bool).triu(1)
    hidden[4, 3] = True
    mask = torch.zeros(5, 5).masked_fill(hidden, torch.finfo(torch.float32).min)[None, None]
    found = effect(smollm2, Knockout("France"))["prob_after"]
    assert found == pytest.approx(by_hand(attention_mask=mask), abs=1e-5)
