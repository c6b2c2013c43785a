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
from elimtool.model.decomposition import NOT_LINEAR
from elimtool.model.interventions import Ablate
from elimtool.model.loading import load_model
from elimtool.model.placement import weight_of
from elimtool.model.verify import verify
from elimtool.model.view import Batch
from elimtool.prompts.prompt import Prompt
from elimtool.report.remarks import BY_PASS, run_notes
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


@pytest.fixture(scope="module")
def wide_directory(tmp_path_factory: Any, tokenizer: Any) -> Path:
    """A llama whose rows are whole blocks of 64 weights; calmer ones, as attention in 1e-5 is for such."""
    pytest.importorskip("bitsandbytes", reason="bitsandbytes, which quantises, is not installed")
    sizes = {"hidden_size": 128, "intermediate_size": 256, "head_dim": 32}
    directory = save("llama", tmp_path_factory.mktemp("wide"), tokenizer, **sizes)
    from safetensors.torch import load_file, save_file

    path = directory / "model.safetensors"
    calm = {name: one * 0.3 if one.ndim > 1 else one for name, one in load_file(path).items()}
    save_file(calm, path, metadata={"format": "pt"})
    return directory


@pytest.mark.parametrize("kind", ["8bit", "4bit"])
def test_quantised_weights_are_those_of_transformers(kind: str, wide_directory: Path) -> None:
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    model = load_model(str(wide_directory), device="cpu", quantize=kind)
    config = BitsAndBytesConfig(
        load_in_8bit=kind == "8bit",
        load_in_4bit=kind == "4bit",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.float32,
    )
    plain, dense = (
        AutoModelForCausalLM.from_pretrained(
            wide_directory,
            quantization_config=config,
            device_map={"": "cpu"},
            dtype=torch.float32,
            attn_implementation="eager",
        ).eval()
        for _ in range(2)
    )
    float32 = load_model(str(wide_directory), device="cpu")
    batch = Batch.of([model.encode(Prompt(text=TEXTS[0]), position="all")])
    last: list[Any] = []
    model.stream(batch, (), lambda view: last.append(view.residual[0]))
    ours = model.readout(last[-1])
    with torch.inference_mode():
        # transformers computes 4 bits in bfloat16 on some processors: its own weights in float32 are exact
        near = plain(batch.ids).logits[0]
        exact = near if kind == "8bit" else dense.dequantize()(batch.ids).logits[0]
        whole = float32.hf(batch.ids).logits[0]
    # 8 bits: what a layer reads is rounded to 1/127 of its row's largest, so a last bit may step over
    torch.testing.assert_close(ours, exact, rtol=0, atol=1e-2 if kind == "8bit" else 1e-4)
    assert (ours - near).abs().max() < (ours - whole).abs().max()
    assert all(one.passed for one in verify(model))


@pytest.mark.parametrize("kind", ["8bit", "4bit"])
def test_a_pass_leaves_quantised_weights_readable(kind: str, wide_directory: Path) -> None:
    model = load_model(str(wide_directory), device="cpu", quantize=kind)
    run = elimtool.trace(model, TEXTS[0], targets=[" of"], options=TraceOptions(lens="raw", heads=True))
    whole = load_model(str(wide_directory), device="cpu").hf.get_submodule("model.layers.2.mlp.down_proj")
    layer = model.hf.get_submodule("model.layers.2.mlp.down_proj")
    layer, whole = (getattr(one, "original_component", one) for one in (layer, whole))
    assert type(layer).__name__ == {"8bit": "Linear8bitLt", "4bit": "Linear4bit"}[kind]
    stored = weight_of(layer)
    assert stored is not None
    step = float(whole.weight.abs().max()) / {"8bit": 100, "4bit": 6}[kind]
    assert float((stored.float() - whole.weight).abs().max()) < step
    if kind == "4bit":
        assert bool(run.table("components")["dla"].notna().all())
    else:  # layers that round what they read
        assert set(run.table("mechanisms")["undecomposed"].dropna()) == {NOT_LINEAR}
    assert run_notes(run) == ([BY_PASS] if kind == "8bit" else [])


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
