"""Prompts, messages and spans before any tokenizer: reading, locating, refusing."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elimtool.errors import ElimError
from elimtool.prompts.prompt import (
    REST,
    SINK,
    Message,
    Prompt,
    SpanRequest,
    as_prompts,
    check_unicode,
    default_id,
)

TEXT = "Paris is in France, and France is in Europe."


def test_a_span_is_read_from_name_and_text() -> None:
    assert SpanRequest.parse("country=France") == SpanRequest("country", "France")
    assert SpanRequest.parse(" a b =x=y ") == SpanRequest("a b", "x=y ")
    assert SpanRequest.parse("tail=#2") == SpanRequest("tail", "#2")


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("France", "NAME=TEXT"),
        ("=France", "NAME=TEXT"),
        ("  =France", "NAME=TEXT"),
        ("country=", "NAME=TEXT"),
        ("<sink>=France", "reserved"),
        ("<rest>=France", "reserved"),
        ("a\udcff=France", "surrogate"),
    ],
)
def test_a_span_that_cannot_be_read_is_refused(argument: str, says: str) -> None:
    with pytest.raises(ElimError, match=says):
        SpanRequest.parse(argument)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "either a text or a start"),
        ({"text": "x", "start": 0, "end": 1}, "not both"),
        ({"text": "x", "end": 1}, "not both"),
        ({"start": 1}, "either a text or a start"),
        ({"text": ""}, "empty text"),
        ({"text": "x", "occurrence": 0}, "`occurrence` must be at least 1, got 0"),
    ],
)
def test_half_a_span_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ElimError, match=says):
        SpanRequest("name", **options)


def test_a_text_is_located_by_characters() -> None:
    assert SpanRequest("a", "Paris").locate(TEXT) == (0, 5)
    assert SpanRequest("a", "Europe.").locate(TEXT) == (37, 44)
    assert SpanRequest("a", "🇫🇷").locate("flag 🇫🇷!") == (5, 7)
    assert SpanRequest("a", start=0, end=44).locate(TEXT) == (0, 44)


def test_a_text_found_twice_is_refused_with_the_way_out() -> None:
    with pytest.raises(ElimError, match="occurs 2 times") as caught:
        SpanRequest("c", "France").locate(TEXT)
    assert "c=France#2" in caught.value.hint
    assert SpanRequest.parse("c=France#1").locate(TEXT) == (12, 18)
    assert SpanRequest.parse("c=France#2").locate(TEXT) == (24, 30)
    assert SpanRequest("c", "France", occurrence=2).locate(TEXT) == (24, 30)
    with pytest.raises(ElimError, match="no occurrence 3 of 'France'") as caught:
        SpanRequest.parse("c=France#3").locate(TEXT)
    assert caught.value.hint == "it occurs 2 times"


def test_overlapping_occurrences_are_counted() -> None:
    assert SpanRequest.parse("a=aa#2").locate("aaa") == (1, 3)
    with pytest.raises(ElimError, match="occurs 2 times"):
        SpanRequest.parse("a=aa").locate("aaa")


def test_a_text_that_ends_like_an_occurrence_is_taken_as_it_stands_first() -> None:
    assert SpanRequest.parse("a=C#2").locate("the chords C and C#2 here") == (17, 20)
    assert SpanRequest.parse("a=C#2#2").locate("C#2 and C#2") == (8, 11)
    assert SpanRequest.parse("a=C#0").locate("see C#0") == (4, 7)
    with pytest.raises(ElimError, match="'C#0' is not in the prompt"):
        SpanRequest.parse("a=C#0").locate("C C C")


def test_a_set_occurrence_is_not_overruled_by_the_text() -> None:
    with pytest.raises(ElimError, match="'C#2' is not in the prompt"):
        SpanRequest("a", "C#2", occurrence=1).locate("C C C")


def test_a_text_that_is_not_there_is_refused() -> None:
    with pytest.raises(ElimError, match="'france' is not in the prompt") as caught:
        SpanRequest("c", "france").locate(TEXT)
    assert "case" in caught.value.hint


@pytest.mark.parametrize(
    ("start", "end", "says"),
    [(0, 45, "outside"), (-1, 3, "outside"), (5, 3, "outside"), (44, 45, "outside"), (3, 3, "empty")],
)
def test_characters_out_of_range_are_refused(start: int, end: int, says: str) -> None:
    with pytest.raises(ElimError, match=says):
        SpanRequest("c", start=start, end=end).locate(TEXT)


@given(st.text(min_size=1), st.data())
def test_every_part_of_a_text_is_located_where_it_is(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    part = text[start:end]
    number = sum(text.startswith(part, i) for i in range(start + 1))
    assert SpanRequest("s", part, occurrence=number).locate(text) == (start, end)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "either a text or messages"),
        ({"text": "x", "messages": (Message("user", "x"),)}, "not both"),
        ({"text": "x", "targets": ("",)}, "empty target"),
        ({"text": "x", "foils": ("a", "")}, "empty foil"),
        ({"text": "x", "targets": "Paris"}, "`targets` must be a list of strings, got 'Paris'"),
        ({"text": "x", "targets": ("a",), "foils": ("a",)}, "both a target and a foil"),
        ({"text": "x", "targets": ("\udcff",)}, "surrogate"),
        ({"text": "x", "id": "\udcff"}, "surrogate"),
        ({"text": "x", "spans": (SpanRequest("a", "x"), SpanRequest("a", "y"))}, "given twice"),
    ],
)
def test_a_prompt_that_contradicts_itself_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ElimError, match=says):
        Prompt(**options)


def test_names_of_spans_of_its_own_stand_in_one_place() -> None:
    for path in sorted((Path(__file__).parents[2] / "elimtool").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        told = {id(one.value) for one in ast.walk(tree) if isinstance(one, ast.Expr)}  # docstrings
        texts = [one for one in ast.walk(tree) if isinstance(one, ast.Constant) and id(one) not in told]
        found = [one.value for one in texts if isinstance(one.value, str)]
        named = [text for text in found if SINK in text or REST in text]
        assert named == ([SINK, REST] if path.parts[-2:] == ("prompts", "prompt.py") else []), path


@pytest.mark.parametrize("role", ["", SINK, REST])
def test_a_role_must_have_a_name_of_its_own(role: str) -> None:
    with pytest.raises(ElimError, match=r"role|reserved"):
        Message(role, "x")


def test_the_default_id_is_the_hash_of_the_text() -> None:
    assert default_id("abc") == hashlib.sha256(b"abc").hexdigest()[:16]
    assert len(default_id("\udcff")) == 16  # a prompt that is refused has an id too
    assert default_id("a") != default_id("a ")


def test_one_prompt_and_many_are_taken() -> None:
    assert as_prompts("a") == [Prompt(text="a")]
    assert as_prompts(Prompt(text="a")) == [Prompt(text="a")]
    assert as_prompts(iter(["a", Prompt(text="b")])) == [Prompt(text="a"), Prompt(text="b")]


def test_a_surrogate_is_found_where_it_is() -> None:
    check_unicode("x", "é🇫🇷\0")
    with pytest.raises(ElimError, match="x is not valid Unicode: a lone surrogate at character 2"):
        check_unicode("x", "ab\ud800")
