"""Settings that a model ships with: as generate applies them, and where each value comes from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import elimtool
from elimtool import TraceOptions
from elimtool.engine.chains import chain_for
from elimtool.model.loading import load_model
from elimtool.samplers import History, preset_names, resolve
from tests.model.tiny_gguf import write_gguf

PROMPT = "The capital of France is"
FILES: list[dict[str, Any]] = [
    {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95},
    {"do_sample": True, "temperature": 1.3, "top_p": 0.5, "min_p": 0.05, "repetition_penalty": 1.2},
    {"do_sample": True, "typical_p": 0.5, "epsilon_cutoff": 2**-12, "eta_cutoff": 2**-10},
    {"do_sample": True, "top_k": 0},
    {"do_sample": True, "temperature": 1.0},
    {"bos_token_id": 0},
]


@pytest.fixture
def shipping(llama_directory: Path, tmp_path: Path) -> Any:
    def made(settings: dict[str, Any]) -> Path:
        found = tmp_path / "shipping"
        shutil.copytree(llama_directory, found, dirs_exist_ok=True)
        (found / "generation_config.json").write_text(json.dumps(settings))
        return found

    return made


@pytest.mark.parametrize("settings", FILES)
def test_hf_is_what_generate_does_with_the_file(settings: dict[str, Any], shipping: Any) -> None:
    from transformers import AutoModelForCausalLM

    directory = shipping(settings)
    ours = load_model(str(directory))
    ids = torch.tensor([ours.tokenizer.encode(PROMPT).ids])
    hf = AutoModelForCausalLM.from_pretrained(directory).eval()
    logits = hf(input_ids=ids).logits[:, -1].detach()
    more = {"return_dict_in_generate": True, "output_scores": True, "max_new_tokens": 1, "do_sample": True}
    (scores,) = hf.generate(ids, **more).scores
    chain = chain_for(ours, "hf")
    ledger = chain.run(logits, torch.zeros((1, 0), dtype=torch.int64), [History(tuple(ids[0].tolist()))])
    assert torch.equal(ledger.kept, scores > -torch.inf)
    stated = {key for key in settings if key not in ("do_sample", "bos_token_id")}
    assert len(chain.origins) == len(stated)


def test_each_engine_reads_what_it_reads_and_the_user_wins(shipping: Any) -> None:
    settings = {"temperature": 0.6, "top_k": 20, "top_p": 0.9, "min_p": 0.1, "typical_p": 0.3}
    model = load_model(str(shipping(settings)))
    assert {name: len(chain_for(model, name).origins) for name in preset_names()} == {
        "hf": 5,
        "koboldcpp": 0,
        "llama.cpp": 0,
        "sglang": 4,
        "text-generation-webui": 0,
        "vllm": 4,
        "vllm-gpu": 4,
    }
    assert len(chain_for(model, "vllm@model", False).origins) == 4
    for name in preset_names():
        assert chain_for(model, name, False) == resolve(name)
    chain = chain_for(model, "vllm:temperature=0.9,top_k=5")
    assert {(stage, source) for stage, _, source in chain.origins} == {
        ("temperature", "user"),
        ("top_k", "user"),
        ("top_p", "generation_config.json"),
        ("min_p", "generation_config.json"),
    }
    values = {stage.name: stage.params() for stage in chain.stages}
    assert (values["temperature"]["temperature"], values["top_k"]["k"], values["top_p"]["p"]) == (0.9, 5, 0.9)
    assert chain_for(model, "top_k=40").origins == ()


def test_a_value_that_the_engine_refuses_is_left_out_and_said(shipping: Any) -> None:
    model = load_model(str(shipping({"temperature": 0.0, "top_p": "much", "top_k": 7})))
    chain = chain_for(model, "hf")
    assert chain.origins == (("top_k", "k", "generation_config.json"),)
    assert len(chain.left_out) == 2
    assert chain.left_out[0].startswith("temperature = 0.0: temperature")
    assert chain.left_out[1].startswith("top_p = much: top_p")
    run = elimtool.trace(model, PROMPT, options=TraceOptions(samplers=("hf",)))
    assert list(run.manifest.chains[0]["left_out"]) == list(chain.left_out)


def test_the_ledger_says_where_values_come_from(shipping: Any) -> None:
    model = load_model(str(shipping({"temperature": 0.6, "top_k": 20})))
    run = elimtool.trace(model, PROMPT, options=TraceOptions(samplers=("hf:top_p=0.9", "llama.cpp")))
    rows = run.table("sampling").set_index(["chain", "stage"])["params_from"]
    assert json.loads(rows["hf:top_p=0.9", "temperature"]) == {"temperature": "generation_config.json"}
    assert json.loads(rows["hf:top_p=0.9", "top_p"]) == {"p": "user"}
    assert rows.isna()["hf:top_p=0.9", "min_p"]
    assert rows["llama.cpp"].isna().all()
    assert run.manifest.chains[0]["origins"] == {
        "temperature.temperature": "generation_config.json",
        "top_k.k": "generation_config.json",
        "top_p.p": "user",
    }
    bare = elimtool.trace(model, PROMPT, options=TraceOptions(samplers=("hf",), model_sampling=False))
    assert "origins" not in bare.manifest.chains[0]


def test_a_gguf_files_own_settings_are_laid_over_llama_cpp(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("ELIMTOOL_CACHE", str(tmp_path / "cache"))
    settings = {
        "top_k": 20,
        "top_p": 0.95,
        "temp": 0.6,
        "penalty_repeat": 1.1,
        "penalty_last_n": 32,
        "sequence": "Temp;top-k;nucleus;mirror;topk",
        "mirostat": 0,
    }
    path = write_gguf(tmp_path / "tiny.gguf", sampling=settings)
    model = load_model(str(path))
    chain = chain_for(model, "llama.cpp")
    assert [stage.name for stage in chain.stages] == ["logit_bias", "temperature", "top_k", "top_p"]
    values = {stage.name: stage.params() for stage in chain.stages}
    assert (values["temperature"]["temperature"], values["top_k"]["k"], values["top_p"]["p"]) == (
        0.6,
        20,
        0.95,
    )
    assert [note.partition(": ")[2] for note in chain.left_out] == [
        "'mirror' is left out",
        "'top_k' is left out",
    ]
    assert chain_for(model, "llama.cpp", False) == resolve("llama.cpp")
    assert chain_for(model, "vllm").origins == ()


def test_mirostat_and_banned_tokens_of_a_gguf_file_act_as_in_llama_cpp() -> None:
    settings = {"temp": 0.6, "top_k": 20, "mirostat": 2, "mirostat_tau": 3.0, "suppress_tokens": [4, 7]}
    chain = resolve("llama.cpp@model", {"general.sampling": settings})
    assert [stage.kind for stage in chain.stages] == ["logit_bias", "dynamic_temperature", "mirostat_v2"]
    assert chain.stages[2].params() == {"tau": 3.0, "eta": 0.1}
    banned = chain.run(torch.zeros((1, 9)), torch.tensor([[4, 5, 7]]))
    assert banned.records[-1].alive_after.tolist() == [[False, True, False]]
    odd = resolve("llama.cpp@model", {"general.sampling": {"mirostat": 3, "sequence": "mirror"}})
    assert len(odd.left_out) == 2 and odd.stages == resolve("llama.cpp").stages


def test_a_gguf_files_banned_tokens_are_read(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("ELIMTOOL_CACHE", str(tmp_path / "cache"))
    model = load_model(str(write_gguf(tmp_path / "tiny.gguf", suppress=[3, 5])))
    (stage,) = (one for one in chain_for(model, "llama.cpp").stages if one.kind == "logit_bias")
    assert stage.params()["bans"] == [3, 5]
