import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from elimtool.report.numbers import heat_step, mean, rank_step, share, times
from elimtool.report.screen import Screen, padded

ANY = st.text(st.characters(), max_size=60)


@given(ANY)
def test_nothing_that_moves_the_cursor_is_left(text):
    shown = Screen().visible(text)
    assert all(char.isprintable() or char in "\u200c\u200d" for char in shown)
    shown.encode("utf-8")


@given(ANY)
def test_ascii_can_write_everything(text):
    Screen(encoding="ascii").quoted(text).encode("ascii")


@given(ANY, st.integers(4, 40), st.sampled_from(["utf-8", "ascii"]))
def test_quotes_fit(text, width, encoding):
    assert cell_len(Screen(80, encoding).quoted(text, width)) <= max(width, 5)


@given(ANY, st.integers(20, 60), st.integers(0, 4))
def test_wrapping_loses_no_word(text, width, indent):
    screen = Screen(width)
    shown = screen.visible(text)
    lines = screen.wrap(shown, indent=indent)
    assert "".join("".join(line.plain.split()) for line in lines) == "".join(shown.split())


def test_a_quoted_token_is_not_broken_from_its_space():
    lines = Screen(20).wrap("the target is now ' Paris' with p = 0.77")
    assert [line.plain for line in lines] == ["the target is now", "' Paris' with", "p = 0.77"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (" Paris", "' Paris'"),
        ("\n\n", "'↵↵'"),
        ("\t", "'\\t'"),
        ("   ", "'␣␣␣'"),
        (" a ", "' a␣'"),
        ("\u202e", "'\\u202e'"),
        ("\u0301x", "'◌\u0301x'"),
        ("❤\ufe0f", "'❤'"),
        ("👨\u200d👩", "'👨\\u200d👩'"),
        ("क\u094d\u200dष", "'क\u094d\u200dष'"),
        ("\ud83d", "'\\ud83d'"),
        ("\u00a0", "'\\xa0'"),
        ("שלום", "\u2068'שלום'\u2069"),
    ],
)
def test_quoted(text, shown):
    assert Screen().quoted(text) == shown


def test_padding_counts_cells():
    assert padded("東京", 6) == "東京  "
    assert padded("é", 3, right=True) == "  é"
    assert padded("long", 2) == "long"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0%"),
        (1.0, "100%"),
        (0.4567, "46%"),
        (0.0421, "4.2%"),
        (0.0004, "<0.1%"),
        (0.9996, ">99.9%"),
        (0.0999, "10%"),
        (0.9942, "99.4%"),
    ],
)
def test_shares(value, text):
    assert share(value) == text


@pytest.mark.parametrize(
    ("lift", "text"), [(0.0, "0.0x"), (0.01, "<0.1x"), (1.0, "1.0x"), (9.96, "10x"), (31.4, "31x")]
)
def test_times(lift, text):
    assert times(lift) == text


def test_heat_steps():
    assert [heat_step(lift) for lift in (0.0, 0.24, 0.25, 1.0, 4.9, 5.0, 99.0)] == [0, 0, 1, 3, 6, 7, 7]


def test_rank_steps():
    assert [rank_step(rank, 49_152) for rank in (1, 2, 49_152)] == [7, 6, 0]
    assert rank_step(1, 1) == 7
    assert all(rank_step(rank, 1000) >= rank_step(rank + 1, 1000) for rank in range(1, 1000))


def test_mean_of_what_is_known():
    assert mean([1.0, None, 3.0, float("nan")]) == 2.0
    assert mean([None]) is None
