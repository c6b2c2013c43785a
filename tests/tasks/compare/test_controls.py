"""Controls of an edit: of its size, in its place, seeded, and never the edit itself."""

from __future__ import annotations

from typing import Any

import pytest

from elimtool.prompts.prompt import Message, Prompt, SpanRequest
from elimtool.tasks.compare.controls import controls_of

from .prompts import PAIRS, aligned, both


@pytest.mark.parametrize(("a", "b"), [PAIRS[0], PAIRS[1], PAIRS[3], PAIRS[4]])
def test_controls_differ_from_the_edited_prompt_in_the_edit_alone(llama: Any, a: str, b: str) -> None:
    one, other = both(llama, a, b)
    alignment = aligned(one, other)
    found = controls_of(llama, one, other, alignment, 20, 0)
    assert len(found) == 20
    assert [control.kind for control in found].count("neutral") in range(8, 13)
    assert len({control.encoded.token_ids for control in found} | {one.token_ids, other.token_ids}) == 22
    assert len({control.encoded.prompt_id for control in found}) == 20
    same = [i for i in range(len(other.token_ids)) if i not in alignment.edited_b]
    for control in found:
        assert len(control.encoded.token_ids) == len(other.token_ids)
        assert all(control.encoded.token_ids[i] == other.token_ids[i] for i in same)
        assert control.encoded.positions == other.positions
        assert control.encoded.text == "".join(control.encoded.tokens)


def test_the_seed_settles_them(llama: Any) -> None:
    one, other = both(llama, *PAIRS[1])
    alignment = aligned(one, other)
    first, again, another = (
        [c.encoded.token_ids for c in controls_of(llama, one, other, alignment, 6, seed)]
        for seed in (0, 0, 1)
    )
    assert first == again != another


def test_where_tokens_were_taken_away_as_many_go_elsewhere(llama: Any) -> None:
    prompts = (
        Prompt(text="The old capital of France is", spans=(SpanRequest("country", "France"),)),
        Prompt(text="The capital of France is"),
    )
    one, other = (llama.encode(prompt) for prompt in prompts)
    alignment = aligned(one, other)
    assert not alignment.edited_b
    found = controls_of(llama, one, other, alignment, 20, 0)
    assert found and all(control.kind == "random" for control in found)
    for control in found:
        ids = control.encoded.token_ids
        assert len(ids) == len(other.token_ids) and ids != other.token_ids
        assert (ids[0], ids[-1]) == (one.token_ids[0], one.token_ids[-1])
        assert control.encoded.positions == (len(ids) - 1,)
        for span in control.encoded.spans:
            assert {ids[i] for i in span.tokens} <= set(one.token_ids)


def test_special_tokens_stay(llama: Any) -> None:
    turns = (Message("user", "The capital of France is"),)
    one = llama.encode(Prompt(messages=turns))
    other = llama.encode(Prompt(messages=(Message("system", "keep the text"), *turns)))
    special = llama.tokenizer.special_ids
    marks = [i for i, token in enumerate(other.token_ids) if token in special]
    for control in controls_of(llama, one, other, aligned(one, other), 5, 0):
        assert [i for i, token in enumerate(control.encoded.token_ids) if token in special] == marks


def test_equal_prompts_have_none(llama: Any) -> None:
    one, other = both(llama, PAIRS[0][0], PAIRS[0][0])
    assert controls_of(llama, one, other, aligned(one, other), 20, 0) == []
