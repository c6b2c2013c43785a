"""Token alignment: each token once, in step, and the same whichever prompt comes first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elimtool.analysis.compare.align import Aligned, Alignment, align

TOKENS = st.lists(
    st.sampled_from(["a", "b", " a", " the", "ab", "b c", ".", "\n", "é"]), min_size=1, max_size=14
)


def texts(rows: Alignment, a: list[str], b: list[str]) -> list[tuple[str, str | None, str | None]]:
    def at(tokens: list[str], index: int | None) -> str | None:
        return None if index is None else tokens[index]

    return [(row.operation, at(a, row.index_a), at(b, row.index_b)) for row in rows.rows]


@given(TOKENS, TOKENS)
def test_every_token_once_and_in_order(a: list[str], b: list[str]) -> None:
    found = align(a, b)
    assert [row.index_a for row in found.rows if row.index_a is not None] == list(range(len(a)))
    assert [row.index_b for row in found.rows if row.index_b is not None] == list(range(len(b)))
    for row in found.rows:
        kinds = {(True, True): ("equal", "replace"), (True, False): ("delete",), (False, True): ("insert",)}
        assert row.operation in kinds[row.index_a is not None, row.index_b is not None]
        if row.index_a is not None and row.index_b is not None:
            assert (a[row.index_a] == b[row.index_b]) == (row.operation == "equal")
    assert (found.rows[-1].index_a, found.rows[-1].index_b) == (len(a) - 1, len(b) - 1)


@given(TOKENS, TOKENS)
def test_swapping_exchanges_the_sides_and_nothing_else(a: list[str], b: list[str]) -> None:
    names = {"equal": "equal", "replace": "replace", "delete": "insert", "insert": "delete"}
    turned = [Aligned(names[r.operation], r.index_b, r.index_a) for r in align(b, a).rows]  # type: ignore[arg-type]
    assert set(turned) == set(align(a, b).rows)
    assert align(b, a).prefix == align(a, b).prefix


@given(TOKENS)
def test_a_prompt_against_itself(a: list[str]) -> None:
    found = align(a, a)
    assert found.matched == tuple((i, i) for i in range(len(a)))
    assert found.prefix == len(a) and not found.edited_a and not found.edited_b


@given(TOKENS, TOKENS, TOKENS)
def test_what_both_begin_with_is_matched(same: list[str], a: list[str], b: list[str]) -> None:
    found = align(same + a, same + b)
    assert found.prefix >= len(same)
    assert found.matched[: len(same)] == tuple((i, i) for i in range(len(same)))
    assert (a[0] == b[0]) == (found.prefix > len(same))


@given(TOKENS, TOKENS, TOKENS)
def test_an_insertion_moves_nothing_out_of_step(start: list[str], added: list[str], end: list[str]) -> None:
    marked = [f"<{token}>" for token in added]
    found = align(start + end, [*start, *marked, *end])
    assert found.edited_a == () and found.edited_b == tuple(range(len(start), len(start) + len(added)))
    assert [row.operation for row in found.rows].count("insert") == len(added)


def test_replaced_words_stand_against_each_other() -> None:
    a, b = ["The", " capital", " of", " France", " is"], ["The", " capital", " of", " New", " Zealand", " is"]
    assert texts(align(a, b), a, b) == [
        ("equal", "The", "The"),
        ("equal", " capital", " capital"),
        ("equal", " of", " of"),
        ("insert", None, " New"),
        ("replace", " France", " Zealand"),
        ("equal", " is", " is"),
    ]


def test_text_that_was_split_otherwise_is_paired_where_it_ends() -> None:
    a, b = ["say", " unbelievable", " things", "."], ["say", " un", "believ", "able", " thing", "s", "."]
    assert texts(align(a, b), a, b) == [
        ("equal", "say", "say"),
        ("insert", None, " un"),
        ("insert", None, "believ"),
        ("replace", " unbelievable", "able"),
        ("insert", None, " thing"),
        ("replace", " things", "s"),
        ("equal", ".", "."),
    ]
    both = align(["ab", "cd", "e", "!"], ["a", "bcd", "f", "!"])
    assert Aligned("replace", 1, 1) in both.rows


def test_the_last_tokens_stand_against_each_other_whatever_they_are() -> None:
    a, b = ["one", " two"], ["one", " two", " three"]
    found = align(a, b)
    assert found.prefix == 2
    assert texts(found, a, b) == [
        ("equal", "one", "one"),
        ("insert", None, " two"),
        ("replace", " two", " three"),
    ]


def test_tokens_of_one_text_and_two_ids_differ() -> None:
    assert align(["a", "b"], ["a", "b"], ([1, 2], [3, 2])).prefix == 0
    assert align(["a", "b"], ["a", "b"], ([1, 2], [1, 2])).prefix == 2


def test_long_prompts_are_quick() -> None:
    words = [f" w{index % 97}" for index in range(4000)]
    other = [*words[:1000], *(f" x{index}" for index in range(300)), *words[1200:]]
    assert len(align(words, other).matched) == 3800


def test_no_token_is_refused() -> None:
    with pytest.raises(ValueError, match="without tokens"):
        align([], ["a"])
