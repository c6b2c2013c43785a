"""Bans of engines other than transformers: their orders and their rules."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch
from scipy.stats import chisquare

from elimtool.errors import ElimError
from elimtool.samplers import STAGES, Chain, History, resolve
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.chain import step
from elimtool.samplers.phrase_ban import PhraseBan
from elimtool.samplers.stage import Context
from tests.samplers.rows import alone, rows

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


PIECES = ["a", "b", "ab", " B", "c"]
AFTER = torch.tensor(
    [
        [0.30, 0.20, 0.10, 0.15, 0.25],
        [0.40, 0.10, 0.10, 0.20, 0.20],
        [0.35, 0.15, 0.20, 0.10, 0.20],
        [0.50, 0.10, 0.05, 0.05, 0.30],
        [0.45, 0.25, 0.05, 0.05, 0.20],
    ],
    dtype=torch.float64,
)
"""What follows each token, whatever came before it."""


Drawn = dict[tuple[int, ...], bool]


def by_koboldcpp(after: list[list[float]], draws: list[float]) -> tuple[list[int], Drawn]:
    """Write a text of three tokens as KoboldCpp does with the phrase 'ab' banned.

    Returns:
        The text, and for what stood before a third token whether the first one drawn there took it back.
    """
    text: list[int] = []
    banned: dict[int, set[int]] = {}
    taken: Drawn = {}
    for draw in draws:
        here = banned.get(len(text), set())
        probs = [0.0 if token in here else p for token, p in enumerate(after[text[-1] if text else 4])]
        rest = draw * sum(probs)
        text.append(next(token for token in range(5) if sum(probs[: token + 1]) > rest))
        before, back = tuple(text[:2]), 0
        for back in range(1, len(text) + 1):  # the fewest last tokens that hold the phrase
            if "ab" in "".join(PIECES[token] for token in text[-back:]).lower():
                banned.setdefault(len(text) - back, set()).add(text[-back])
                break
        else:
            back = 0
        if len(text) == 3 and not here:
            taken.setdefault(before, back > 0)
        del text[len(text) - back :]
        if len(text) == 3:
            break
    return text, taken


def test_a_banned_phrase_takes_texts_back_as_often_as_koboldcpp_does() -> None:
    """Its loop is run on a model of five tokens, and the last step of its texts is compared."""
    draw = torch.Generator().manual_seed(0)
    plain = resolve("temperature=0.9")
    after = plain.run(AFTER.log(), NONE.expand(5, 0)).probs().tolist()
    thirds: dict[tuple[int, ...], list[int]] = {}
    taken: dict[tuple[int, ...], list[bool]] = {}
    for row in torch.rand((6000, 40), generator=draw, dtype=torch.float64).tolist():
        text, first = by_koboldcpp(after, row)
        thirds.setdefault(tuple(text[:2]), []).append(text[2])
        for history, back in first.items():
            taken.setdefault(history, []).append(back)
    ban = PhraseBan(("Ab",), held=3, pieces=PIECES)
    chain = Chain("both", stages=(*plain.stages, ban))
    often = {history: found for history, found in thirds.items() if len(found) >= 400}
    for history, found in often.items():
        ledger = chain.run(AFTER[history[-1]].log()[None], NONE, [History((), history)])
        wanted, alive = ledger.probs()[0], ledger.kept[0]
        counts = torch.bincount(torch.tensor(found), minlength=5).double()
        assert not bool(counts[~alive].any()) and not bool(alive.all())
        assert chisquare(counts[alive].numpy(), (wanted[alive] * len(found)).numpy()).pvalue > 0.001
        mass, times = float(ledger.records[-1].mass_pruned), len(taken[history])
        assert abs(sum(taken[history]) / times - mass) < 4 * (mass * (1 - mass) / times) ** 0.5
    assert len(often) >= 4 and {history[-1] for history in often} >= {0, 4}


def test_a_phrase_is_found_however_it_is_spelled_and_tells_where_the_text_goes_back_to() -> None:
    pieces = ["a tap", "estry", " OF", "tapestry of x", "ry of", "x", "</s>"]
    encode = {"a tapestry of": [0, 1, 2], "cat": [5]}.__getitem__
    chain = resolve("koboldcpp:banned_strings=['A tapestry of', cat],top_k=0,top_p=1").with_ends([6])
    chain = chain.with_vocabulary(pieces, encode)
    ban = chain.stages[-1]
    assert ban.kind == "phrase_ban" and ban.name == "banned_phrases" and ban.held == 6
    assert not next(one for one in chain.stages if one.kind == "soft_ban").tokens  # no token holds 'cat'
    row, every = rows("normal", 1, 7), torch.arange(7)[None]
    entry = chain.run(row, every, [History((5,), (5, 0, 1))]).records[-1]
    assert (entry.alive_before & ~entry.alive_after)[0].nonzero()[:, 0].tolist() == [2]
    assert (
        entry.why(2)
        == "completes the banned phrase 'A tapestry of': the text goes back 3 tokens, 0 is banned there"
    )
    assert float(entry.mass_pruned) == pytest.approx(float(entry.prob_before[0, 2]))
    halves = alone(ban).run(row, every, [History((), (0, 6))]).records[0]
    assert bool(halves.alive_after.all()), "the prompt is not looked at, and an end spells nothing"
    assert not bool(alone(ban).run(row, every, [History((0, 1), ())]).records[0].active)
    far = alone(replace(ban, held=2)).run(row, every, [History((), (0, 1))]).records[0]
    assert bool(far.alive_after.all()), "what is no longer held back is not looked at"


def test_vllm_spells_a_bad_word_twice_where_both_have_as_many_tokens() -> None:
    """As `update_from_tokenizer` of its sampling parameters does."""
    spelled = {"cat": (1,), " cat": (2,), "New York": (3, 4), " New York": (5, 4), "x": (6,), " x": (0, 6)}
    spelled |= {"same": (7,), " same": (7,)}
    chain = resolve("vllm:bad_words=[cat, New York, x, same, [8, 9]]")
    assert chain.wants_text and "no vocabulary" in chain.run(rows("normal", 1, 12), NONE).records[0].notes[0]
    ban = chain.with_vocabulary([""] * 12, spelled.__getitem__).stages[0]
    assert ban.words == ((1,), (2,), (3, 4), (5, 4), (6,), (7,), (8, 9))
    with pytest.raises(ElimError, match="texts of at least one token"):
        chain.with_vocabulary([""], lambda _: ())


def test_biases_of_texts_bans_and_ends_are_those_of_each_engine() -> None:
    given = "{New York: -2.0, 3: false, 4: 1.5}"
    chain = resolve(f"llama.cpp:logit_bias={given},ignore_eos=true").with_ends([5, 6])
    bias = chain.with_vocabulary([""] * 9, lambda text: (1, 2, 1) if text == "New York" else ()).stages[0]
    added = alone(bias).run(torch.zeros((1, 9)), torch.tensor([[3, 5]]))
    inf = float("inf")
    assert added.final[0].tolist() == [0.0, -4.0, -2.0, -inf, 1.5, -inf, -inf, 0.0, 0.0]
    assert added.records[0].why_target(0) == "the logit bias of 3 is -inf"
    for engine in ("vllm", "sglang"):
        with pytest.raises(ElimError, match="'New York' is no token id"):
            resolve(f"{engine}:logit_bias={given}")
    soft = resolve(f"koboldcpp:logit_bias={given},custom_token_bans=[7]").stages
    added = alone(next(one for one in soft if one.kind == "logit_bias")).run(torch.zeros((1, 9)), NONE)
    assert added.final[0].tolist() == [0.0, 0.0, 0.0, -100.0, 1.5, 0.0, 0.0, -100.0, 0.0]
    assert "cut to 100" in added.records[0].notes[0]
    hard = resolve("text-generation-webui:custom_token_bans=[7],ban_eos_token=true").with_ends([5])
    assert [one.kind for one in hard.stages if not one.is_off()] == ["suppress"]
    assert not bool(hard.run(torch.zeros((1, 9)), torch.tensor([[5, 7]])).end.slots.ge(0).any())


def test_vllm_keeps_the_end_where_a_grammar_allows_nothing_else() -> None:
    """V1 asks after bad words, V2 before them: there the row is left empty; as it is without a grammar."""
    given = "allowed_token_ids=[2, 3],bad_words=[[3]],min_tokens=5"
    left = {}
    for engine in ("vllm", "vllm-gpu"):
        chain = resolve(f"{engine}:{given}").with_ends([2])
        assert not bool(chain.run(rows("normal", 1, 6), NONE).kept.any())
        c = Candidates.of(rows("normal", 1, 6), NONE)
        for stage in chain.stages:
            c, _ = step(stage, c, Context([History()], grammar=True))
        left[engine] = c.wide()[0].isfinite().nonzero()[:, 0].tolist()
    assert left == {"vllm": [2], "vllm-gpu": []}
    assert (
        resolve(
            f"hf:top_k=0,{given}".replace("allowed_token_ids", "allowed_tokens").replace(
                "min_tokens", "min_new_tokens"
            )
        )
        .with_ends([2])
        .run(rows("normal", 1, 6), NONE)
        .end.n.item()
        == 0
    )


def test_five_thousand_phrases_cost_little() -> None:
    draw = torch.Generator().manual_seed(0)
    letters = "abcdefghijklmnopqrstuvwxyz"

    def word(size: int) -> str:
        return "".join(letters[i] for i in torch.randint(0, 26, (size,), generator=draw).tolist())

    pieces = [word(1 + i % 7) for i in range(20_000)]
    ban = PhraseBan(tuple(word(14) for _ in range(5000)), held=9, pieces=pieces)
    first = ban.phrases[0]
    past = [History((), tuple(pieces.index(letter) for letter in first[:5]))] * 8
    c = Candidates.of(rows("normal", 8, 20_000), NONE.expand(8, 0))
    assert c.n.tolist() == [20_000] * 8
    spent = []
    for _ in range(3):
        begun = time.process_time()
        effect = ban.apply(c, Context(past))
        spent.append(time.process_time() - begun)
    assert min(spent) < 8 * 5e-3 and effect.rules is not None


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
