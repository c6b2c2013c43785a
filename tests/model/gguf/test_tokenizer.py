"""The tokenizer of a GGUF file: its tokens, its cuts and its chat template are the model's own."""

import json
from pathlib import Path

import pytest
from gguf import GGUFReader as open_vocabulary
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from elimtool.errors import ElimError
from elimtool.model import store
from elimtool.model.gguf import convert
from elimtool.model.gguf_tokenizer import save_tokenizer
from elimtool.model.pretokenizers import PRE_TOKENIZERS
from elimtool.model.tokens import Tokenizer as Words
from tests.model import tiny_gguf
from tests.model.gguf.conftest import load_tokenizer
from tests.model.spm_gguf import SETTINGS, write_spm
from tests.model.tiny_gguf import write_gguf

LLAMA_CPP = Path(__file__).parents[2] / "data" / "llama_cpp_tokens.json"


def test_vocabulary_and_merges_are_the_files(tiny):
    document = json.loads((tiny[1] / "tokenizer.json").read_text())
    assert document["model"]["vocab"] == {token: i for i, token in enumerate(tiny_gguf.vocabulary())}
    assert [" ".join(pair) for pair in document["model"]["merges"]] == tiny_gguf.MERGES
    assert len(load_tokenizer(tiny[1])) == len(tiny_gguf.vocabulary())


def test_special_tokens_are_single_ids_and_user_defined_ones_are_not_special(tiny):
    tokenizer = load_tokenizer(tiny[1])
    assert tokenizer("<|im_start|> the<think><|im_end|>").input_ids == [
        1,
        tokenizer.convert_tokens_to_ids("Ġthe"),
        tokenizer.convert_tokens_to_ids("<think>"),
        2,
    ]
    assert sorted(tokenizer.all_special_ids) == [0, 1, 2]
    named = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id, tokenizer.pad_token_id)
    assert named == (1, 2, 0, None)
    think = tokenizer.convert_tokens_to_ids("<think>")
    assert tokenizer.decode([1, think, 2], skip_special_tokens=True) == "<think>"


@pytest.mark.parametrize(
    ("pre", "expected"), [("gpt-2", ["12", "Ġthe", "Ġ", "12"]), ("smollm", ["1", "2", "Ġthe", "Ġ", "1", "2"])]
)
def test_the_converted_tokenizer_cuts_numbers_as_the_file_asks(tmp_path, pre, expected):
    convert(write_gguf(tmp_path / "t.gguf", pre=pre), tmp_path / "out")
    assert load_tokenizer(tmp_path / "out").tokenize("12 the 12") == expected


def test_chat_template_comes_along(tiny):
    rendered = load_tokenizer(tiny[1]).apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False
    )
    assert rendered == "<|im_start|>hi<|im_end|>"


@pytest.mark.parametrize(
    ("pre", "add_bos", "expected"),
    [
        ("smollm", False, False),
        ("smollm", None, False),
        ("smollm", True, True),
        ("llama-bpe", None, True),
        ("llama-bpe", False, False),
    ],
)
def test_bos_is_added_only_where_the_file_or_its_family_asks(tmp_path, pre, add_bos, expected):
    convert(write_gguf(tmp_path / "t.gguf", pre=pre, add_bos=add_bos), tmp_path / "out")
    tokenizer = load_tokenizer(tmp_path / "out")
    plain = tokenizer("a", add_special_tokens=False).input_ids
    assert tokenizer("a").input_ids == ([1, *plain] if expected else plain)


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_text_survives_encoding_and_decoding(tiny, text):
    backend = Tokenizer.from_file(str(tiny[1] / "tokenizer.json"))
    assert backend.decode(backend.encode(text).ids, skip_special_tokens=False) == text


def pieces(pre: str, text: str) -> list[str]:
    """The cuts of a pre-tokenizer, in the byte alphabet."""
    from tokenizers.models import BPE

    document = json.loads(Tokenizer(BPE()).to_str())
    document["pre_tokenizer"] = PRE_TOKENIZERS[pre].document()
    cut = Tokenizer.from_str(json.dumps(document)).pre_tokenizer.pre_tokenize_str(text)
    return [piece for piece, _ in cut]


@pytest.mark.parametrize(
    ("pre", "expected"),
    [
        ("gpt-2", ["I", "'ll", "Ġpay", "Ġ12345", "ĠĠ", "ĠUSD", "!!", "Ċ", "Ċ", "x"]),
        ("smollm", ["I", "'ll", "Ġpay", "Ġ", "1", "2", "3", "4", "5", "ĠĠ", "ĠUSD", "!!", "Ċ", "Ċ", "x"]),
        ("llama-bpe", ["I", "'ll", "Ġpay", "Ġ", "123", "45", "ĠĠ", "ĠUSD", "!!ĊĊ", "x"]),
        ("qwen2", ["I", "'ll", "Ġpay", "Ġ", "1", "2", "3", "4", "5", "ĠĠ", "ĠUSD", "!!ĊĊ", "x"]),
        ("gpt-4o", ["I'll", "Ġpay", "Ġ", "123", "45", "ĠĠ", "ĠUSD", "!!ĊĊ", "x"]),
        ("tekken", ["I", "'ll", "Ġpay", "Ġ", "1", "2", "3", "4", "5", "ĠĠ", "ĠUSD", "!!ĊĊ", "x"]),
        ("falcon", ["I", "'", "ll", "Ġpay", "Ġ", "123", "45", "ĠĠ", "ĠUSD", "!!", "Ċ", "Ċ", "x"]),
        ("deepseek-v3", ["I", "'ll", "Ġpay", "Ġ", "123", "45", "ĠĠ", "ĠUSD", "!!ĊĊ", "x"]),
        ("glm5", ["I", "'ll", "Ġpay", "Ġ", "123", "45", "ĠĠ", "ĠUSD", "!!ĊĊ", "x"]),
        ("seed-coder", ["I", "'ll", "Ġpay", "Ġ", "1", "2", "3", "4", "5", "ĠĠ", "ĠUSD", "!!", "ĊĊ", "x"]),
        ("command-r", ["I", "'ll", "Ġpay", "Ġ", "1", "2", "3", "4", "5", "ĠĠ", "ĠUSD", "!!", "Ċ", "Ċ", "x"]),
        ("deepseek-coder", [*"I'", "ll", "Ġpay", "Ġ", *"12345", "ĠĠ", "ĠUSD", "!!", "Ċ", "Ċ", "x"]),
    ],
)
def test_text_is_cut_as_the_family_cuts_it(pre, expected):
    assert pieces(pre, "I'll pay 12345   USD!!\n\nx") == expected


