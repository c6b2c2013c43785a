"""Types of numbers and devices: each that torch has, and one clear error for every other."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from elimtool.model.loading import load_model
from elimtool.model.placement import place
from elimtool.model.view import Batch
from elimtool.prompts.prompt import Prompt
from tests.conftest import byte_tokenizer
from tests.model.loads import refused


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_every_dtype_loads_and_runs(dtype: str, llama_directory: Path) -> None:
    model = load_model(str(llama_directory), dtype=dtype)
    assert model.dtype == getattr(torch, dtype)
    assert {parameter.dtype for parameter in model.hf.parameters()} == {model.dtype}
    seen: list[int] = []
    batch = Batch.of([model.encode(Prompt(text="The capital"))])
    model.stream(batch, (), lambda view: seen.append(view.layer))
    assert seen == [-1, 0, 1, 2, 3]


def test_auto_is_the_checkpoints_own_dtype(llama_directory: Path, tmp_path: Path) -> None:
    from tests.families import save

    directory = Path(shutil.copytree(llama_directory, tmp_path / "copy"))
    assert load_model(str(directory), dtype="auto").dtype == torch.float32
    save("llama", directory, byte_tokenizer(), dtype=torch.bfloat16)
    assert load_model(str(directory), dtype="auto").dtype == torch.bfloat16
    assert load_model(str(directory)).dtype == torch.float32


@pytest.mark.parametrize("dtype", ["", "Float32", "float31", "int8", "torch.float32"])
def test_a_dtype_that_is_none(dtype: str, llama_directory: Path) -> None:
    error = refused(llama_directory, dtype=dtype)
    assert error.message == f"`dtype` '{dtype}' is not valid"
    assert "bfloat16" in error.hint


@pytest.mark.parametrize(
    "device", ["", "CPU", "gpu", "tpu:0", "cuda:", "cuda:x", "cuda:-1", "cpu:0:1", "auto:0"]
)
def test_a_device_that_is_none(device: str, llama_directory: Path) -> None:
    error = refused(llama_directory, device=device)
    assert error.message == f"`device` '{device}' is not valid"
    assert "cuda" in error.hint


@pytest.mark.parametrize("device", ["cuda", "cuda:99"])
def test_a_device_that_is_not_there(
    device: str, llama_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: device == "cuda:99")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    error = refused(llama_directory, device=device)
    assert error.message == f"`device` {device}: there is no such device on this machine"


def test_apples_gpu_is_refused_and_left_out_of_maps(
    llama_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Apple's GPU has no float64" in refused(llama_directory, device="mps").message
    monkeypatch.setattr("accelerate.utils.get_max_memory", lambda: {"mps": 2**30})
    assert place(device_map="auto").options(quantised=False)["max_memory"] == {"cpu": 2**30}
    monkeypatch.undo()
    assert "max_memory" not in place(device_map="auto").options(quantised=False)


def test_a_device_that_fails_says_so(llama_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import PreTrainedModel

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("out of memory. Tried to allocate")

    monkeypatch.setattr(PreTrainedModel, "to", full)
    assert "cannot be moved to cpu: out of memory" in refused(llama_directory, device="cpu").message
