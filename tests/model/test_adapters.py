"""Adapters, merged: the same logits as peft's own forward of the same adapter, and what is refused."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from elimtool.errors import ElimError
from elimtool.model import merging
from elimtool.model.adapters import parse_adapter
from elimtool.model.loading import load_model
from elimtool.model.merging import merge

peft = pytest.importorskip("peft")

IDS = torch.arange(3, 13)[None]
ROWS = 64


def _base(tied: bool = False, layers: int = 2, width: int = 32) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(
        vocab_size=ROWS, hidden_size=width, intermediate_size=64, tie_word_embeddings=tied, **sizes
    )
    return LlamaForCausalLM(config).eval()


def _trained(base: Any, config: Any, directory: Path, **saving: Any) -> Any:
    """A model with an adapter that does something, saved; peft's own forward is the oracle."""
    model = peft.get_peft_model(base, config).eval()
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.3 * torch.randn_like(parameter)
    model.save_pretrained(directory, **saving)
    return model


def _lora(**options: Any) -> Any:
    return peft.LoraConfig(**{"task_type": "CAUSAL_LM", "r": 4, "target_modules": ["q_proj"], **options})


def _logits(model: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=ids).logits
    return found


KINDS: dict[str, tuple[Any, bool]] = {
    "LoRA": (_lora(target_modules=["q_proj", "v_proj"], lora_alpha=8), False),
    "rsLoRA": (_lora(use_rslora=True, target_modules="all-linear"), False),
    "DoRA": (_lora(use_dora=True, target_modules=["q_proj", "down_proj"]), False),
    "modules_to_save": (_lora(modules_to_save=["lm_head"]), False),
    "embeddings": (_lora(target_modules=["q_proj", "embed_tokens"]), False),
    "tied embeddings": (_lora(target_modules=["q_proj", "embed_tokens"]), True),
    "tied unembedding": (_lora(target_modules=["lm_head"]), True),
    "tied and saved": (_lora(modules_to_save=["embed_tokens"]), True),
    "tokens": (_lora(trainable_token_indices=[3, 5]), True),
    "IA3": (
        peft.IA3Config(
            task_type="CAUSAL_LM", target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]
        ),
        False,
    ),
    "LoHa": (peft.LoHaConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj"]), False),
}


@pytest.mark.parametrize("kind", KINDS)
def test_merged_equals_pefts_own_forward(kind: str, tmp_path: Path) -> None:
    config, tied = KINDS[kind]
    own = _logits(_trained(_base(tied), config, tmp_path))
    merged, (done,) = merge(_base(tied), [("it", tmp_path, 1.0)])
    torch.testing.assert_close(_logits(merged), own, atol=2e-5, rtol=1e-5)
    assert (own - _logits(_base(tied))).abs().max() > 1e-3  # the adapter does something
    assert not any("lora" in name for name, _ in merged.named_modules())
    assert done.kind.startswith(str(config.peft_type.value))


@pytest.mark.parametrize("tied", [False, True])
def test_an_adapter_with_new_tokens_resizes_the_embeddings(tied: bool, tmp_path: Path) -> None:
    base = _base(tied)
    base.resize_token_embeddings(ROWS + 6)
    ids = torch.tensor([[1, 2, ROWS + 1, ROWS + 5]])
    own = _logits(_trained(base, _lora(), tmp_path, save_embedding_layers=True), ids)
    merged, _ = merge(_base(tied), [("it", tmp_path, 1.0)])
    torch.testing.assert_close(_logits(merged, ids), own)


def test_several_adapters_and_scales(tmp_path: Path) -> None:
    _trained(_base(), _lora(), tmp_path / "a")
    _trained(_base(), _lora(target_modules=["v_proj", "q_proj"]), tmp_path / "b")
    own = peft.PeftModel.from_pretrained(_base(), tmp_path / "a")
    own.load_adapter(str(tmp_path / "b"), "b")
    own.base_model.set_adapter(["default", "b"])
    for module in own.modules():
        if isinstance(module, peft.tuners.lora.LoraLayer):
            module.set_scale("b", 0.5)
    merged, done = merge(_base(), [("a", tmp_path / "a", 1.0), ("b", tmp_path / "b", 0.5)])
    torch.testing.assert_close(_logits(merged), _logits(own), atol=2e-5, rtol=1e-5)
    assert [one.plain()["scale"] for one in done] == [1.0, 0.5]


def test_what_cannot_be_merged_is_refused_with_the_reason(tmp_path: Path) -> None:
    prompt = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    _trained(_base(), prompt, tmp_path / "prompt")
    _trained(_base(), _lora(), tmp_path / "lora")
    _trained(_base(), _lora(lora_bias=True), tmp_path / "bias")
    _trained(_base(), _lora(modules_to_save=["lm_head"]), tmp_path / "saved")
    shutil.copytree(tmp_path / "lora", tmp_path / "cut")
    weights = tmp_path / "cut" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    for name, base, scale, says in (
        ("prompt", _base(), 1.0, "cannot be merged"),
        ("bias", _base(), 1.0, "the base layer has no bias"),
        ("saved", _base(), 0.5, "only LoRA updates have a scale"),
        ("lora", _base(layers=1), 1.0, "no place for the adapter's weight"),
        ("lora", _base(layers=3), 1.0, "lacks the weight"),
        ("lora", _base(width=64), 1.0, "size mismatch"),
        ("cut", _base(), 1.0, "cannot be merged"),
    ):
        with pytest.raises(ElimError, match=says):
            merge(base, [(name, tmp_path / name, scale)])


