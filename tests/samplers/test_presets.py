"""Presets, chain files and inline chains, and what their errors say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from elimtool.errors import ElimError
from elimtool.samplers import preset_names, resolve
from elimtool.samplers.compare import compare

NONE = torch.zeros((1, 0), dtype=torch.int64)


def test_presets_load_and_describe_themselves() -> None:
    names = ["hf", "koboldcpp", "llama.cpp", "sglang", "text-generation-webui", "vllm", "vllm-gpu"]
    assert preset_names() == names
    for name in preset_names():
        described = json.loads(json.dumps(resolve(name).describe()))
        assert described["name"] == name and described["version"] and described["sources"]


def test_default_parameters() -> None:
    llama = {s.name: s.params() for s in resolve("llama.cpp").stages}
    assert llama["top_k"]["k"] == 40 and llama["top_p"]["p"] == 0.95 and llama["min_p"]["p"] == 0.05
    assert llama["temperature"]["temperature"] == 0.8 and llama["penalties"]["last_n"] == 64
    active = {n: [s.name for s in resolve(n).stages if not s.is_off()] for n in preset_names()}
    assert active["llama.cpp"] == ["top_k", "top_p", "min_p", "temperature"]
    assert active["hf"] == ["top_k"] and active["vllm"] == [] and active["sglang"] == []
    assert active["koboldcpp"] == ["prefilter", "top_k", "top_p", "temperature"]
    assert active["vllm-gpu"] == [] and active["text-generation-webui"] == []


def test_koboldcpp_is_what_its_server_fills_in() -> None:
    # koboldcpp.py generate: the second argument of genparams.get of every one of these
    found = {s.name: s.params() for s in resolve("koboldcpp").stages}
    assert found["temperature"]["temperature"] == 0.75
    assert found["top_k"]["k"] == 100 and found["top_p"]["p"] == 0.92 and found["xtc"]["threshold"] == 0.2
    assert found["dry"]["last_n"] == found["penalties"]["last_n"] == 320
    assert found["dry"]["breakers"] == [] and found["adaptive_p"]["target"] == -1
    # gpttype_adapter.cpp sample_dry returns early for a base of 0 or less only
    assert not resolve("koboldcpp:dry=0.8,dry_base=0.5").stages[1].is_off()
    assert resolve("koboldcpp:dry=0.8,dry_base=0").stages[1].is_off()
    assert resolve("llama.cpp:dry=0.8,dry_base=0.5").stages[2].is_off()


def test_text_generation_webui_has_the_priority_of_its_presets_file() -> None:
    # modules/presets.py default_preset_values, without what other stages hold
    priority = (
        "repetition_penalty presence_penalty frequency_penalty dry top_n_sigma temperature"
        " dynamic_temperature quadratic_sampling top_k top_p typical_p epsilon_cutoff eta_cutoff tfs top_a"
        " min_p adaptive_p mirostat xtc"
    )
    names = {"repetition_penalty": "penalties", "quadratic_sampling": "quadratic", "typical_p": "typical"}
    names |= {"epsilon_cutoff": "epsilon", "eta_cutoff": "eta", "tfs": "tail_free", "mirostat": "mirostat_v2"}
    wanted = [names.get(one, one) for one in priority.split() if one not in PART_OF_PENALTIES]
    chain = resolve("text-generation-webui")
    assert [stage.kind for stage in chain.stages] == wanted
    assert chain.stages[0].last_n == chain.stages[1].last_n == 1024


PART_OF_PENALTIES = ("presence_penalty", "frequency_penalty")


def test_vllm_with_triton_cuts_ties_and_leaves_flat_rows() -> None:
    # observed by running the kernel of vLLM 0.33 in Triton's interpreter
    def count(spec: str, row: list[float]) -> int:
        return int(resolve(spec).run(torch.tensor([row]), NONE).kept.sum())

    tied, flat = [1.0, 3.0, 3.0, 0.0, 3.0, 3.0], [0.0] * 8
    assert [count(f"{name}:top_k=1", tied) for name in ("vllm", "vllm-gpu")] == [4, 1]
    assert [count(f"{name}:top_p=0.5", flat) for name in ("vllm", "vllm-gpu")] == [4, 8]
    assert count("vllm-gpu:top_k=3", flat) == 8 and count("vllm-gpu:top_p=0.3", tied) == 2
    assert resolve("vllm-gpu").settings == resolve("vllm").settings
    assert set(resolve("vllm-gpu").limits) > set(resolve("vllm").limits)


def test_settings_of_a_folder_are_laid_over_a_preset(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text('{"temperature": 0.6, "top_k": 20}')
    chain = resolve(f"vllm@{tmp_path}:top_k=5")
    values = {s.name: s.params() for s in chain.stages}
    assert values["temperature"]["temperature"] == 0.6 and values["top_k"]["k"] == 5
    assert chain.origins == (
        ("temperature", "temperature", "generation_config.json"),
        ("top_k", "k", "user"),
    )
    assert resolve("vllm@model", {"generation_config.json": {"top_k": 7}}).stages[4].k == 7


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("vllm@model", "no model is loaded"),
        ("koboldcpp@model", "koboldcpp reads no settings that a model ships with"),
        ("llama.cpp@somewhere", "reads 'general.sampling' of a GGUF file"),
        ("hf@nowhere", "cannot read nowhere"),
        ("vlm@model", "unknown sampler chain 'vlm@model'"),
    ],
)
def test_settings_that_cannot_be_read_are_refused(spec: str, message: str) -> None:
    with pytest.raises(ElimError, match=message):
        resolve(spec)


def test_inline_keeps_the_order_written() -> None:
    chain = resolve("top_k=40,top_p=0.95,temperature=0.8")
    assert [s.kind for s in chain.stages] == ["top_k", "top_p", "temperature"]
    assert [s.kind for s in resolve("temperature=0.8,xtc=0.5,top_k=3,xtc_threshold=0.2").stages] == [
        "temperature",
        "xtc",
        "top_k",
    ]
    again = resolve("first.stage=top_k,temperature=0.8,first.ties=exact,top_k=3,first=9").stages
    assert [(s.name, s.kind) for s in again[::2]] == [("first", "top_k"), ("top_k", "top_k")]
    assert (again[0].k, again[0].ties, again[2].k) == (9, "exact", 3)
    assert resolve("logit_bias={5: 1.5, 7: -.inf}").stages[0].bias == ((5, 1.5), (7, float("-inf")))


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('" Enough, [stop."', " Enough, [stop."),
        (r'"a \" b,c"', 'a " b,c'),
        ("' it''s, so'", " it's, so"),
        ("it's so", "it's so"),
    ],
)
def test_quotes_keep_spaces_commas_and_brackets_of_a_text(written: str, read: str) -> None:
    chain = resolve(f"vllm:thinking_budget=5,thinking_budget.message={written},top_k=3")
    stages = {stage.name: stage for stage in chain.stages}
    assert stages["thinking_budget"].params()["message"] == read and stages["top_k"].k == 3


def test_preset_with_other_parameters() -> None:
    chain = resolve("llama.cpp:temperature=0,top_k=10")
    assert chain.name == "llama.cpp:temperature=0,top_k=10" and chain.engine == "llama.cpp"
    assert {s.name: s for s in chain.stages}["top_k"].k == 10
    assert resolve("koboldcpp:top_k=5,prefilter=100").stages[2].k == 100


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("lama.cpp", "did you mean 'llama.cpp'"),
        ("topk=3", "did you mean 'top_k'"),
        ("top_k=-3", "top_k: k must be an integer of at least -1, got -3"),
        ("top_k=2.5", "top_k: k must be an integer, got 2.5"),
        ("top_p=2", r"top_p: p must be a number in \[0, 1\], got 2.0"),
        ("hf:temperature=0", "temperature must be a number in .*, got 0.0"),
        ("top_k.kk=3", "did you mean 'k'"),
        ("top_k=", "not of the form name=value"),
        ("top_k=3,top_k=4", "given twice"),
        ("llama.cpp:top_a=0.2", "no stage 'top_a'"),
        ("top_p=0.5,top_p.ties=some", "valid: all, low, torch"),
        ("greedy=1", "takes no value"),
        ("first=3,first.stage=top_k", "unknown stage or parameter 'first'"),
        ("first.stage=topk", "did you mean 'top_k'"),
        ("first.stage=greedy,first=1", "takes no value"),
        ("top_p.stage=top_k", "means a stage already"),
        ("first.stage=top_k,first=3,first.k=4", "given twice"),
        ("first.stage=top_k,first.p=4", "top_k has no parameter 'p'"),
        ("nowhere.yaml", "cannot read nowhere.yaml"),
    ],
)
def test_errors_name_what_is_valid(spec: str, message: str) -> None:
    with pytest.raises(ElimError, match=message):
        resolve(spec)


def test_chain_files(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("engine: mine\nstages:\n  - greedy\n")
    assert resolve(str(path)).name == "mine"
    path.write_text("base: llama.cpp\nset: {top_k: 7, temperature: 0.5}\nprecision: float32\n")
    chain = resolve(str(path))
    assert chain.precision == "float32" and chain.accumulation == "sequential"
    assert {s.name: s for s in chain.stages}["top_k"].k == 7


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("stages:\n  - {stage: top_k, k: 3}\n  - {stage: topp, p: 1}\n", 3, "did you mean 'top_p'"),
        (
            "stages:\n  - {stage: top_k, k: 3}\n\n  - {stage: top_p, p: 3}\n",
            4,
            "p must be a number in [0, 1]",
        ),
        ("stages:\n  - stage: top_k\n    kk: 3\n", 2, "no parameter 'kk'"),
        ("engin: x\nstages: [greedy]\n", 1, "did you mean 'engine'"),
        ("engine: x\nstages: [greedy\n", 3, "not valid YAML"),
        ("engine: x\nengine: y\nstages: [greedy]\n", 2, "given twice"),
        ("engine: x\n\nprecision: half\nstages: [greedy]\n", 3, "precision"),
        ("- greedy\n", 1, "must be a mapping"),
        ("engine: x\n", 1, "either 'stages' or 'base'"),
    ],
)
def test_file_errors_name_file_and_line(tmp_path: Path, text: str, line: int, message: str) -> None:
    path = tmp_path / "chain.yaml"
    path.write_text(text)
    with pytest.raises(ElimError) as error:
        resolve(str(path))
    assert f"chain.yaml:{line}:" in str(error.value), str(error.value)
    assert message in str(error.value)


def test_a_file_cannot_be_its_own_base(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("base: b.yaml\n")
    (tmp_path / "b.yaml").write_text("base: a.yaml\n")
    with pytest.raises(ElimError, match="its own base"):
        resolve(str(tmp_path / "a.yaml"))


def test_bad_input_is_refused() -> None:
    chain = resolve("top_k=1")
    for row in ([[float("nan"), 1.0]], [[float("-inf")] * 2], [[float("inf"), 1.0]]):
        with pytest.raises(ElimError, match="row 0"):
            chain.run(torch.tensor(row), NONE)
    with pytest.raises(ElimError, match="`targets` must be token ids from 0 to 1"):
        chain.run(torch.zeros(1, 2), torch.tensor([[2]]))
    with pytest.raises(ElimError, match="histories"):
        chain.run(torch.zeros(1, 2), NONE, [])


def test_engines_side_by_side() -> None:
    x = torch.randn(2, 200, generator=torch.Generator().manual_seed(0)) * 3
    ledgers = [resolve(n).run(x, NONE.expand(2, 0)) for n in ("llama.cpp", "hf", "vllm")]
    found = compare(ledgers[0], ledgers[1])
    assert torch.equal(found.n_only_left - found.n_only_right, ledgers[0].end.n - ledgers[1].end.n)
    with pytest.raises(ElimError, match="different logits"):
        compare(ledgers[0], resolve("hf").run(x[:1], NONE))
