"""An error of a model's own code is a message; an error of elimtool's hooks inside it stays a defect."""

from __future__ import annotations

from typing import Any

import pytest

import elimtool
from elimtool.errors import ElimError
from elimtool.model.view import Batch
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


def test_an_observer_that_fails_is_not_blamed_on_the_family(llama: Any) -> None:
    batch = Batch.of([llama.encode(Prompt(text="The capital"))])

    def observe(view: object) -> None:
        raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        llama.stream(batch, (), observe)
