"""The beginning of an answer: the open turn against transformers, its span, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from elimtool.errors import ElimError
from elimtool.model.tokens import Tokenizer
from elimtool.model.view import Encoded
from elimtool.prompts.prompt import Message, Prompt, SpanRequest
from tests.conftest import byte_tokenizer
from tests.model.tokenizers import encode

TEMPLATES = {
    "own": None,
    "trimming": "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] | trim }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}",
    "other role": "{% for m in messages %}[{{ 'model' if m['role'] == 'assistant' else m['role'] }}] "
    "{{ m['content'] }}[end]\n{% endfor %}{% if add_generation_prompt %}[model] {% endif %}",
    "indexed": "{% for m in messages %}{{ loop.index }}. {{ m['content'] }}\n{% endfor %}",
}
CHAT = (Message("system", "Be brief."), Message("user", "Which one?"))


def _tokenizer(template: str | None) -> Tokenizer:
    backend: Any = byte_tokenizer()
    backend.chat_template = template or backend.chat_template
    return Tokenizer(backend)


def _spelled(one: Encoded, name: str) -> str:
    (tokens,) = (span.tokens for span in one.spans if span.name == name)
    return "".join(one.tokens[index] for index in tokens)


def _names(one: Encoded) -> list[str]:
    return [span.name for span in one.spans]


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
@pytest.mark.parametrize("begun", ["The first", "The first ", "\n- a\n", "Be brief.", "assistant"])
def test_the_turn_is_left_open_as_transformers_leaves_it(template: str | None, begun: str) -> None:
    tokenizer = _tokenizer(template)
    turns = [{"role": one.role, "content": one.content} for one in (*CHAT, Message("assistant", begun))]
    own = tokenizer.backend.apply_chat_template(turns, continue_final_message=True, return_dict=False)
    given = Prompt(messages=(*CHAT, Message("assistant", begun)))
    for prompt in (given, Prompt(messages=CHAT).with_prefill(begun)):
        one = encode(prompt, tokenizer, context=None)
        assert list(one.token_ids) == own
        assert one.positions == (len(own) - 1,)
        assert _spelled(one, "prefill").strip() == begun.strip()
        assert one.n_prefill == len(next(span for span in one.spans if span.name == "prefill").tokens)
        assert one.token_ids[-1] in {
            one.token_ids[i] for s in one.spans if s.name == "prefill" for i in s.tokens
        }


def test_only_the_message_that_is_continued_is_the_prefill() -> None:
    turns = (*CHAT, Message("assistant", "This."), Message("user", "Sure?"), Message("assistant", "Yes, "))
    one = encode(Prompt(messages=turns), _tokenizer(None), context=None)
    assert _names(one) == ["<sink>", "system", "user", "assistant", "prefill", "<rest>"]
    assert (_spelled(one, "assistant"), _spelled(one, "prefill")) == ("This.", "Yes, ")
    closed = encode(Prompt(messages=turns[:-1]), _tokenizer(None), context=None)
    assert closed.n_prefill == 0 and "prefill" not in _names(closed)
    assert closed.text.endswith("assistant\n")


def test_behind_a_text_the_prefill_is_appended_and_a_span() -> None:
    tokenizer = _tokenizer(None)
    prompt = Prompt(text="The capital of").with_prefill(" France is")
    one = encode(prompt, tokenizer, context=None)
    plain = encode(Prompt(text="The capital of France is"), tokenizer, context=None)
    assert (one.token_ids, one.text, one.prompt_id) == (plain.token_ids, plain.text, plain.prompt_id)
    assert _spelled(one, "prefill") == " France is"
    assert one.spans[:2] == plain.spans[:2], "the tokens before it are spans of their own"
    assert sorted(i for span in one.spans for i in span.tokens) == list(range(len(one.token_ids)))
    every = encode(prompt, tokenizer, context=None, units="tokens")
    assert every.spans == plain.spans and every.n_prefill == one.n_prefill, "tokens were asked for"


def test_among_named_spans_and_sentences_it_is_a_span_too() -> None:
    tokenizer = _tokenizer(None)
    named = Prompt(text="The capital of", spans=(SpanRequest("what", "capital"),)).with_prefill(" France is")
    one = encode(named, tokenizer, context=None)
    assert _names(one) == ["<sink>", "what", "prefill", "<rest>"]
    inside = Prompt(text="The capital of", spans=(SpanRequest("where", "France"),)).with_prefill(" France is")
    assert _spelled(encode(inside, tokenizer, context=None), "prefill").strip() == "is"
    long = Prompt(text="A token of the text. " * 12).with_prefill("The model is")
    one = encode(long, tokenizer, context=None)
    assert _names(one)[-1] == "prefill" and _names(one)[1].startswith("S1: ")
    covered = [i for span in one.spans[1:] for i in span.tokens]
    assert sorted(covered) == list(range(len(one.token_ids))), "each token once, in a sentence or the prefill"
    chat = Prompt(messages=CHAT, spans=(SpanRequest("what", "one"),)).with_prefill("It")
    assert _names(encode(chat, tokenizer, context=None)) == ["<sink>", "what", "prefill", "<rest>"]


def test_targets_continue_the_prefill() -> None:
    """The blank before the word is appended behind the prefill, and the word's first token is read."""
    prompt = Prompt(messages=CHAT).with_prefill("It is")
    plain = encode(prompt, _tokenizer(None), context=None)
    one = encode(replace(prompt, targets=("Paris",)), _tokenizer(None), context=None)
    blank, *word = byte_tokenizer()(" Paris").input_ids
    assert one.token_ids == (*plain.token_ids, blank) and one.n_appended == 1
    assert one.targets[0].token_ids == tuple(word)
    assert _spelled(one, "prefill") == _spelled(plain, "prefill")


def test_what_cannot_be_a_prefill_is_refused() -> None:
    for text in ("", "a\udc80"):
        with pytest.raises(ElimError, match="prefill"):
            Prompt(text="a").with_prefill(text)
    with pytest.raises(ElimError, match="cannot follow the assistant's message"):
        Prompt(messages=(*CHAT, Message("assistant", "Yes"))).with_prefill("No")
    with pytest.raises(ElimError, match="cannot follow the assistant's message"):
        Prompt(text="a").with_prefill("b").with_prefill("c")
    for count in (-1, 1, 5):
        with pytest.raises(ElimError, match="`n_prefill` must leave a prompt before it"):
            Prompt(text="a", n_prefill=count)
    named = Prompt(text="a b", spans=(SpanRequest("prefill", "a"),)).with_prefill(" c")
    with pytest.raises(ElimError, match="span name 'prefill' is given twice"):
        encode(named, _tokenizer(None), context=None)
