"""Whole prompts: what fits, what does not, and positions."""

from __future__ import annotations

from typing import Any

import pytest

from elimtool.errors import ElimError
from elimtool.model.tokens import Tokenizer
from elimtool.prompts.prompt import Message, Prompt, default_id
from tests.conftest import byte_tokenizer
from tests.model.tokenizers import encode, word_level

BYTES = Tokenizer(byte_tokenizer())


def _encode(text: str, **options: Any) -> Any:
    return encode(Prompt(text=text), options.pop("tokenizer", BYTES), **{"context": None, **options})


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(ElimError, match="the prompt is empty") as caught:
        _encode("")
    assert caught.value.hint


def test_a_chat_that_renders_to_nothing_is_refused() -> None:
    backend = byte_tokenizer()
    backend.chat_template = "{# nothing #}"
    with pytest.raises(ElimError, match="empty"):
        encode(Prompt(messages=(Message("user", "x"),)), Tokenizer(backend), context=None)


@pytest.mark.parametrize("template", ["$A", "[CLS] $A", "[CLS] $A [SEP]"])
def test_a_prompt_without_tokens_is_refused(template: str) -> None:
    with pytest.raises(ElimError, match="no token"):
        _encode(" \n", tokenizer=Tokenizer(word_level(template)))


def test_a_prompt_of_one_token_is_fine() -> None:
    one = _encode("The")
    assert (one.tokens, one.positions, one.sinks) == (("The",), (0,), (0,))
    assert [span.name for span in one.spans] == ["<sink>"]


def test_the_context_is_the_most_that_fits() -> None:
    n = len(_encode("The capital of France").token_ids)
    assert len(_encode("The capital of France", context=n).token_ids) == n
    with pytest.raises(ElimError, match=f"has {n} tokens, but the model's context is {n - 1}"):
        _encode("The capital of France", context=n - 1)


@pytest.mark.parametrize("text", ["\ud800", "abc\udcff", "\udc80x"])
def test_a_lone_surrogate_is_refused(text: str) -> None:
    with pytest.raises(ElimError, match="lone surrogate at character"):
        _encode(text)
    with pytest.raises(ElimError, match="lone surrogate at character"):
        encode(Prompt(messages=(Message("user", text),)), BYTES, context=None)


@pytest.mark.parametrize("text", ["\0", "a\0b", "\x1b[31m", "\x7f\x80\u200b\ufeff", "\r\n\t", " "])
def test_control_characters_are_tokens_like_any(text: str) -> None:
    one = _encode(text)
    assert one.text == text
    assert list(one.token_ids) == BYTES.backend(text).input_ids


@pytest.mark.parametrize(
    ("position", "expected"),
    [("last", (2,)), ("all", (0, 1, 2)), (0, (0,)), (2, (2,)), (-1, (2,)), (-3, (0,))],
)
def test_positions(position: Any, expected: tuple[int, ...]) -> None:
    assert _encode("The capital of", position=position).positions == expected


@pytest.mark.parametrize("position", [-4, 3, 10**9, -(10**9)])
def test_positions_outside_are_refused(position: Any) -> None:
    with pytest.raises(ElimError, match=r"`position` .* 3 tokens") as caught:
        _encode("The capital of", position=position)
    told = "give 0 to 2, -3 to -1 from the end, last, or all: 0 'The', 1 ' capital', 2 ' of'"
    assert caught.value.hint == told


def test_the_id_is_the_users_or_the_hash_of_the_rendered_text() -> None:
    assert _encode("The").prompt_id == default_id("The")
    named = encode(Prompt(text="The", id="mine"), BYTES, context=None)
    assert named.prompt_id == "mine"
    chat = encode(Prompt(messages=(Message("user", "The"),)), BYTES, context=None)
    assert chat.prompt_id == default_id(chat.text) != default_id("The")


def test_a_chat_gets_no_bos_beside_its_templates_own() -> None:
    backend = byte_tokenizer(bos=True)
    one = encode(
        Prompt(messages=(Message("user", "The"),), targets=("Paris",)), Tokenizer(backend), context=None
    )
    assert list(one.token_ids) == backend(one.text, add_special_tokens=False).input_ids
    assert one.tokens.count("<|start|>") == one.text.count("<|start|>") == 2
    assert "<|start|>" not in Tokenizer(backend).texts(one.targets[0].token_ids)
    assert _encode("The", tokenizer=Tokenizer(backend)).tokens == ("<|start|>", "The")


def test_a_long_prompt_warns_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import tokenization_utils_base

    said: list[object] = []
    monkeypatch.setattr(tokenization_utils_base.logger, "warning", lambda *words: said.append(words))
    backend = byte_tokenizer()
    backend.model_max_length = 4
    _encode("The capital of France is Paris", tokenizer=Tokenizer(backend))
    assert said == []
