"""Bans of engines other than transformers: their orders and their rules."""

from __future__ import annotations

import pytest
import torch

from elimtool.errors import ElimError
from elimtool.samplers import STAGES, History, resolve
from tests.samplers.rows import alone

NONE = torch.zeros((1, 0), dtype=torch.int64)
EVERY = (
    "allowed_token_ids=[0, 1, 2, 3],bad_words=[[1]],min_tokens=2,logit_bias={2: 1.0},repetition_penalty=1.2"
)


@pytest.mark.parametrize(
    ("engine", "order"),
    [
        ("vllm", ["allowed_tokens", "bad_words", "min_tokens", "logit_bias", "penalties"]),
        ("vllm-gpu", ["allowed_tokens", "logit_bias", "min_tokens", "penalties", "bad_words"]),
    ],
)
def test_both_paths_of_vllm_have_their_own_order(engine: str, order: list[str]) -> None:
    chain = resolve(f"{engine}:{EVERY}")
    assert [stage.name for stage in chain.stages][:5] == order
    row = torch.tensor([[1.0, 2.0, 0.5, 0.0, 3.0]])
    ledger = chain.run(row, torch.tensor([[1]]), [History((1,), (0,))])
    assert int(ledger.end.n) == 3 and not bool(ledger.kept[0, 1])
    cut = next(one for one in ledger.records if bool(one.alive_before) and not bool(one.alive_after))
    assert cut.stage == "bad_words"


def test_sglang_forbids_the_end_before_it_adds_biases() -> None:
    names = [stage.name for stage in resolve("sglang:min_new_tokens=2,logit_bias={2: 1.0}").stages]
    assert names[:3] == ["penalties", "min_new_tokens", "logit_bias"]


@pytest.mark.parametrize(
    ("row", "banned", "left"),
    [
        ([1.0, -2.0, 3.0, 0.5], 2, -10.0),
        ([5.0, 4.0, 3.0, 0.5], 0, 0.0),  # the banned best keeps 1.3 %, as the smallest logit is not negative
    ],
)
def test_koboldcpp_bans_softly(row: list[float], banned: int, left: float) -> None:
    ledger = alone(STAGES["soft_ban"](tokens=(banned,))).run(torch.tensor([row]), torch.tensor([[banned]]))
    assert float(ledger.final[0, banned]) == left
    entry = ledger.records[0]
    assert entry.n_after == 4 == entry.n_drawable and bool(entry.alive_after)
    assert float(entry.prob_after) < float(entry.prob_before) and float(entry.mass_pruned) == 0


def test_koboldcpp_bans_every_token_that_contains_a_word() -> None:
    pieces = ["The", " cat", "CATS", "dog", "concat", "</s>"]
    chain = resolve("koboldcpp:banned_tokens=[cat],ban_eos_token=true").with_ends([5]).with_vocabulary(pieces)
    ban = chain.stages[0]
    assert ban.name == "soft_ban" and ban.tokens == (1, 2, 4) and ban.words == ()
    ledger = chain.run(torch.zeros((1, 6)) - 1.0, NONE)
    assert ledger.before(1).wide()[0].tolist() == [-1.0, -9.0, -9.0, -1.0, -9.0, -9.0]
    unheard = resolve("koboldcpp:banned_tokens=[cat]").run(torch.zeros((1, 6)), NONE)
    assert "given no vocabulary" in unheard.records[0].notes[0]
    with pytest.raises(ElimError, match="words must be a list of texts"):
        resolve("koboldcpp:banned_tokens=['']")


def test_an_order_names_every_stage_of_its_base_once(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "mine.yaml"
    path.write_text("base: sglang\norder: [top_p, top_k]\n")
    with pytest.raises(ElimError, match="order must name each stage of the base once"):
        resolve(str(path))
    path.write_text("order: [top_k]\nstages:\n  - {stage: top_k, k: 20}\n")
    with pytest.raises(ElimError, match="'order' changes a chain named by 'base'"):
        resolve(str(path))


def test_what_a_ban_costs_does_not_grow_with_its_words() -> None:
    """Calls are counted, not time."""
    import sys

    draw = torch.Generator().manual_seed(0)
    words = tuple(tuple(row) for row in torch.randint(0, 900, (5000, 3), generator=draw).tolist())
    counted = []
    for some in (words[:50], words):
        stage = STAGES["bad_words"](words=some)
        text = History(some[0][:2])
        stage.banned(text, 1000)  # the words are sorted once for all rows
        calls = 0

        def count(frame: object, event: str, argument: object) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        sys.setprofile(count)
        try:
            found, _ = stage.banned(text, 1000)
        finally:
            sys.setprofile(None)
        assert found and some[0][2] in found
        counted.append(calls)
    assert counted[1] <= counted[0] + 10
