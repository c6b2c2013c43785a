"""A GGUF file to a directory: the weights of the file, or one clear error."""

import json

import gguf
import numpy as np
import pytest
from safetensors.torch import load_file

from elimtool.errors import ElimError
from elimtool.model import store
from elimtool.model.catalogue import CATALOGUE, materialise
from elimtool.model.gguf import convert, gguf_directory
from tests.model import tiny_gguf
from tests.model.gguf.conftest import load_tokenizer
from tests.model.tiny_gguf import write_gguf


def permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp's order of rotary rows, from Hugging Face's: halves interleaved within each head."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def assert_weights_are_the_files(path, directory, heads, kv_heads):
    stored = {
        tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type)
        for tensor in gguf.GGUFReader(path).tensors
        if not tensor.name.startswith("blk.") or tensor.name.startswith("blk.1.")
    }
    converted = {name: weight.numpy() for name, weight in load_file(directory / "model.safetensors").items()}
    layer = "model.layers.1."
    for name, theirs in {
        "token_embd": "model.embed_tokens",
        "output_norm": "model.norm",
        "blk.1.attn_norm": layer + "input_layernorm",
        "blk.1.ffn_norm": layer + "post_attention_layernorm",
        "blk.1.ffn_gate": layer + "mlp.gate_proj",
        "blk.1.ffn_up": layer + "mlp.up_proj",
        "blk.1.ffn_down": layer + "mlp.down_proj",
        "blk.1.attn_v": layer + "self_attn.v_proj",
        "blk.1.attn_output": layer + "self_attn.o_proj",
    }.items():
        np.testing.assert_array_equal(converted[theirs + ".weight"], stored[name + ".weight"], err_msg=name)
    for name, theirs, count in (("attn_q", "q_proj", heads), ("attn_k", "k_proj", kv_heads)):
        weight = converted[f"{layer}self_attn.{theirs}.weight"]
        np.testing.assert_array_equal(permuted(weight, count), stored[f"blk.1.{name}.weight"])
    assert all(weight.dtype == np.float32 for weight in converted.values())


def test_weights_equal_the_dequantised_tensors_of_the_file(tiny):
    assert_weights_are_the_files(*tiny, tiny_gguf.HEADS, tiny_gguf.KV_HEADS)


def test_unquantised_weights_arrive_bit_for_bit(tmp_path):
    weights = tiny_gguf.tensors(seed=3)
    convert(write_gguf(tmp_path / "t.gguf", weights=weights), tmp_path / "out")
    converted = load_file(tmp_path / "out" / "model.safetensors")
    np.testing.assert_array_equal(converted["model.embed_tokens.weight"], weights["token_embd.weight"])


def test_config_holds_the_decimals_that_were_meant_and_no_local_names(tiny):
    config = json.loads((tiny[1] / "config.json").read_text())
    assert config["rms_norm_eps"] == 1e-5
    assert config["rope_parameters"]["rope_theta"] == 10000.0
    assert config["initializer_range"] == 0.02
    assert config["tie_word_embeddings"] is True
    assert not {"_name_or_path", "_model_name_or_path", "quantization_config"} & set(config)


def test_the_directory_loads_as_any_other(tiny):
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny[1])
    with torch.no_grad():
        logits = model(torch.tensor([[1, 5, 9]])).logits
    assert logits.shape == (1, 3, len(tiny_gguf.vocabulary()))
    assert torch.isfinite(logits).all()


def test_the_record_says_where_the_directory_came_from(tiny):
    record = store.read_record(tiny[1])
    assert record["source"] == {"file": "tiny.gguf"}
    assert record["pre_tokenizer"] == "smollm"
    assert record["notes"] == []
    assert record["tensor_types"] == ["F32", "Q8_0"]
    assert record["versions"].keys() >= {"elimtool", "transformers", "tokenizers", "torch", "gguf"}
    assert record["weights_sha256"] == store.weights_sha256(tiny[1])
    assert store.is_intact(tiny[1])


