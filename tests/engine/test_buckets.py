"""Prompts are grouped for forward passes without loss and with little padding."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from elimtool.engine.buckets import MOST_PADDING, buckets, slots_of


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
