"""Prompts are grouped for forward passes without loss and with little padding."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from elimtool.engine.buckets import MOST_PADDING, buckets, families_of, slots_of


@given(st.lists(st.integers(1, 400), max_size=300), st.integers(1, 64), st.sampled_from([0, 512]))
def test_every_prompt_is_run_once_with_little_padding(lengths: list[int], most: int, little: int) -> None:
    groups = list(buckets(lengths, most, little=little))
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    for group in groups:
        chosen = [lengths[index] for index in group]
        assert len(group) <= most
        assert chosen[0] == max(chosen)
        assert slots_of(chosen) <= little or 1 - sum(chosen) / slots_of(chosen) < MOST_PADDING


def test_few_short_prompts_share_a_pass() -> None:
    assert list(buckets([3, 40, 9], 8)) == [[1, 2, 0]]
    assert list(buckets([3, 40, 9], 8, little=0)) == [[1], [2], [0]]


@given(
    st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=8), max_size=40),
    st.integers(1, 6),
    st.integers(8, 60),
)
def test_prompts_that_begin_alike_stay_together(texts: list[list[int]], most: int, slots: int) -> None:
    families = families_of(texts)
    related = [index for family in families for index in family]
    assert len(set(related)) == len(related)
    lengths = [len(text) for text in texts]
    groups = list(buckets(lengths, most, slots=slots, little=0, families=families))
    assert sorted(index for group in groups for index in group) == list(range(len(texts)))
    for group in groups:
        assert len(group) <= most
        assert slots_of([lengths[index] for index in group]) <= slots
    for family in families:
        assert len({tuple(texts[index][:1]) for index in family}) == 1
        longest = max(lengths[index] for index in family)
        parts = [group for group in groups if not set(group).isdisjoint(family)]
        assert len(parts) == -(-len(family) // max(1, min(most, slots // longest)))


def test_a_few_words_alike_make_no_family() -> None:
    texts = [[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 7], [1, 8, 8, 8, 8, 8], [9]]
    assert families_of(texts) == [[0, 1]]
