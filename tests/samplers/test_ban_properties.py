"""Properties of bans, required sets and biases, on random rows and histories."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elimtool.samplers import STAGES, Chain, History, Stage, resolve
from tests.samplers.rows import KINDS, alone, example, rows

VOCAB = 14
NONE = torch.zeros((3, 0), dtype=torch.int64)
SETS = [kind for kind, stage in STAGES.items() if stage.role in ("ban", "require") and not stage.revives]
SETS.remove("grammar")
"""Stages that remove a set, whatever the probabilities: all but the grammar, whose vocabulary is larger."""
kinds = st.sampled_from(KINDS)
seeds = st.integers(0, 10_000)
texts = st.lists(st.integers(0, 7), max_size=9).map(tuple)
tokens = st.sets(st.integers(0, VOCAB - 1), min_size=1, max_size=VOCAB - 1)


def left(stages: list[Stage], x: torch.Tensor, past: History) -> torch.Tensor:
    return Chain("some", stages=tuple(stages)).run(x, NONE, [past] * 3).final


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(SETS), kinds, seeds, texts, texts)
def test_a_ban_twice_is_a_ban_once(kind: str, rows_of: str, seed: int, prompt: tuple, written: tuple) -> None:
    x, past, stage = rows(rows_of, 3, VOCAB, seed), History(prompt, written), example(kind)
    assert torch.equal(left([stage], x, past), left([stage, stage], x, past))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(SETS), min_size=2, max_size=3, unique=True), kinds, seeds, texts, texts)
def test_bans_commute(some: list[str], rows_of: str, seed: int, prompt: tuple, written: tuple) -> None:
    x, past = rows(rows_of, 3, VOCAB, seed), History(prompt, written)
    found = [left([example(kind) for kind in order], x, past) for order in permutations(some)]
    assert all(torch.equal(one, found[0]) for one in found)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(SETS), kinds, seeds, texts, texts)
def test_what_survives_shares_what_is_removed(
    kind: str, rows_of: str, seed: int, prompt: tuple, written: tuple
) -> None:
    x, every = rows(rows_of, 3, VOCAB, seed), torch.arange(VOCAB).expand(3, -1)
    entry = alone(example(kind)).run(x, every, [History(prompt, written)] * 3).records[0]
    for row in range(3):
        kept = entry.alive_after[row] & entry.alive_before[row]
        if not bool(kept.any()):
            continue
        wanted = entry.prob_before[row][kept] / (1 - entry.mass_pruned[row])
        torch.testing.assert_close(entry.prob_after[row][kept], wanted)
    assert bool(entry.margin.isnan().all())


@settings(max_examples=25, deadline=None)
@given(tokens, kinds, seeds)
def test_to_require_a_set_is_to_ban_all_others_by_any_name(some: set[int], rows_of: str, seed: int) -> None:
    x, others = rows(rows_of, 3, VOCAB, seed), tuple(sorted(set(range(VOCAB)) - some))
    wanted = left([STAGES["allowed_tokens"](tokens=tuple(some))], x, History((1,)))
    for stage in (
        STAGES["suppress"](tokens=others),
        STAGES["bad_words"](words=tuple((token,) for token in others)),
        STAGES["logit_bias"](bias=tuple((token, float("-inf")) for token in others)),
        STAGES["logit_bias"](bans=others),
        STAGES["sequence_bias"](bias=tuple(((token,), float("-inf")) for token in others)),
    ):
        assert torch.equal(left([stage], x, History((1,))), wanted), stage.kind


@settings(max_examples=30, deadline=None)
@given(
    kinds,
    seeds,
    st.sampled_from([-4.0, 0.5, 16.0]),
    st.sampled_from(["top_p=0.8", "typical=0.7", "min_p=0.2"]),
)
def test_a_bias_of_all_tokens_changes_no_probability(rows_of: str, seed: int, bias: float, then: str) -> None:
    x = (rows(rows_of, 3, VOCAB, seed) * 1024).round() / 1024
    every = STAGES["logit_bias"](bias=tuple((token, bias) for token in range(VOCAB)))
    plain, shifted = (
        Chain("c", stages=(*before, *resolve(then).stages)).run(x, NONE) for before in ((), (every,))
    )
    assert torch.equal(plain.kept, shifted.kept)
    torch.testing.assert_close(plain.probs(), shifted.probs())


def test_a_bias_before_a_repetition_penalty_is_penalised_too() -> None:
    x, past = torch.tensor([[2.0, 1.0, 0.5]]).expand(3, -1), History((0, 1))
    bias, penalty = STAGES["logit_bias"](bias=((0, -1.0),)), STAGES["penalties"](repetition=2.0)
    assert left([bias, penalty], x, past)[0].tolist() == [0.5, 0.5, 0.5]
    assert left([penalty, bias], x, past)[0].tolist() == [0.0, 0.5, 0.5]


@pytest.mark.parametrize(
    ("stage", "short", "long"),
    [
        (STAGES["no_repeat_ngram"](n=2), (1, 2, 1), (1, 2, 1, 3)),
        (STAGES["bad_words"](words=((1, 4),)), (1,), (1, 3)),
        (STAGES["min_tokens"](n=2, eos=(5,)), (1,), (1, 3)),
        (STAGES["phrase_ban"](phrases=("ab",), held=4, pieces=["x", "a", "b"] * 5), (1,), (1, 3)),
    ],
)
def test_a_longer_history_need_not_ban_more(stage: Stage, short: tuple, long: tuple) -> None:
    found = [set(stage.banned(History((), text), VOCAB)[0]) for text in (short, long)]  # type: ignore[attr-defined]
    assert found[0] and not found[0] <= found[1]


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_a_weak_quadratic_flattens(seed: int) -> None:
    """At curve 1 all gaps go to 0 as the factor does; the order stays."""
    x = rows("normal", 3, VOCAB, seed)
    spread = []
    for factor in (0.1, 1e-3, 1e-6):
        bent = left([STAGES["quadratic"](factor=factor, curve=1.0)], x, History())
        spread.append(float((bent.amax(-1) - bent.amin(-1)).max()))
        assert torch.equal(bent.argsort(-1), x.argsort(-1))
        torch.testing.assert_close(
            bent, x.amax(-1, keepdim=True) - factor * (x.amax(-1, keepdim=True) - x) ** 2
        )
    assert spread[0] > spread[1] > spread[2] and spread[2] < 1e-3
