"""Retrieval of hidden sentences and successors of words: heads that do it score 1, and their null 0."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from elimtool.analysis.map.units import outnumbers
from elimtool.model.rows import Formed
from elimtool.model.view import Batch, LayerView
from elimtool.tasks.map.corpus import Corpus
from elimtool.tasks.map.hidden import NeedleSums, asking
from elimtool.tasks.map.options import MapOptions
from elimtool.tasks.map.probes import HIDDEN, LEAST_HAYSTACK, NEEDLES, SETS, Successors, needles
from elimtool.tasks.map.successors import MemberSums, nexts
from elimtool.tasks.map.units import MapSource, Unit, Units


@pytest.fixture(scope="module")
def units(llama: Any, corpus: Path) -> dict[str, list[Unit]]:
    records = MapSource(llama, Corpus.of(corpus), MapOptions.of(["roles"], tokens=64)).records()
    made = [Units(llama, 64).of(record) for record in records]
    return {kind: [one for one in made if one.kind == kind] for kind in ("needle", "other-needle", "member")}


def test_needles_hold_their_answer_and_the_others_do_not(llama: Any, units: dict[str, list[Unit]]) -> None:
    assert len(units["needle"]) == len(units["other-needle"]) == NEEDLES
    for one, other in zip(units["needle"], units["other-needle"], strict=True):
        assert one.needle and other.needle
        ids, others = list(one.encoded.token_ids), list(other.encoded.token_ids)
        answer = ids[-one.needle.answer :]
        inside, apart = (some[unit.needle.start : unit.needle.end]  # type: ignore[union-attr]
                         for some, unit in ((ids, one), (others, other)))  # fmt: skip
        assert any(inside[at : at + len(answer)] == answer for at in range(len(inside)))
        assert not any(apart[at : at + len(answer)] == answer for at in range(len(apart)))
        assert others[-len(answer) :] == answer and len(ids) <= llama.context
        assert one.encoded.text.endswith(list(HIDDEN.values())[one.index // 2])
    # at two depths of their texts, each name once
    assert len({one.needle.start for one in units["needle"] if one.needle}) >= 2
    assert len({one.encoded.token_ids for one in units["needle"]}) == NEEDLES


def test_a_model_with_no_room_for_text_has_no_needles(llama: Any) -> None:
    whole = needles(llama.tokenizer, 128, None, 0)
    assert len(whole) == NEEDLES and whole[0].haystack == 120
    longest = max(len(one.told) + len(one.asked) for one in whole)
    assert needles(llama.tokenizer, 128, longest + LEAST_HAYSTACK + 1, 0)
    assert not needles(llama.tokenizer, 128, longest + LEAST_HAYSTACK - 10, 0)


def retrieved(llama: Any, unit: Unit, shift: int = 0) -> dict[str, Any]:
    """What a head scores that gives all weight to the answer's token in the needle, or so far from it."""
    assert unit.needle
    ids, length = unit.encoded.token_ids, len(unit.encoded.token_ids)
    answer = ids[-unit.needle.answer :]
    inside = ids[unit.needle.start : unit.needle.end]
    start = next((at for at in range(len(inside)) if inside[at : at + len(answer)] == answer), 0)
    weights = torch.zeros(length, length)
    weights[:, 0] = 0.4
    for step, query in enumerate(asking(unit)):
        weights[query, unit.needle.start + start + step + shift] = 0.6
    batch = Batch.of([unit.encoded])
    sums = NeedleSums(llama, [unit], batch)
    view = LayerView(1, batch, torch.zeros(1, length, llama.width))
    sums.observe(view, Formed(weights.expand(1, llama.n_heads, -1, -1)))
    return {name: one[0, 1, 0] for name, one in sums.sums().items()}


