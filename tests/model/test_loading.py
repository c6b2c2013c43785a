"""Names to models: what loads, and one clear error for everything that does not."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from elimtool.errors import ElimError
from elimtool.model.checkpoint import reason
from elimtool.model.loading import load_model, locate
from elimtool.model.view import Batch
from elimtool.prompts.prompt import Prompt
from tests.conftest import byte_tokenizer
from tests.model.loads import refused

pytestmark = pytest.mark.usefixtures("closed_hub")


@pytest.fixture
def directory(llama_directory: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(llama_directory, tmp_path / "copy"))


def _edit(directory: Path, file: str = "config.json", **changes: Any) -> None:
    path = directory / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _reweigh(directory: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = directory / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


# Names


@pytest.mark.parametrize(
    "name", ["/no/such/place", "./nowhere", "~/nowhere", "x.gguf", "a/b/c", "", " ", "/x" * 3000]
)
def test_a_path_that_is_not_there(name: str) -> None:
    assert refused(name).message == f"the model '{name}' does not exist: there is no such file or directory"


def test_a_misspelt_catalogue_name_is_corrected() -> None:
    error = refused("smolm2")
    assert error.message.startswith("'smolm2' is not cached, and the hub cannot be reached")
    assert "did you mean 'smollm2'?" in error.hint


@pytest.mark.parametrize("name", ["a b\nc", "-x", "x" * 300, "a..b", "é"])
def test_a_name_that_is_no_hub_id(name: str) -> None:
    with pytest.raises(ElimError, match="neither a hub id nor a file or directory") as caught:
        load_model(name)
    assert "smollm2" in caught.value.hint


def test_a_file_that_is_no_gguf(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"x")
    assert "is a file, but not a .gguf" in refused(tmp_path / "weights.bin").message


def test_a_revision_of_what_has_none(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "`revision` 'main' is for hub ids" in refused("smollm2", revision="main").message
    assert "`revision` 'main' is no folder of" in refused(directory, revision="main").message
    monkeypatch.setenv("HOME", str(directory.parent))
    assert "`revision` 'main' is no folder of" in refused("~/copy", revision="main").message
    assert "did you mean 'copy'" in refused(directory.parent, revision="cpy").hint


def test_a_revision_of_a_directory_is_a_folder_in_it(directory: Path) -> None:
    found = locate(str(directory.parent), revision=directory.name, progress=print)
    assert found == (directory.resolve(), directory.name)


def test_locate_gives_a_local_directory_as_it_is(directory: Path) -> None:
    assert locate(str(directory), revision=None, progress=print) == (directory.resolve(), "")


# Directories


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("config.json", "has no config.json"),
        ("model.safetensors", "has no weights"),
        ("tokenizer.json", "there is no tokenizer beside config.json"),
    ],
)
def test_a_directory_that_lacks_a_file(missing: str, says: str, directory: Path) -> None:
    (directory / missing).unlink()
    error = refused(directory)
    assert says in error.message
    assert str(directory) in error.message


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{\n"a": 1,\n', "line 3"),
        (b"not json", "line 1"),
        (b"[]", "not a JSON object"),
        (b'{"a": "\xff"}', "UTF-8"),
    ],
)
def test_a_file_that_is_no_json(file: str, content: bytes, says: str, directory: Path) -> None:
    (directory / file).write_bytes(content)
    message = refused(directory).message
    assert f"{file} is not valid: " in message
    assert says in message


@pytest.mark.parametrize(
    "change", [{"model": {"type": "Strange"}}, {"model": {}}, {"added_tokens": 3}, {"decoder": {"type": "x"}}]
)
def test_a_tokenizer_that_cannot_be_built(change: dict[str, Any], directory: Path) -> None:
    _edit(directory, "tokenizer.json", **change)
    assert "the tokenizer cannot be loaded: " in refused(directory).message


@pytest.mark.parametrize("keep", [0, 4, 500, -1])
def test_truncated_weights(keep: int, directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert "model.safetensors is damaged" in refused(directory).message


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_file_that_cannot_be_opened_is_not_called_damaged(file: str, directory: Path) -> None:
    """A link to nowhere, which root too cannot open: safetensors and transformers call it missing."""
    (directory / file).unlink()
    (directory / file).symlink_to(directory / "nowhere" / file)
    message = refused(directory).message
    assert "damaged" not in message and file in message
    if file != "config.json":
        assert f"cannot read {file}: No such file or directory" in message


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04zip"])
def test_damaged_pickled_weights(content: bytes, directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    (directory / "pytorch_model.bin").write_bytes(content)
    message = refused(directory).message
    assert "the model cannot be loaded" in message
    assert "weights_only" not in message


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"vocab_size": 200}, r"lm_head\.weight has shape \[300, 32\], but config.json wants \[200, 32\]"),
        ({"intermediate_size": 50}, "wants"),
        ({"num_hidden_layers": 5}, r"lacks the weight model\.layers\.4\..* and 8 more"),
        ({"num_hidden_layers": 2}, r"more layers than config.json says, .* model\.layers\.2\."),
        ({"num_hidden_layers": 0}, "more layers"),
        ({"num_attention_heads": 0}, "cannot be loaded"),
        ({"num_attention_heads": 3}, "cannot be loaded: .*multiple of the number of attention heads"),
        ({"hidden_size": "wide"}, "cannot be loaded: .*'hidden_size' expected int"),
        ({"hidden_act": "strange"}, "cannot be loaded: 'strange' is missing or not known"),
        ({"dtype": "float99"}, "cannot be loaded"),
        ({"model_type": "qwen99"}, "cannot be loaded: .*`qwen99`"),
        ({"model_type": None, "architectures": None}, "cannot be loaded"),
    ],
)
def test_a_configuration_that_does_not_fit(changes: dict[str, Any], says: str, directory: Path) -> None:
    import re

    _edit(directory, **changes)
    assert re.search(says, refused(directory).message)


@pytest.mark.parametrize("key", ["model.layers.1.mlp.up_proj.weight", "model.norm.weight", "lm_head.weight"])
def test_a_missing_weight_is_not_made_up(key: str, directory: Path) -> None:
    _reweigh(directory, lambda weights: weights.pop(key))
    assert refused(directory).message == f"{directory}: the checkpoint lacks the weight {key}"


def test_weights_that_the_model_has_no_place_for_are_let_be(directory: Path) -> None:
    _reweigh(directory, lambda weights: weights.update({"score.weight": torch.zeros(2)}))
    assert load_model(str(directory)).n_layers == 4


def test_nan_in_the_weights_is_named(directory: Path) -> None:
    key = "model.layers.2.mlp.up_proj.weight"
    _reweigh(directory, lambda weights: weights[key].view(-1)[0].fill_(float("nan")))
    model = load_model(str(directory))
    with pytest.raises(ElimError, match=f"the weight {key} has NaN or infinite values"):
        model.stream(Batch.of([model.encode(Prompt(text="The capital"))]), (), lambda _view: None)


def test_a_tokenizer_of_another_model_is_found_out(directory: Path) -> None:
    backend = byte_tokenizer()
    backend.add_tokens(["extraordinary"])
    backend.save_pretrained(directory)
    model = load_model(str(directory))
    assert model.encode(Prompt(text="The capital")).token_ids
    with pytest.raises(
        ElimError, match=r"token 300 \('extraordinary'\) is beyond the model's 300 embeddings"
    ):
        model.encode(Prompt(text="An extraordinary capital"))


# Kinds of models


def _save(directory: Path, model: Any) -> Path:
    model.save_pretrained(directory)
    byte_tokenizer().save_pretrained(directory)
    return directory


@pytest.mark.parametrize("cls", ["BertModel", "BertForMaskedLM", "BertLMHeadModel"])
def test_an_encoder_is_refused(cls: str, tmp_path: Path) -> None:
    import transformers

    config = transformers.BertConfig(
        vocab_size=300, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    error = refused(_save(tmp_path, getattr(transformers, cls)(config)))
    assert "a model of type bert is an encoder, which fills masked tokens in" in error.message


def test_an_encoder_decoder_is_refused(tmp_path: Path) -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=300, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    error = refused(_save(tmp_path, T5ForConditionalGeneration(config)))
    assert "a model of type t5 is an encoder-decoder" in error.message


def test_an_architecture_without_hooks_is_refused_before_its_weights_are_read(tmp_path: Path) -> None:
    from transformers import CTRLConfig, CTRLLMHeadModel

    config = CTRLConfig(vocab_size=300, n_embd=16, dff=16, n_layer=1, n_head=2)
    _save(tmp_path, CTRLLMHeadModel(config))
    (tmp_path / "model.safetensors").write_bytes(b"")
    error = refused(tmp_path)
    assert "TransformerLens does not support the architecture CTRLLMHeadModel" in error.message
    assert all(f" {kind}," in error.hint for kind in ("llama", "mamba", "qwen2_5_vl", "gpt2"))


def test_a_package_that_the_family_needs_is_named(tmp_path: Path, tokenizer: Any) -> None:
    config = {
        "model_type": "gemma3n",
        "architectures": ["Gemma3nForConditionalGeneration"],
        "text_config": {"num_hidden_layers": 1, "hidden_size": 16, "vocab_size": 300},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"")
    tokenizer.save_pretrained(tmp_path)
    if importlib.util.find_spec("timm"):
        pytest.skip("timm is installed")
    error = refused(tmp_path)
    assert "the model needs the package timm" in error.message
    assert "pip install timm" in error.hint


def test_a_stack_that_is_not_one_is_refused(tmp_path: Path) -> None:
    from transformers import HrmTextConfig, HrmTextForCausalLM

    config = HrmTextConfig(
        vocab_size=300, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, head_dim=8
    )
    error = refused(_save(tmp_path, HrmTextForCausalLM(config)))
    assert "is not one stack of blocks" in error.message


def test_code_that_comes_with_a_model_is_not_run_unless_asked(directory: Path) -> None:
    _edit(
        directory,
        model_type="own",
        architectures=["OwnForCausalLM"],
        auto_map={"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"},
    )
    (directory / "own.py").write_text(
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        f"open({str(directory / 'ran')!r}, 'w').close()\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        "class OwnForCausalLM(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    error = refused(directory)
    assert "needs Python code of its own" in error.message
    assert "`trust_remote_code=True`" in error.hint
    assert not (directory / "ran").exists()
    error = refused(directory, trust_remote_code=True)
    assert "TransformerLens does not support the architecture OwnForCausalLM" in error.message
    assert (directory / "ran").exists()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("A heading:\n\n  the matter. More\nand more"), "A heading: the matter"),
        (KeyError("x"), "'x' is missing or not known"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_an_exception_in_one_line(error: BaseException, line: str) -> None:
    assert reason(error) == line
