"""Token ids and token texts of every kind of tokenizer, against the tokenizer's own word."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elimtool.errors import ElimError
from elimtool.model.tokens import _BYTES, Tokenizer
from elimtool.prompts.prompt import Message
from tests.conftest import byte_tokenizer
from tests.model.tokenizers import gpt2_like, sentencepiece, word_level

KINDS: dict[str, Any] = {
    "byte level": byte_tokenizer(),
    "byte level, BOS": byte_tokenizer(bos=True),
    "GPT-2": gpt2_like(),
    "GPT-2, prefix space": gpt2_like(add_prefix_space=True),
    "SentencePiece": sentencepiece("always"),
    "SentencePiece, first": sentencepiece("first"),
    "SentencePiece, no prefix": sentencepiece("never"),
    "T5": sentencepiece(bos=False, eos=True),
    "BOS and EOS": sentencepiece(eos=True),
    "words": word_level(),
    "BERT": word_level("[CLS] $A [SEP]"),
}
SPELLING = [kind for kind in KINDS if kind not in ("words", "BERT")]
PREFIXING = ["GPT-2, prefix space", "SentencePiece", "SentencePiece, first", "T5", "BOS and EOS"]
TEXTS = [
    "The capital of France is Paris.",
    " Paris",
    "two  spaces\n\nand\ttabs \x00 \x7f",
    "naïve café, e\u0301 combining",
    "日本語とไทย",
    "👍🏽 👩‍👩‍👧 🇫🇷",
    "﷽ ä̶̢ \u200d\ufeff",
]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_the_tokenizers_own_but_for_a_trailing_eos(kind: str, text: str) -> None:
    own = KINDS[kind](text).input_ids
    if kind in ("T5", "BERT", "BOS and EOS"):
        own = own[:-1]
    encoded = Tokenizer(KINDS[kind]).encode(text)
    assert list(encoded.ids) == own
    assert len(encoded.offsets) == len(encoded.ids)


def test_without_specials_no_kind_adds_any(kind: str) -> None:
    own = KINDS[kind]("The capital", add_special_tokens=False).input_ids
    assert list(Tokenizer(KINDS[kind]).encode("The capital", special=False).ids) == own


@pytest.mark.parametrize(
    ("kind", "policy"),
    [
        ("byte level", "none"),
        ("byte level, BOS", "<|start|>"),
        ("SentencePiece", "<s>"),
        ("BOS and EOS", "<s>"),
        ("T5", "none"),
        ("words", "none"),
        ("BERT", "[CLS]"),
    ],
)
def test_the_bos_policy_is_what_comes_before_a_text(kind: str, policy: str) -> None:
    assert Tokenizer(KINDS[kind]).bos_policy == policy


def test_an_unknown_first_token_is_no_bos() -> None:
    assert Tokenizer(word_level("$A [SEP]")).bos_policy == "none"
    assert Tokenizer(word_level("[CLS] [SEP] $A")).bos_policy == "[CLS][SEP]"


def test_only_the_appended_eos_is_dropped() -> None:
    encoded = Tokenizer(KINDS["T5"]).encode("The capital</s>")
    assert KINDS["T5"].convert_ids_to_tokens(list(encoded.ids)) == ["▁The", "▁capital", "</s>"]


def test_a_text_of_specials_only_has_no_token() -> None:
    assert Tokenizer(KINDS["BERT"]).encode("  ").ids == ()


@pytest.mark.parametrize("kind", SPELLING)
@given(text=st.text(st.characters(exclude_categories=["Cs"]).filter(lambda c: c not in "▁"), max_size=20))
def test_the_texts_of_the_tokens_spell_the_prompt(kind: str, text: str) -> None:
    tokenizer = Tokenizer(KINDS[kind])
    spelled = b"".join(map(tokenizer.spell, tokenizer.encode(text, special=False).ids)).decode()
    assert spelled == text or (kind in PREFIXING and spelled == " " + text)


@pytest.mark.parametrize(
    ("kind", "text", "texts"),
    [
        ("byte level", "The capital", ["The", " capital"]),
        ("byte level", "\n", ["\n"]),
        ("byte level", "é", [r"\xc3", r"\xa9"]),
        ("byte level", "👍", [r"\xf0", r"\x9f", r"\x91", r"\x8d"]),
        ("byte level", "日", [r"\xe6", r"\x97", r"\xa5"]),
        ("byte level", "<|start|>a", ["<|start|>", "a"]),
        ("SentencePiece", "The capital", ["<s>", " The", " capital"]),
        ("SentencePiece", "The日", ["<s>", " The", r"\xe6", r"\x97", r"\xa5"]),
        ("SentencePiece", "The\x00", ["<s>", " The", "\x00"]),
        ("SentencePiece", "The</s>", ["<s>", " The", "</s>"]),
        ("words", "The zebra", ["The", "[UNK]"]),
    ],
)
def test_token_texts_are_written_as_expected(kind: str, text: str, texts: list[str]) -> None:
    tokenizer = Tokenizer(KINDS[kind])
    assert tokenizer.texts(tokenizer.encode(text).ids) == texts


def test_whole_multi_byte_pieces_are_shown_as_text() -> None:
    from tokenizers import AddedToken

    backend = byte_tokenizer()
    backend.add_tokens([AddedToken("é", normalized=False), "<tool call>", "中Ġ"])
    tokenizer = Tokenizer(backend)
    assert tokenizer.texts(tokenizer.encode("aé<tool call>中Ġ").ids) == ["a", "é", "<tool call>", "中Ġ"]
    assert tokenizer.special_ids == {0, 1, 2}


def test_ids_beyond_the_vocabulary_are_named(kind: str) -> None:
    assert Tokenizer(KINDS[kind]).texts([49_000, 10**6]) == ["<unused 49000>", "<unused 1000000>"]


def test_the_byte_alphabet_is_transformers_own() -> None:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    assert {letter: byte for byte, letter in bytes_to_unicode().items()} == _BYTES


@pytest.mark.parametrize("text", [" a  b", "The  capital of  France ", "   ", "a 👍🏽 b", "é  é"])
def test_offsets_hold_the_spaces_that_gpt2_cuts_off(text: str) -> None:
    trimmed, whole = Tokenizer(gpt2_like()), Tokenizer(gpt2_like(trim_offsets=False))
    assert trimmed.encode(text) == whole.encode(text)
    assert all(start < end for start, end in trimmed.encode(text).offsets)


@pytest.mark.parametrize("kind", SPELLING)
@pytest.mark.parametrize(
    ("prompt", "target"),
    [
        ("The capital is", " Paris"),
        ("The capital is ", "Paris"),
        ("The capital is ", " Paris"),
        ("The (", "Paris"),
        ("The Par", "is"),
        ("The\n", "Paris"),
        ("The", " 日本"),
        ("The", "👍🏽"),
        ("日", "本"),
    ],
)
def test_a_continuation_spells_the_target(kind: str, prompt: str, target: str) -> None:
    tokenizer = Tokenizer(KINDS[kind])
    ids = tokenizer.continuation(prompt, target, special=True)
    assert b"".join(map(tokenizer.spell, ids)).decode() == target


def test_a_continuation_is_what_the_joined_text_goes_on_with() -> None:
    tokenizer = Tokenizer(KINDS["SentencePiece"])
    assert tokenizer.texts(tokenizer.continuation("The capital is", " Paris", special=True)) == [" Paris"]
    assert tokenizer.texts(tokenizer.continuation("The (", "Paris", special=True)) == ["Paris"]
    assert Tokenizer(KINDS["BERT"]).continuation("The capital", " Paris", special=True) == (8,)


def test_ids_that_the_model_has_no_embedding_for_are_refused() -> None:
    tokenizer = Tokenizer(byte_tokenizer(), n_ids=50)
    assert tokenizer.encode("!").ids
    with pytest.raises(ElimError, match="beyond the model's 50 embeddings"):
        tokenizer.encode("The")
    with pytest.raises(ElimError, match="beyond the model's 50 embeddings"):
        tokenizer.continuation("!", "z", special=True)


def test_a_slow_tokenizer_is_refused(tmp_path: Any) -> None:
    from transformers.tokenization_python import PreTrainedTokenizer

    class Letters(PreTrainedTokenizer):
        vocab_size = 128

        def get_vocab(self) -> dict[str, int]:
            return {chr(i): i for i in range(128)}

        def _tokenize(self, text: str, **_: Any) -> list[str]:
            return list(text)

        def _convert_token_to_id(self, token: str) -> int:
            return ord(token)

        def _convert_id_to_token(self, index: int) -> str:
            return chr(index)

    with pytest.raises(ElimError, match="Letters has no fast version") as caught:
        Tokenizer(Letters())
    assert caught.value.hint


def test_a_chat_is_rendered_by_the_template_and_gets_no_second_bos() -> None:
    tokenizer = Tokenizer(byte_tokenizer(bos=True))
    turns = [Message("system", "Be brief."), Message("user", "Hi")]
    text = tokenizer.render(turns).text
    assert text == ("<|start|>system\nBe brief.<|end|>\n<|start|>user\nHi<|end|>\n<|start|>assistant\n")
    own = tokenizer.backend.apply_chat_template(
        [{"role": turn.role, "content": turn.content} for turn in turns],
        add_generation_prompt=True,
        return_dict=False,
    )
    assert list(tokenizer.encode(text, special=False).ids) == own
    assert own.count(0) == 3
    assert tokenizer.render([*turns, Message("assistant", "Hello")]).text == f"{text}Hello"


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (None, "no chat template"),
        ("{{ raise_exception('roles must\nalternate') }}", "refuses these messages: roles must alternate"),
        ("{{ messages[0]['content'] + 1 }}", "refuses these messages"),
        ("{% for %}", "fails with TemplateSyntaxError"),
    ],
)
def test_a_template_that_is_missing_or_refuses_is_one_error(template: str | None, says: str) -> None:
    backend = byte_tokenizer()
    backend.chat_template = template
    with pytest.raises(ElimError, match=says) as caught:
        Tokenizer(backend).render([Message("user", "Hi")])
    assert caught.value.hint
