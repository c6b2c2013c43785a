"""Weights on several devices, offloaded and quantised: the tables of one device, and one clear error else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import elimtool
from elimtool import TraceOptions
from elimtool.model.interventions import Ablate
from elimtool.model.loading import load_model
from elimtool.model.verify import verify
from tests.engine.test_engine import assert_same
from tests.families import save
from tests.model.loads import refused

TEXTS = ["The capital of France is", "a", "The capital of Spain is Madrid, and a token is eliminated."]
LLAMA = ("model.embed_tokens", "model.rotary_emb", "model.norm", "lm_head")
GPT2 = ("transformer.wte", "transformer.wpe", "transformer.ln_f", "lm_head")
OFFLOADED = ["llama", "gpt2", "gemma2", "olmo2"]


@pytest.fixture(scope="module", params=OFFLOADED)
def directory(request: pytest.FixtureRequest, tmp_path_factory: Any, tokenizer: Any) -> Path:
    return save(request.param, tmp_path_factory.mktemp(request.param), tokenizer)


def _map(path: Path, content: Any) -> str:
    path.write_text(json.dumps(content))
    return str(path)


@pytest.mark.parametrize("spread", [{"": "disk"}, "alternating"])
def test_offloaded_weights_give_the_same_tables(directory: Path, spread: Any, tmp_path: Path) -> None:
    plain = load_model(str(directory), device="cpu")
    if spread == "alternating":
        gpt2 = "gpt2" in str(directory)
        stack, around = ("transformer.h", GPT2) if gpt2 else ("model.layers", LLAMA)
        spread = {
            **dict.fromkeys(around, "cpu"),
            **{f"{stack}.{n}": ("disk", "cpu")[n % 2] for n in range(4)},
        }
    model = load_model(str(directory), device_map=_map(tmp_path / "map.json", spread))
    assert any(parameter.device.type == "meta" for parameter in model.hf.parameters())
    options = TraceOptions(lens="raw", heads=True, position="all")
    here, there = (
        elimtool.trace(one, TEXTS, targets=[" of"], foils=[" and"], options=options) for one in (plain, model)
    )
    assert set(here.tables) == set(there.tables)
    assert len(there.table("components"))
    for name in here.tables:
        assert_same(there.table(name), here.table(name), name)
    stated = there.manifest.device_map
    assert stated and "disk" in stated.values()
    assert here.manifest.device_map is None
    assert all(one.passed for one in verify(model))


def test_interventions_and_attribution_work_on_offloaded_weights(
    llama_directory: Path, tmp_path: Path
) -> None:
    model = load_model(str(llama_directory), device_map=_map(tmp_path / "map.json", {"": "disk"}))
    options = TraceOptions(lens="raw", interventions=(Ablate("1.2", how="zero"), Ablate("mlp.2")))
    runs = [
        elimtool.trace(one, TEXTS, targets=[" of"], options=options)
        for one in (load_model(str(llama_directory), device="cpu"), model)
    ]
    for name in runs[0].tables:
        assert_same(runs[1].table(name), runs[0].table(name), name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "is not a JSON object"),
        ("{", "is not valid JSON"),
        ('{"": "gpu"}', "the device 'gpu' of '' is not valid"),
        ('{"": true}', "the device True of '' is not valid"),
        ('{"": "cpu", "lm_head": "disk"}', "stands for the whole model"),
        ('{"model.layers": "cpu"}', "does not give any device for"),
    ],
)
def test_maps_that_cannot_be_used(content: str, message: str, llama_directory: Path, tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    path.write_text(content)
    assert message in refused(llama_directory, device_map=str(path)).message


def test_a_map_of_no_name_and_no_file(llama_directory: Path) -> None:
    error = refused(llama_directory, device_map="balance")
    assert error.message == "`device_map` 'balance' is unknown, and there is no such file"
    assert "balanced" in error.hint


@pytest.mark.parametrize("given", [{"device_map": "auto"}, {"n_devices": 2}])
def test_a_map_and_a_device_exclude_each_other(given: dict[str, Any], llama_directory: Path) -> None:
    assert "exclude each other" in refused(llama_directory, device="cpu", **given).message


@pytest.mark.skipif(torch.cuda.device_count() > 1, reason="there are several GPUs")
@pytest.mark.parametrize("n", [0, 2, -1])
def test_more_devices_than_there_are(n: int, llama_directory: Path) -> None:
    assert f"`n_devices` {n}: this machine has" in refused(llama_directory, n_devices=n).message


def test_auto_on_one_device_is_that_device(llama_directory: Path) -> None:
    model = load_model(str(llama_directory), device_map="auto")
    assert elimtool.trace(model, "The capital").manifest.device_map is None


def test_a_quantisation_without_its_package(llama_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.utils.is_bitsandbytes_available", lambda: False)
    error = refused(llama_directory, quantize="4bit")
    assert error.message == "`quantize` needs the package bitsandbytes"
    assert "pip install bitsandbytes" in error.hint
    assert "8bit" in refused(llama_directory, quantize="8").hint


@pytest.mark.parametrize(
    ("stored", "package"),
    [
        ({"quant_method": "gptq", "bits": 4}, "optimum"),
        ({"quant_method": "awq", "bits": 4, "version": "gemm"}, "gptqmodel"),
        ({"quant_method": "compressed-tensors", "config_groups": {}}, "compressed-tensors"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
    ],
)
def test_quantised_checkpoints_say_what_they_need(
    stored: dict[str, Any], package: str, llama_directory: Path, tmp_path: Path
) -> None:
    directory = Path(shutil.copytree(llama_directory, tmp_path / "copy"))
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"quantization_config": stored}))
    error = refused(directory)
    assert f"its weights are quantised ({stored['quant_method']})" in error.message
    assert "pip install" in error.hint and package in error.hint