def test_expressions_agree_with_the_tokenizers_that_transformers_ships():
    mapping = pytest.importorskip("transformers.integrations.gguf.gguf_tokenizer_mapping")
    compared = 0
    for name, expression in mapping.GGUF_PRE_TOKENIZER_SPLITS.items():
        if name in PRE_TOKENIZERS:
            assert PRE_TOKENIZERS[name].steps[0]["pattern"]["Regex"] == expression, name
            compared += 1
    assert compared >= 5


@pytest.mark.parametrize("pre", ["llama-bpe", "qwen2"])
def test_normaliser_and_merge_rule_follow_the_family(tmp_path, pre):
    convert(write_gguf(tmp_path / "t.gguf", pre=pre), tmp_path / "out")
    document = json.loads((tmp_path / "out" / "tokenizer.json").read_text())
    assert document["model"]["ignore_merges"] is (pre == "llama-bpe")
    assert document["normalizer"] == ({"type": "NFC"} if pre == "qwen2" else None)


def test_a_file_without_a_pre_tokenizer_is_warned_about_and_recorded(tmp_path):
    with pytest.warns(UserWarning, match="names no pre-tokenizer"):
        convert(write_gguf(tmp_path / "t.gguf", pre=None), tmp_path / "out")
    assert "names no pre-tokenizer" in store.read_record(tmp_path / "out")["notes"][0]


@pytest.mark.parametrize("pre", ["marsian", "llama-bpf"])
def test_an_unknown_pre_tokenizer_is_refused(tmp_path, pre):
    with pytest.raises(ElimError, match=f"'{pre}' is not known") as caught:
        convert(write_gguf(tmp_path / "t.gguf", pre=pre), tmp_path / "out")
    assert "Hugging Face directory" in caught.value.hint
    assert ("did you mean 'llama-bpe'" in caught.value.hint) is (pre == "llama-bpf")
    assert not (tmp_path / "out").exists()


TEXTS = [
    "The capital of France is Paris.",
    "naïve café, e\u0301 decomposed, Ωμέγα, Привет, こんにちは世界, 한국어, العربية, עברית, ไทย, हिन्दी",
    "👩‍👩‍👧‍👦 🇫🇷 👍🏽 ✈️ 𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
    "1234 -5.67e-8 ٣٤٥ ½ ² 第12章",
    "  two   three    four\t\ttab \n\n\r\n end  ",
    "def f(x):\n    return {'a': [x**2, \"s\"], 'b': x // 3}  # don't\n",
]


@pytest.mark.smollm2
def test_smollm2_tokens_are_those_of_the_original(smollm2):
    tokenizer = load_tokenizer(smollm2[1])
    assert tokenizer.tokenize("1234") == ["1", "2", "3", "4"]
    assert tokenizer.tokenize(" 42") == ["Ġ", "4", "2"]
    assert tokenizer("The capital").input_ids == tokenizer("The capital", add_special_tokens=False).input_ids
    assert tokenizer("<|im_start|>user\nhi<|im_end|>").input_ids[::4] == [1, 2]
    assert sorted(tokenizer.all_special_ids) == [0, 1, 2]
    for text in TEXTS:
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert chat.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")


@pytest.mark.parametrize("setting", SETTINGS)
def test_tokens_of_the_llama_kind_are_those_of_llama_cpp(tmp_path, setting):
    """Against llama.cpp's own vocabulary code, see scripts/make_gguf_goldens.py."""
    path = write_spm(tmp_path / "v.gguf", setting)
    assert save_tokenizer(path, open_vocabulary(path), tmp_path) == []
    tokenizer = load_tokenizer(tmp_path)
    cases = json.loads(LLAMA_CPP.read_text())[setting]
    assert len(cases) > 150
    for text, ids in cases:
        assert tokenizer(text).input_ids == ids, repr(text)


@pytest.mark.parametrize("setting", ["default", "no prefix"])
def test_text_of_the_llama_kind_survives_encoding_and_decoding(tmp_path, setting):
    path = write_spm(tmp_path / "v.gguf", setting)
    save_tokenizer(path, open_vocabulary(path), tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    for text in ("the cat", " the cat\n", "\u4e2d \U0001f600", "", " "):
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert tokenizer.decode(ids) == text
        assert b"".join(map(Words(tokenizer).spell, ids)).decode().removeprefix(" ") in (text, text[1:])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "t5"}, "its tokenizer is of the kind 't5'"),
        ({"kind": "rwkv"}, "'rwkv'"),
        ({"scored": False}, "has no scores"),
    ],
)
def test_vocabularies_that_cannot_be_converted_exactly_are_refused(tmp_path, options, said):
    path = write_spm(tmp_path / "v.gguf", "default", **options)
    with pytest.raises(ElimError, match=said):
        save_tokenizer(path, open_vocabulary(path), tmp_path)
