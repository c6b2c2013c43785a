"""An error of a model's own code is a message; an error of elimtool's hooks inside it stays a defect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

import elimtool
from elimtool.errors import ElimError
from elimtool.model.decode import Decoder
from elimtool.model.gradients import InputGradients
from elimtool.model.partial import PartialPass
from elimtool.model.prefix import Prefix
from elimtool.model.view import NOBODY, Batch
from elimtool.prompts.prompt import Prompt


def test_a_family_that_fails_says_where(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.llama.modeling_llama import LlamaMLP

    def broken(*_arguments: object) -> object:
        raise ValueError("the kernel is not installed. More follows")

    monkeypatch.setattr(LlamaMLP, "forward", broken)
    with pytest.raises(ElimError, match=r"own code fails in test_own_code\.py, line") as caught:
        elimtool.trace(llama, "The capital of France is")
    assert "ValueError: the kernel is not installed" in caught.value.message
    assert "models verify" in caught.value.hint


IDS = (5, 6, 7)

PASSES: dict[str, Callable[[Any], object]] = {
    "gradients": lambda model: InputGradients(model, replace(NOBODY, token_ids=IDS, positions=(2,))),
    "kept keys": lambda model: Prefix(model, IDS),
    "writing": lambda model: Decoder(model).read(IDS),
    "from a layer on": lambda model: PartialPass(model).run(torch.tensor([IDS])),
    "readout": lambda model: model.readout(torch.zeros(1, model.width)),
}


@pytest.mark.parametrize("kind", sorted(PASSES))
def test_every_kind_of_pass_says_where(llama: Any, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import LlamaForCausalLM

    PASSES[kind](llama)

    def broken(*_arguments: object, **_named: object) -> object:
        raise ValueError("the kernel is not installed. More follows")

    monkeypatch.setattr(LlamaForCausalLM, "forward", broken)
    with pytest.raises(ElimError, match=r"own code fails in test_own_code\.py, line"):
        PASSES[kind](llama)


def test_an_observer_that_fails_is_not_blamed_on_the_family(llama: Any) -> None:
    batch = Batch.of([llama.encode(Prompt(text="The capital"))])

    def observe(view: object) -> None:
        raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        llama.stream(batch, (), observe)