def test_weights_without_a_place_are_warned_about(tmp_path):
    weights = tiny_gguf.tensors() | {"blk.0.attn_q.bias": np.zeros(tiny_gguf.HIDDEN, np.float32)}
    with pytest.warns(UserWarning) as caught:
        convert(write_gguf(tmp_path / "t.gguf", weights=weights), tmp_path / "out")
    said = " ".join(str(warning.message) for warning in caught)
    assert f"{tiny_gguf.HIDDEN} of its" in said


def test_divisors_of_rotary_frequencies_give_llama_3_s_own_scaling(tmp_path):
    """Against transformers' ``llama3`` scaling, with divisors made by llama.cpp's converter's formula."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    factor, low, high, original, size = 8.0, 1.0, 4.0, 128, tiny_gguf.HIDDEN // tiny_gguf.HEADS
    frequencies = 1.0 / 10000.0 ** (np.arange(0, size, 2) / size)
    lengths = 2 * np.pi / frequencies
    smooth = (original / lengths - low) / (high - low)
    between = 1 / ((1 - smooth) / factor + smooth)
    divisors = np.where(lengths < original / high, 1.0, np.where(lengths > original / low, factor, between))
    assert len(set(divisors)) == 3  # untouched, between and divided in full
    weights = tiny_gguf.tensors() | {"rope_freqs.weight": divisors.astype(np.float32)}
    convert(write_gguf(tmp_path / "t.gguf", weights=weights), tmp_path / "out")
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    config = LlamaConfig.from_pretrained(tmp_path / "out")
    config.rope_parameters = {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": original,
    }
    truth = LlamaForCausalLM(config)
    truth.load_state_dict(found.state_dict())
    ids = torch.arange(3, 43)[None]
    with torch.no_grad():
        torch.testing.assert_close(found(ids).logits, truth(ids).logits, atol=1e-5, rtol=0)
    plain = truth.model.rotary_emb.inv_freq * torch.tensor(divisors, dtype=torch.float32)
    torch.testing.assert_close(plain, torch.tensor(frequencies, dtype=torch.float32))


def test_divisors_for_short_and_long_texts_are_two_lists(tmp_path):
    lists = {
        "rope_factors_short.weight": [1.0, 1.25, 1.5, 2.0],
        "rope_factors_long.weight": [1.0, 2.0, 4.0, 8.0],
    }
    weights = tiny_gguf.tensors() | {name: np.array(one, np.float32) for name, one in lists.items()}
    convert(write_gguf(tmp_path / "t.gguf", weights=weights), tmp_path / "out")
    found = json.loads((tmp_path / "out" / "config.json").read_text())["rope_parameters"]
    assert found["rope_type"] == "longrope"
    assert [found["short_factor"], found["long_factor"]] == list(lists.values())
    assert found["original_max_position_embeddings"] == 64
    assert found["rope_theta"] == 10000.0 and found["attention_factor"] == 1.0


def test_a_file_that_lacks_a_weight_is_refused_instead_of_filled_at_random(tmp_path):
    weights = tiny_gguf.tensors()
    del weights["blk.1.ffn_down.weight"]
    with pytest.raises(ElimError, match=r"lacks weights.*down_proj"):
        convert(write_gguf(tmp_path / "t.gguf", weights=weights), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["t.gguf"]


def test_an_unsupported_architecture_is_named(tmp_path):
    with pytest.raises(ElimError, match="architecture 'grok'") as caught:
        convert(write_gguf(tmp_path / "t.gguf", architecture="grok"), tmp_path / "out")
    assert caught.value.hint
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"GG", b"PK\x03\x04 a zip", b"GGML" + bytes(64)])
def test_another_file_is_not_a_gguf(tmp_path, content):
    (tmp_path / "t.gguf").write_bytes(content)
    with pytest.raises(ElimError, match="not a GGUF file"):
        gguf_directory(tmp_path / "t.gguf")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ElimError, match="no such file"):
        gguf_directory(tmp_path / "none.gguf")


def test_a_truncated_file_is_called_damaged_wherever_it_ends(tiny, tmp_path):
    whole = tiny[0].read_bytes()
    cuts = [*range(4, 60), *range(60, len(whole), 997), len(whole) - 33, len(whole) - 1]
    for end in cuts:
        (tmp_path / "t.gguf").write_bytes(whole[:end])
        with pytest.raises(ElimError, match=r"damaged or truncated|holds no model"):
            convert(tmp_path / "t.gguf", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["t.gguf"]


def test_a_full_disk_while_writing_weights_is_said(tiny, tmp_path, monkeypatch):
    from safetensors import SafetensorError
    from transformers import PreTrainedModel

    def full(*_, **__):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", full)
    with pytest.raises(ElimError, match="no space left") as caught:
        convert(tiny[0], tmp_path / "out")
    assert "ELIMTOOL_CACHE" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_conversion_prints_nothing_and_leaves_the_settings_of_transformers_alone(tiny, tmp_path, capfd):
    from transformers.utils import logging

    before = (logging.is_progress_bar_enabled(), logging.get_verbosity())
    lines = []
    convert(tiny[0], tmp_path / "out", progress=lines.append)
    assert (logging.is_progress_bar_enabled(), logging.get_verbosity()) == before
    assert capfd.readouterr() == ("", "")
    assert "converting weights: 50 %" in lines


def test_a_gguf_of_the_user_is_converted_once_and_again_when_it_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("ELIMTOOL_CACHE", str(tmp_path / "cache"))
    path = write_gguf(tmp_path / "mine.gguf")
    first = gguf_directory(path)
    written = (first / "model.safetensors").stat().st_mtime_ns
    assert gguf_directory(path) == first
    assert (first / "model.safetensors").stat().st_mtime_ns == written
    moved = path.rename(tmp_path / "renamed.gguf")
    assert gguf_directory(moved) == first
    write_gguf(path, weights=tiny_gguf.tensors(seed=1))
    assert gguf_directory(path) != first


@pytest.mark.smollm2
@pytest.mark.slow
def test_smollm2_weights_and_vocabulary_are_those_of_its_file(smollm2):
    path, directory = smollm2
    assert_weights_are_the_files(path, directory, heads=9, kv_heads=3)
    reader = gguf.GGUFReader(path)
    model = json.loads((directory / "tokenizer.json").read_text())["model"]
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    assert model["vocab"] == {token: i for i, token in enumerate(tokens)}
    assert [" ".join(pair) for pair in model["merges"]] == reader.fields["tokenizer.ggml.merges"].contents()
    assert load_tokenizer(directory).chat_template == reader.fields["tokenizer.chat_template"].contents()


@pytest.mark.smollm2
def test_a_second_start_of_smollm2_costs_milliseconds(smollm2):
    import time

    seconds = []
    for _ in range(5):
        began = time.process_time()  # a busy machine lets it wait for longer
        assert materialise(CATALOGUE["smollm2"]) == smollm2[1]
        seconds.append(time.process_time() - began)
    assert min(seconds) < 0.1, seconds  # 0.06 where a cache of an earlier elimtool has its vocabulary parsed


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", store.RECORD])
def test_a_damaged_conversion_is_made_anew_and_the_users_file_is_not_blamed(tmp_path, monkeypatch, name):
    monkeypatch.setenv("ELIMTOOL_CACHE", str(tmp_path / "cache"))
    path = write_gguf(tmp_path / "t.gguf")
    directory = gguf_directory(path)
    whole = (directory / name).read_bytes()
    (directory / name).write_bytes(whole[: len(whole) // 2])
    with pytest.warns(UserWarning, match="in the cache is damaged, and is made anew"):
        assert gguf_directory(path) == directory
    assert store.is_intact(directory)
    if name != store.RECORD:  # which holds times
        assert (directory / name).read_bytes() == whole