def test_a_head_that_looks_where_the_answer_is_told_scores_one_and_its_null_zero(
    llama: Any, units: dict[str, list[Unit]]
) -> None:
    for one, other in zip(units["needle"][:4], units["other-needle"][:4], strict=True):
        found = retrieved(llama, one)
        assert found["retrieval"] == found["retrieval.rows"] == one.needle.answer  # type: ignore[union-attr]
        assert found["greedy"] == found["greedy.rows"] < found["retrieval.rows"]
        assert retrieved(llama, one, shift=-1)["retrieval"] < found["retrieval"] / 2
        missed = retrieved(llama, other)
        assert missed["retrieval"] < missed["retrieval.rows"] / 3
    # a token of the answer that stands outside the needle is not one that was found there
    unit = units["needle"][0]
    assert unit.needle
    moved = replace(unit, needle=replace(unit.needle, start=0, end=1))
    assert retrieved(llama, replace(moved, needle=replace(unit.needle, end=unit.needle.start)))[
        "retrieval"] == 0  # fmt: skip


def test_words_that_follow_each_other_are_single_tokens(llama: Any, units: dict[str, list[Unit]]) -> None:
    members = Successors(llama.tokenizer).members
    assert {one.name for one in members} == {"digits", "letters"} and set(SETS) > {"digits"}
    assert len(members) == len(units["member"]) == 9 + 25
    for one, unit in zip(members, units["member"], strict=True):
        assert unit.encoded.token_ids == one.ids
        said = llama.tokenizer.texts(one.members[one.place : one.place + 2])
        assert ord(said[1]) == ord(said[0]) + 1


def test_a_head_that_writes_the_next_word_is_a_successor_head(llama: Any) -> None:
    members = Successors(llama.tokenizer).members
    width = 2 * len(members)
    words = torch.eye(width)[: len(members[0].members)]
    forward, back = torch.zeros(2, width, width)
    for at in range(len(words) - 1):
        forward[at + 1, at] = 1.0
        back[at, at + 1] = 1.0
    maps = torch.stack([forward, back, torch.zeros(width, width)])
    for one in members[:9]:
        inputs = torch.eye(width)[one.place].expand(3, -1)
        first, counts = nexts(one, words, inputs, maps)
        # the second writes the word before, and nothing for the first word; the third writes nothing
        assert first[:2].tolist() == [True, False]
        assert counts.tolist() == [True, one.place > 0, False]


def test_heads_get_words_as_the_first_block_leaves_them(llama: Any, units: dict[str, list[Unit]]) -> None:
    some = units["member"][:3]
    batch = Batch.of([one.encoded for one in some])
    found = MemberSums(llama, some, batch).sums()
    states: list[torch.Tensor] = []
    llama.stream(batch, frozenset(), lambda view: states.append(view.residual))
    layers = llama.hf.get_submodule("model.layers")
    members = Successors(llama.tokenizer).members[:3]
    words = llama.written(torch.tensor(members[0].members))
    for at in range(1, llama.n_layers):
        block = layers[at]
        with torch.inference_mode():
            values = block.self_attn.v_proj(block.input_layernorm(states[1]))[:, 0]
        size = values.shape[-1] // llama.n_groups
        weight = block.self_attn.o_proj.weight
        for head in range(llama.n_heads):
            group = head * llama.n_groups // llama.n_heads
            carried = values[:, group * size : (group + 1) * size]
            told = carried @ weight[:, head * size : (head + 1) * size].T @ words.T
            right = told.argmax(-1) == torch.tensor([one.place + 1 for one in members])
            assert found["successor"][:, at, head].tolist() == right.double().tolist()
    assert not found["successor.rows"][:, 0].any() and (found["successor.rows"][:, 1:] == 1).all()
    assert np.allclose(found["chance"], 1 / 10)


def test_tails_of_unequal_chances_are_exact() -> None:
    chance = np.array([0.5, 0.1, 0.2])[:, None, None]
    p, q = outnumbers(np.array([1.0, 0.0, 1.0])[:, None, None], chance)
    both = 0.5 * 0.2 * 0.9 + 0.5 * 0.1 * 0.8 + 0.5 * 0.1 * 0.2
    assert p[0, 0] == pytest.approx(both + 0.5 * 0.1 * 0.2) and q[0, 0] == p[0, 0]
    none, _ = outnumbers(np.zeros((3, 1, 1)), chance)
    assert none[0, 0] == 1.0
    unknown, _ = outnumbers(np.full((3, 1, 1), np.nan), chance)
    assert np.isnan(unknown).all()
