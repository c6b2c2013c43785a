"""Weights spread over a GPU, the processor and the disk: the tables of one processor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import elimtool
from elimtool import TraceOptions
from elimtool.model.bridging import bridge_of
from elimtool.model.checkpoint import load_hugging_face, load_tokenizer
from elimtool.model.interventions import Ablate, Knockout
from elimtool.model.loading import load_model
from elimtool.model.model import Model
from elimtool.model.verify import verify
from tests.engine.test_engine import TEXTS, assert_same
from tests.families import save
from tests.model.test_placement import GPT2, LLAMA

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

INTERVENED = (Ablate("1.2", how="zero"), Ablate("mlp.3", how="zero"), Knockout.parse("capital"))


@pytest.fixture(scope="module", params=["llama", "gpt2", "gemma2"])
def directory(request: pytest.FixtureRequest, tmp_path_factory: Any, tokenizer: Any) -> Path:
    return save(request.param, tmp_path_factory.mktemp(request.param), tokenizer)


def _same(model: Model, directory: Path, texts: list[str] = TEXTS, **options: Any) -> None:
    asked = TraceOptions(lens="raw", heads=True, position="all", **options)
    plain = load_model(str(directory), device="cpu")
    here, there = (
        elimtool.trace(one, texts, targets=[" of"], foils=[" and"], options=asked) for one in (plain, model)
    )
    for name in here.tables:
        if name not in ("prompts", "top_tokens"):
            assert_same(there.table(name), here.table(name), name)


def test_offload_from_a_gpu(directory: Path, tmp_path: Path) -> None:
    gpt2 = "gpt2" in directory.name
    stack, around = ("transformer.h", GPT2) if gpt2 else ("model.layers", LLAMA)
    spread: dict[str, Any] = dict.fromkeys(around, 0)
    for layer in range(4):
        spread[f"{stack}.{layer}"] = (0, "cpu", "disk", 0)[layer]
    path = tmp_path / "map.json"
    path.write_text(json.dumps(spread))
    model = load_model(str(directory), device_map=str(path))
    assert model.device.type == "cuda"
    _same(model, directory)
    assert all(one.passed for one in verify(model))


@pytest.mark.parametrize("interventions", [(), INTERVENED], ids=["plain", "intervened"])
def test_layers_that_run_on_two_devices(directory: Path, interventions: Any) -> None:
    """As on two GPUs: layer by layer on the processor and on the GPU, the first and the last on the GPU."""
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module, attach_execution_device_hook

    hf = load_hugging_face("spread", directory, "float32", False)
    parts = {name: "cuda:0" for name in (GPT2 if "gpt2" in directory.name else LLAMA)}
    stack = "transformer.h" if "gpt2" in directory.name else "model.layers"
    parts |= {f"{stack}.{layer}": ("cuda:0", "cpu")[layer % 2] for layer in range(4)}
    for name, device in parts.items():
        module = hf.get_submodule(name).to(device)
        add_hook_to_module(module, AlignDevicesHook(execution_device=device), append=True)
        attach_execution_device_hook(module, device)
    add_hook_to_module(hf, AlignDevicesHook(execution_device="cuda:0", io_same_device=True))
    hf.hf_device_map = parts
    tokenizer = load_tokenizer("spread", directory, False, None)
    model = Model(bridge=bridge_of("spread", hf), tokenizer=tokenizer, name="spread", directory=directory)
    _same(model, directory, TEXTS[: 1 if interventions else 4], interventions=interventions)
