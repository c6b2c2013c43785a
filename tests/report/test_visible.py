"""What is printed shows, and does nothing, whatever text of others it holds."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from elimtool.report.visible import END_ISOLATE, ISOLATE, safe

HARMFUL = ("\x1b", "\r", "\x00", "\x07", "\x08", "\x7f", "\x9b", "\u202e", "\u2066", "\u200b", "\u200f")


def does_something(text: str) -> list[str]:
    """Characters that would act on a terminal, and beginnings of commands of a CI."""
    acting = [
        char
        for char in text
        if char not in f"\n\t{ISOLATE}{END_ISOLATE}\u200c\u200d"
        and unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    ]
    lines = [line for line in text.split("\n") if line.lstrip().startswith("::") or "##[" in line]
    return acting + lines


@given(st.text(st.one_of(st.sampled_from([*HARMFUL, *":#[ \n", ISOLATE, END_ISOLATE]), st.characters())))
def test_nothing_acts_and_again_changes_nothing(text: str) -> None:
    shown = safe(text)
    assert not does_something(shown)
    assert safe(shown) == shown
    depth = 0
    for char in shown:
        depth += (char == ISOLATE) - (char == END_ISOLATE)
        assert depth in (0, 1)
    assert depth == 0


@given(st.text(st.characters(categories=("L", "N", "P", "S", "Zs"), exclude_characters=":#")))
def test_text_that_only_shows_stays(text: str) -> None:
    assert safe(text) == text


def test_examples() -> None:
    assert safe("\x1b[31mX\r::error::y") == "\\x1b[31mX\\r::error::y"
    assert safe("a\n  ::error::y") == "a\n  \\x3a:error::y"
    assert safe("##[group]") == "\\x23#[group]"
    assert safe("نمی\u200cخواهم") == "نمی\u200cخواهم"