def test_a_mistake_of_elimtools_own_is_not_the_adapters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _trained(_base(), _lora(), tmp_path)
    monkeypatch.setattr(merging, "_untie", None)
    with pytest.raises(TypeError, match="not callable"):
        merge(_base(), [("it", tmp_path, 1.0)])


def test_without_peft_the_way_to_get_it_is_named(
    adapter: Path, monkeypatch: pytest.MonkeyPatch, llama_directory: Path
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ElimError, match="need the package peft") as caught:
        load_model(str(adapter))
    assert "pip install 'elimtool[adapters]'" in caught.value.hint
    assert load_model(str(llama_directory)).adapters is None


def test_scales_as_typed() -> None:
    assert parse_adapter("lora") == ("lora", 1.0)
    assert parse_adapter("a@b/lora@-0.5") == ("a@b/lora", -0.5)
    assert parse_adapter("lora@v2") == ("lora@v2", 1.0)
    with pytest.raises(ElimError, match="finite"):
        parse_adapter("lora@inf")


@pytest.fixture
def adapter(llama_directory: Path, tmp_path: Path) -> Path:
    """An adapter of the model in ``llama_directory``, which it names as its base."""
    from transformers import AutoModelForCausalLM

    _trained(AutoModelForCausalLM.from_pretrained(llama_directory), _lora(), tmp_path / "lora")
    return tmp_path / "lora"


def test_a_directory_is_loaded_on_its_base_and_is_another_model(
    llama_directory: Path, adapter: Path, tmp_path: Path
) -> None:
    base, merged = load_model(str(llama_directory)), load_model(str(adapter))
    half = load_model(str(llama_directory), adapters=[f"{adapter}@0.5"])
    whole = load_model(str(llama_directory), adapters=[str(adapter)])
    digests = [one.hashes()["weights_sha256"] for one in (base, merged, half, whole)]
    assert digests[1] == digests[3]
    assert len(set(digests)) == 3
    assert (base.adapters, merged.adapters and merged.adapters[0].kind) == (None, "LORA")
    assert (
        load_model(str(adapter), dtype="auto").dtype == load_model(str(llama_directory), dtype="auto").dtype
    )
    low = load_model(str(adapter), dtype="bfloat16")
    assert low.dtype == torch.bfloat16
    weight = dict(low.hf.named_parameters())
    for name, parameter in merged.hf.named_parameters():
        assert torch.equal(weight[name], parameter.to(torch.bfloat16))  # merged in float32, then rounded once
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "no/where"}))
    with pytest.raises(ElimError, match="is an adapter, and its base") as caught:
        load_model(str(adapter))
    assert "`base`" in caught.value.hint
    assert load_model(str(adapter), base=str(llama_directory)).adapters is not None
    with pytest.raises(ElimError, match="is a whole model"):
        load_model(str(llama_directory), base="smollm2")
    with pytest.raises(ElimError, match="is an adapter too"):
        load_model(str(adapter), base=str(adapter))


@pytest.mark.parametrize("how", ["disk", "8bit"])
def test_a_merged_model_may_be_spread_or_quantised(
    how: str, llama_directory: Path, adapter: Path, tmp_path: Path
) -> None:
    """As the same merged weights, saved by hand and loaded so."""
    (tmp_path / "map.json").write_text('{"": "disk"}')
    if how == "8bit":
        pytest.importorskip("bitsandbytes")
    options: dict[str, Any] = (
        {"quantize": "8bit"} if how == "8bit" else {"device_map": f"{tmp_path}/map.json"}
    )
    from transformers import AutoModelForCausalLM, AutoTokenizer

    wrapped = peft.PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(llama_directory), str(adapter)
    )
    wrapped.merge_and_unload().save_pretrained(tmp_path / "by hand")
    AutoTokenizer.from_pretrained(llama_directory).save_pretrained(tmp_path / "by hand")
    by_hand = load_model(str(tmp_path / "by hand"), **options)
    merged = load_model(str(llama_directory), adapters=[str(adapter)], **options)
    bare = load_model(str(llama_directory), **options)
    ours, theirs, without = (_logits(one.hf) for one in (merged, by_hand, bare))
    torch.testing.assert_close(ours, theirs)
    assert float((ours - without).abs().max()) > 1e-3
    plain = load_model(str(llama_directory), adapters=[str(adapter)])
    same = merged.hashes()["weights_sha256"] == plain.hashes()["weights_sha256"]
    assert same == (how == "disk")  # quantised weights are others
    assert merged.adapters == plain.adapters


def test_an_adapter_beside_whole_weights_is_left_out_and_said(
    llama_directory: Path, adapter: Path, tmp_path: Path
) -> None:
    both = tmp_path / "both"
    shutil.copytree(llama_directory, both)
    for path in adapter.glob("adapter_*"):
        shutil.copy(path, both)
    found, plain = load_model(str(both)), load_model(str(llama_directory))
    assert found.adapters == ()
    assert found.hashes() == plain.hashes()
    ours, theirs = found.hf.state_dict(), plain.hf.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert load_model(str(both), adapters=[str(both)]).adapters != ()
