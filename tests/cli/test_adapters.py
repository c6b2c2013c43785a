"""Adapters on the command line: traced, compared with their base, and named in what is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import elimtool as package
from tests.cli.conftest import Command

peft = pytest.importorskip("peft")


@pytest.fixture
def adapter(llama_directory: Path, tmp_path: Path) -> Path:
    import torch
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(llama_directory)
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "down_proj"])
    model = peft.get_peft_model(base, config)
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(tmp_path / "lora")
    return tmp_path / "lora"


def test_trace_and_verify_an_adapter(
    elimtool: Command, llama_directory: Path, adapter: Path, tmp_path: Path
) -> None:
    done = elimtool("trace", "The capital", "-m", adapter, "-t", "Paris", "-o", tmp_path / "one")
    assert done.code == 0, done.err
    assert "merged in float32" in " ".join(done.out.split())
    other = elimtool(
        "trace",
        "The capital",
        "-m",
        llama_directory,
        "--adapter",
        adapter,
        "-t",
        "Paris",
        "-o",
        tmp_path / "two",
    )
    assert other.code == 0, other.err
    one, two = (package.open_run(tmp_path / name) for name in ("one", "two"))
    assert one.table("survival").equals(two.table("survival"))
    assert one.manifest.adapters[0]["kind"] == "LORA"
    assert one.manifest.weights_sha256 == two.manifest.weights_sha256
    done = elimtool("models", "verify", adapter)
    assert done.code == 0, done.err + done.out


def test_compare_a_base_with_its_adapter(elimtool: Command, llama_directory: Path, adapter: Path) -> None:
    done = elimtool("compare", "-m", llama_directory, "-m", adapter, "--prompt", "The capital", "--json")
    assert done.code == 0, done.err
    notes = json.loads(done.out)["comparison"]["notes"]
    assert any(note.startswith(f"B is {adapter}, with {adapter} merged in float32") for note in notes), notes
    config = json.loads((adapter / "adapter_config.json").read_text()) | {
        "base_model_name_or_path": "no/where"
    }
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    pair = ("compare", "-m", llama_directory, "-m", adapter, "--prompt", "The capital")
    assert "--base" in elimtool(*pair).err
    assert elimtool(*pair, "--base", llama_directory).code == 0


def test_compare_and_check_load_models_as_trace_does(
    elimtool: Command, llama_directory: Path, adapter: Path, tmp_path: Path
) -> None:
    (tmp_path / "map.json").write_text('{"": "disk"}')
    (tmp_path / "prompts.jsonl").write_text(
        json.dumps({"id": "one", "prompt": "The capital", "targets": ["a"]})
    )
    (tmp_path / "checks.yaml").write_text(
        f"version: 1\nmodel: {llama_directory}\nprompts: prompts.jsonl\n"
        "checks:\n  - id: any\n    metric: final_rank\n    max: 300\n"
    )
    pair = ("compare", "-m", llama_directory, "--prompt", "The capital", "--prompt", "A", "--json")
    check = ("check", tmp_path / "checks.yaml", "-o")
    for number, how in enumerate((("--adapter", f"{adapter}@0.5"), ("--device-map", tmp_path / "map.json"))):
        two = elimtool(*pair, *how)
        assert two.code == 0, two.err
        checked = elimtool(*check, tmp_path / str(number), *how)
        assert checked.code == 0, checked.err
        manifest = package.open_run(tmp_path / str(number)).manifest
        assert manifest.weights_sha256 in two.out
        if number:
            assert manifest.device_map == {"": "disk"}
        else:
            assert manifest.adapters[0]["scale"] == 0.5
    run = tmp_path / "0"
    for command in (("compare", run, run), ("check", tmp_path / "checks.yaml", "--run", run)):
        refused = elimtool(*command, "--adapter", adapter)
        assert refused.code == 2 and "--adapter" in refused.err
