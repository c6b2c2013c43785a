"""Beam search against Hugging Face's own, on random models, with and without ends and processors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from elimtool import ElimError, Prompt
from elimtool.engine.beams import Beam, BeamSearch, Ids
from elimtool.model.decode import TextTree
from elimtool.model.loading import load_hugging_face

TEXT = "The capital of France is"


@pytest.fixture(scope="module")
def plain(llama_directory: Path) -> Any:
    return load_hugging_face("llama", llama_directory, "float32", False)


def searched(model: Any, ids: Ids, search: BeamSearch) -> BeamSearch:
    tree = TextTree(model, ids)
    while not search.done:
        search.step(tree.read([beam.tokens for beam in search.open]).log_softmax(-1))
    return search


def generated(
    plain: Any, ids: tuple[int, ...], n_beams: int, **how: Any
) -> list[tuple[tuple[int, ...], float]]:
    """Sequences and scores of transformers; of a text that ended early, without its padding."""
    found = plain.generate(
        torch.tensor([ids]),
        num_beams=n_beams,
        num_return_sequences=n_beams,
        do_sample=False,
        pad_token_id=299,
        output_scores=True,
        return_dict_in_generate=True,
        **how,
    )
    written = [tuple(row[row != 299].tolist()) for row in found.sequences[:, len(ids) :]]
    return list(zip(written, found.sequences_scores.tolist(), strict=True))


@pytest.mark.parametrize(("n_beams", "length_penalty"), [(2, 1.0), (5, 0.0), (4, -1.0)])
@pytest.mark.parametrize("early_stopping", ["no", "yes", "never"])
@pytest.mark.parametrize("n_ends", [0, 1, 100])
def test_beams_are_those_of_transformers(
    llama: Any, plain: Any, n_beams: int, length_penalty: float, early_stopping: str, n_ends: int
) -> None:
    ids = llama.encode(Prompt(text=TEXT)).token_ids
    ends = list(range(0, 3 * n_ends, 3))
    search = BeamSearch(n_beams, 7, ends, length_penalty, early_stopping)  # type: ignore[arg-type]
    found = searched(llama, ids, search).finished
    expected = generated(
        plain,
        ids,
        n_beams,
        max_new_tokens=7,
        eos_token_id=ends or None,
        length_penalty=length_penalty,
        early_stopping={"no": False, "yes": True}.get(early_stopping, early_stopping),
    )
    assert [beam.tokens for beam in found] == [tokens for tokens, _ in expected]
    assert [beam.final for beam in found] == pytest.approx([score for _, score in expected], abs=1e-4)
    if n_ends == 100:
        assert any(len(beam.tokens) < 7 for beam in found)  # some ended: the ends are not idle


def test_a_kept_score_is_the_sum_of_its_steps_and_one_beam_is_greedy(llama: Any) -> None:
    ids = llama.encode(Prompt(text=TEXT)).token_ids
    (greedy,) = searched(llama, ids, BeamSearch(1, 6)).finished
    for beam in (greedy, *searched(llama, ids, BeamSearch(4, 6)).finished):
        with torch.inference_mode():
            logits = llama.hf(input_ids=torch.tensor([[*ids, *beam.tokens]])).logits[0].double()
        rows = logits.log_softmax(-1)[len(ids) - 1 : -1]
        assert beam.score == pytest.approx(float(rows[range(6), beam.tokens].sum()), abs=1e-4)
        if beam is greedy:
            assert tuple(rows.argmax(-1).tolist()) == beam.tokens


def test_as_many_beams_as_texts_find_the_best_text() -> None:
    """Five tokens whose scores depend on the text: 5 ** 2 beams hold every text of two tokens."""
    tables = torch.randn(
        5, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    ).log_softmax(-1)

    def rows(search: BeamSearch) -> torch.Tensor:
        last_two = [(0, 0, *beam.tokens)[-2:] for beam in search.open]
        return torch.stack([tables[one, two] for one, two in last_two])

    search = BeamSearch(25, 3, length_penalty=0.0)
    while not search.done:
        search.step(rows(search))
    every = {
        (a, b, c): float(tables[0, 0, a] + tables[0, a, b] + tables[a, b, c])
        for a in range(5)
        for b in range(5)
        for c in range(5)
    }
    best = sorted(every, key=lambda text: -every[text])[:25]
    assert [beam.tokens for beam in search.finished] == best


def test_ties_go_to_the_lower_text_and_token_and_impossible_tokens_are_not_looked_at() -> None:
    search = BeamSearch(2, 5)
    first = search.step(torch.tensor([[0.0, -torch.inf, 0.0, 0.0]], dtype=torch.float64))
    assert [one.tokens for one in first.candidates] == [(0,), (2,), (3,)]
    assert [one.fate for one in first.candidates] == ["open", "open", "dropped"]
    assert first.last == 0.0
    second = search.step(torch.full((2, 4), -1.0, dtype=torch.float64))
    assert [one.tokens for one in second.candidates] == [(0, 0), (0, 1), (0, 2), (0, 3)]


def test_a_text_that_ends_beyond_the_first_n_is_dropped_and_a_better_end_displaces() -> None:
    search = BeamSearch(2, 9, ends=[0], length_penalty=0.0)
    step = search.step(torch.tensor([[-3.0, -1.0, -2.0]], dtype=torch.float64))
    assert [(one.tokens, one.fate) for one in step.candidates] == [
        ((1,), "open"),
        ((2,), "open"),
        ((0,), "dropped"),
    ]
    search.step(torch.tensor([[-1.0, -1.5, -9.0], [-0.9, -9.0, -9.0]], dtype=torch.float64))
    assert [beam.tokens for beam in search.finished] == [(1, 0)]
    search.step(torch.tensor([[-0.01, -0.001, -9.0], [-9.0, -9.0, -9.0]], dtype=torch.float64))
    assert [beam.tokens for beam in search.finished] == [(1, 0), (1, 1, 0)]
    assert Beam((1, 0), -2.0, -2.0) == search.finished[0] and search.done is False


def test_a_search_without_tokens_ends_and_refuses_no_beams() -> None:
    search = BeamSearch(2, 5)
    step = search.step(torch.full((1, 3), -torch.inf, dtype=torch.float64))
    assert not step.candidates and search.done and not search.finished
    with pytest.raises(ElimError, match="`n_beams` must be at least 1"):
        BeamSearch(0, 5)


def test_texts_branch_and_die(llama: Any) -> None:
    ids = llama.encode(Prompt(text=TEXT)).token_ids
    tree = TextTree(llama, ids)
    tree.read([()])
    tree.read([(5,), (9,), (7,)])
    found = tree.read([(7, 1), (7, 2), (5, 3), (7, 4)])
    with torch.inference_mode():
        for row, text in zip(found, [(7, 1), (7, 2), (5, 3), (7, 4)], strict=True):
            whole = llama.hf(input_ids=torch.tensor([[*ids, *text]])).logits[0, -1]
            torch.testing.assert_close(row, whole.double(), atol=1e-4, rtol=0)
