"""Positions as users type them: one, lists, ranges, from the end, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elimtool.errors import ElimError
from elimtool.prompts.position import MOST_TOKENS, Position, check_position, parse_position

TOKENS = tuple("abcdefgh")


def test_one_index_stays_a_number_and_all_else_as_typed() -> None:
    assert [parse_position(text) for text in ("4", "-1", "last", "4,5", "1-3")] == [
        4,
        -1,
        "last",
        "4,5",
        "1-3",
    ]


@pytest.mark.parametrize(
    ("position", "indices"),
    [
        ("last", (7,)),
        ("all", tuple(range(8))),
        (0, (0,)),
        (-1, (7,)),
        (-8, (0,)),
        ("4,5", (4, 5)),
        ("5,4", (4, 5)),
        ("4,4-5,5", (4, 5)),
        ("2-4, 7", (2, 3, 4, 7)),
        ("-3--1", (5, 6, 7)),
        ("5--1", (5, 6, 7)),
        ("3-3", (3,)),
    ],
)
def test_positions_among_the_tokens_of_a_prompt(position: Position, indices: tuple[int, ...]) -> None:
    assert check_position(position).among(TOKENS) == indices


@given(st.lists(st.tuples(st.integers(-8, 7), st.integers(0, 7)), min_size=1, max_size=4))
def test_a_list_is_the_union_of_its_ranges(ranges: list[tuple[int, int]]) -> None:
    ends = [(first, max(first % 8, last)) for first, last in ranges]
    found = check_position(",".join(f"{first}-{last}" for first, last in ends)).among(TOKENS)
    assert found == tuple(sorted({at for first, last in ends for at in range(first % 8, last + 1)}))


@pytest.mark.parametrize(
    "text", ["", ",", "4,", "first", "1-", "-", "--1", "1-2-3", "4;5", "1.5", "all,3", "x1"]
)
def test_what_is_no_position_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(ElimError, match="`position` must be 'last', 'all', an index from 0, a list such as"):
        parse_position(text)


@pytest.mark.parametrize("text", ["all", "4,5", "4-6"])
def test_where_one_token_is_read_several_are_refused(text: str) -> None:
    with pytest.raises(ElimError, match="`position` must be 'last', an index from 0 or written:0, got"):
        parse_position(text, several=False)
    assert parse_position("4-4", several=False) == "4-4"


def test_rows_of_tables_are_not_chosen_from_the_end() -> None:
    for text in ("-1", "-3--1", "2,-1"):
        with pytest.raises(ElimError, match="`position` must be"):
            parse_position(text, measured=True)


def test_ranges_that_run_backwards_are_turned_round_in_the_hint() -> None:
    with pytest.raises(ElimError, match="`position` 1,7-4: the range 7-4 runs backwards") as raised:
        check_position("1,7-4")
    assert raised.value.hint == "give 4-7"
    with pytest.raises(ElimError, match="5--6 runs backwards"):
        check_position("5--6").among(TOKENS)


@pytest.mark.parametrize(("position", "which"), [(8, "8"), (-9, "-9"), ("4,8", "4,8: 8"), ("5-9", "5-9: 9")])
def test_outside_the_prompt_the_tokens_are_listed(position: Position, which: str) -> None:
    with pytest.raises(ElimError) as raised:
        check_position(position).among(TOKENS)
    assert raised.value.message == f"`position` {which} is outside the prompt, which has 8 tokens"
    assert raised.value.hint.startswith("give 0 to 7, -8 to -1 from the end, last, or all: 0 'a', 1 'b', ")


def test_of_many_tokens_only_the_ends_are_listed() -> None:
    with pytest.raises(ElimError) as raised:
        check_position(500).among(["x"] * 400)
    assert raised.value.hint.count("'x'") == MOST_TOKENS
    assert "11 'x', ..., 388 'x'" in raised.value.hint
