"""Spans and sinks as token sets, on several kinds of tokenizers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elimtool.errors import ElimError
from elimtool.model.spans import ONE_BY_ONE, sink_positions, tokens_of
from elimtool.model.tokens import Tokenizer
from elimtool.model.view import Encoded
from elimtool.prompts.prompt import Message, Prompt, SpanRequest
from tests.conftest import byte_tokenizer
from tests.model.tokenizers import encode, gpt2_like, sentencepiece

KINDS = {
    "byte level": Tokenizer(byte_tokenizer()),
    "byte level, BOS": Tokenizer(byte_tokenizer(bos=True)),
    "GPT-2": Tokenizer(gpt2_like()),
    "SentencePiece": Tokenizer(sentencepiece()),
}
TEXT = "The capital of France is Paris."


def _encode(text: str, *spans: SpanRequest, kind: str = "byte level", sinks: str = "auto") -> Encoded:
    return encode(Prompt(text=text, spans=spans), KINDS[kind], context=None, sinks=sinks)


def _sets(one: Encoded) -> dict[str, tuple[int, ...]]:
    return {span.name: span.tokens for span in one.spans}


def _texts(one: Encoded, name: str) -> list[str]:
    return [one.tokens[i] for i in _sets(one)[name]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("text", "part"),
    [
        (TEXT, "The"),
        (TEXT, "France"),
        (TEXT, "Paris."),
        (TEXT, TEXT),
        ("a 👍🏽 b", "👍🏽"),
        ("a 👍🏽 b", "🏽"),
        ("a 👩‍👩‍👧 b", "👩‍👩‍👧"),
        ("cafe\u0301 x", "e\u0301"),
        ("日本語", "本"),
        ("x  y", "  "),
        ("x y", " "),
    ],
)
def test_a_span_is_the_tokens_that_share_a_character_with_it(kind: str, text: str, part: str) -> None:
    one = _encode(text, SpanRequest("s", part), kind=kind)
    start = text.index(part)
    offsets = KINDS[kind].encode(text).offsets
    expected = [
        i for i, (a, b) in enumerate(offsets) if set(range(a, b)) & set(range(start, start + len(part)))
    ]
    assert list(_sets(one)["s"]) == expected
    assert expected


def test_the_pieces_of_one_emoji_all_belong_to_it() -> None:
    one = _encode("a👍b", SpanRequest("s", "👍"))
    assert _texts(one, "s") == [r"\xf0", r"\x9f", r"\x91", r"\x8d"]


def test_spans_may_overlap_and_lie_inside_one_token() -> None:
    one = _encode(
        TEXT, SpanRequest("a", "cap"), SpanRequest("b", "pital of"), SpanRequest("c", start=6, end=7)
    )
    assert _texts(one, "a") == [" capital"]
    assert _texts(one, "b") == [" capital", " of"]
    assert _texts(one, "c") == [" capital"]


def test_the_rest_is_what_spans_and_sinks_leave_over() -> None:
    one = _encode(TEXT, SpanRequest("a", "capital"))
    assert list(_sets(one)) == ["<sink>", "a", "<rest>"]
    assert _sets(one)["<sink>"] == (0,)
    assert sorted(sum(_sets(one).values(), ())) == list(range(len(one.token_ids)))
    assert list(_sets(_encode(TEXT, SpanRequest("a", TEXT)))) == ["<sink>", "a"]
    assert list(_sets(_encode(TEXT, SpanRequest("a", TEXT), sinks="none"))) == ["a"]


def test_a_span_between_tokens_is_refused() -> None:
    from tests.model.tokenizers import word_level

    with pytest.raises(ElimError, match="covers no token"):
        encode(
            Prompt(text="The  capital", spans=(SpanRequest("s", "  "),)),
            Tokenizer(word_level()),
            context=None,
        )


def test_tokens_of_is_half_open() -> None:
    offsets = [(0, 0), (0, 3), (3, 5), (5, 5), (5, 9)]
    assert tokens_of(0, 3, offsets) == (1,)
    assert tokens_of(2, 4, offsets) == (1, 2)
    assert tokens_of(5, 6, offsets) == (4,)
    assert tokens_of(9, 10, offsets) == ()


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("auto", (0, 2)), ("none", ()), ("0", (0,)), ("3,0,3", (0, 3))],
)
def test_sink_rules(rule: str, expected: tuple[int, ...]) -> None:
    assert sink_positions([7, 8, 1, 9], frozenset({1}), rule) == expected


@pytest.mark.parametrize("rule", ["", "AUTO", "0,", ",", "-1", "a", "1.0", "0 3", "٣", "9" * 5000])
def test_sink_rules_that_are_none_are_refused(rule: str) -> None:
    with pytest.raises(ElimError, match="`sinks`"):
        sink_positions([7, 8], frozenset(), rule)


def test_a_sink_outside_the_prompt_is_refused() -> None:
    with pytest.raises(ElimError, match="position 4 is outside the prompt's 4 tokens"):
        sink_positions([7, 8, 1, 9], frozenset(), "0,4")


def test_short_prompts_have_one_span_a_token() -> None:
    assert _sets(_encode("The capital of")) == {"<sink>": (0,), "1: capital": (1,), "2: of": (2,)}
    assert _sets(_encode("The capital of", sinks="none")) == {
        "0:The": (0,),
        "1: capital": (1,),
        "2: of": (2,),
    }


def test_the_change_to_sentences_comes_after_64_tokens() -> None:
    assert len(_encode("!" * ONE_BY_ONE).spans) == ONE_BY_ONE
    one = _encode("!" * (ONE_BY_ONE + 1))
    assert [span.name for span in one.spans] == ["<sink>", "S1: !!!!!!!!!!!!!!!!!!!!!!!…"]


@pytest.mark.parametrize(
    ("text", "starts"),
    [
        ("One is here. Two is there! Three?  Four", ["One", "Two", "Three", "Four"]),
        ('He said "No." Then he left.', ["He", "Then"]),
        ("A line\nand the next\n\nlast", ["A line", "and", "last"]),
        ("第一句。第二句！「第三句。」第四句", ["第一句", "第二句", "「第三句", "第四句"]),
        ("سؤال؟ جواب۔ نعم", ["سؤال", "جواب", "نعم"]),
        ("Version 3.14 costs 2.50 today.", ["Version"]),
        ("No end at all", ["No end"]),
    ],
)
def test_sentences_begin_where_they_should(text: str, starts: Sequence[str]) -> None:
    text = "x" * 70 + ". " + text  # more than 64 tokens
    one = _encode(text)
    offsets = KINDS["byte level"].encode(text).offsets
    spans = [span for span in one.spans if span.name != "<sink>"][1:]
    assert len(spans) == len(starts)
    for number, (span, start) in enumerate(zip(spans, starts, strict=True), start=2):
        assert span.name.startswith(f"S{number}: {start}")
        assert text[offsets[span.tokens[0]][0] :].lstrip().startswith(start)


@pytest.mark.parametrize("kind", KINDS)
@given(
    text=st.text(st.sampled_from("ab. !?。\n é👍\"'日The"), min_size=1, max_size=120),
    sinks=st.sampled_from(["auto", "none", "0"]),
)
def test_default_spans_cover_every_token(kind: str, text: str, sinks: str) -> None:
    one = _encode(text, kind=kind, sinks=sinks)
    sets = _sets(one)
    n = len(one.token_ids)
    assert len(sets) == len(one.spans)
    assert set().union(*sets.values()) == set(range(n))
    own = [i for name, tokens in sets.items() if name != "<sink>" for i in tokens]
    assert len(own) == len(set(own))
    if n <= ONE_BY_ONE:
        assert set(own) == set(range(n)) - set(one.sinks)
        assert all(name == f"{t[0]}:{one.tokens[t[0]]}" for name, t in sets.items() if name != "<sink>")
    else:
        assert own == list(range(n))


def _chat(template: str | None, *turns: tuple[str, str]) -> Encoded:
    backend = byte_tokenizer()
    if template is not None:
        backend.chat_template = template
    messages = tuple(Message(role, content) for role, content in turns)
    return encode(Prompt(messages=messages), Tokenizer(backend), context=None)


def _spelled(one: Encoded, name: str) -> str:
    return "".join(_texts(one, name))


def test_roles_are_spans_over_all_their_messages() -> None:
    one = _chat(None, ("system", "Be brief."), ("user", "One"), ("assistant", "Two"), ("user", "Three"))
    assert [span.name for span in one.spans] == ["<sink>", "system", "user", "assistant", "<rest>"]
    assert _spelled(one, "system") == "Be brief."
    assert _spelled(one, "user") == "OneThree"
    assert _spelled(one, "assistant") == "Two"
    assert sorted(sum(_sets(one).values(), ())) == list(range(len(one.token_ids)))


def test_what_the_template_wrote_is_what_no_message_holds() -> None:
    one = _chat(None, ("system", "Be brief."), ("user", "One"), ("assistant", "Two"), ("user", "Three"))
    contents = [token for name in ("system", "user", "assistant") for token in _sets(one)[name]]
    assert one.templated == frozenset(range(len(one.token_ids))) - set(contents)
    assert {0, len(one.token_ids) - 1} <= one.templated
    backend: Any = byte_tokenizer()
    text = encode(Prompt(text=one.text, targets=("x",)), Tokenizer(backend), context=None)
    assert text.token_ids == one.token_ids and text.templated == frozenset()


def test_a_content_that_the_template_or_another_message_also_holds_is_found_at_its_place() -> None:
    one = _chat(None, ("system", "Say user or Hi."), ("user", "user"), ("assistant", "Hi"), ("user", "Hi"))
    end = one.text.index("<|end|>\n<|start|>assistant")
    spans, offsets = _sets(one), Tokenizer(byte_tokenizer()).encode(one.text, special=False).offsets
    user = [offsets[i] for i in spans["user"]]
    assert user[0][0] == end - len("user")
    assert _spelled(one, "user") == "userHi"
    assert _spelled(one, "assistant") == "Hi"
    assert offsets[spans["assistant"][0]][0] < user[-1][0]


def test_a_template_that_strips_is_followed() -> None:
    template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] | trim }}\n{% endfor %}"
    one = _chat(template, ("user", "  user \n"), ("assistant", "user"), ("system", "x"))
    offsets = Tokenizer(byte_tokenizer()).encode(one.text, special=False).offsets
    assert one.text == "user: user\nassistant: user\nsystem: x\n"
    assert _spelled(one, "user").strip() == _spelled(one, "assistant").strip() == "user"
    assert offsets[_sets(one)["user"][-1]][1] == len("user: user")


def test_a_template_that_leaves_messages_out_is_followed() -> None:
    template = "{% for m in messages if m['role'] != 'system' %}{{ m['content'] }}\n{% endfor %}"
    one = _chat(template, ("system", "Hi"), ("user", "Hi"))
    assert "system" not in _sets(one)
    assert _spelled(one, "user") == "Hi"


def test_a_template_that_rewrites_contents_is_searched() -> None:
    template = "{% for m in messages %}[{{ m['content'].split('|')[-1] }}]{% endfor %}"
    one = _chat(template, ("user", "thought|Hi"), ("assistant", "Yes"), ("user", "x|Go"))
    assert "user" not in _sets(one)
    assert _spelled(one, "assistant") == "Yes"


def test_named_spans_go_before_roles() -> None:
    backend: Any = byte_tokenizer()
    prompt = Prompt(messages=(Message("user", "Hi you"),), spans=(SpanRequest("who", "you"),))
    one = encode(prompt, Tokenizer(backend), context=None)
    assert [span.name for span in one.spans] == ["<sink>", "who", "<rest>"]
