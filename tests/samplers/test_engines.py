"""Numbers observed by running the engines' own code, and rules read from it, as hand tests."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from elimtool.samplers import STAGES, Chain, History, resolve
from tests.samplers.rows import alone
from tests.samplers.ways import both_ways

NONE = torch.zeros((1, 0), dtype=torch.int64)


def flat(vocab: int) -> torch.Tensor:
    return torch.zeros((1, vocab), dtype=torch.float64)


def count(spec: str | Chain, x: torch.Tensor) -> int:
    chain = resolve(spec) if isinstance(spec, str) else spec
    return int(both_ways(chain, x, NONE.expand(x.shape[0], 0)).kept.sum())


def test_top_k_on_equal_logits() -> None:
    found = {e: count(f"{e}:top_k=40", flat(50_257)) for e in ("hf", "vllm", "sglang")}
    assert found == {"hf": 50_257, "vllm": 50_257, "sglang": 40}
    assert count("llama.cpp:top_k=40,top_p=1,min_p=0", flat(50_257)) == 40


def test_top_k_one_with_four_tied_maxima() -> None:
    x = torch.tensor([[1.0, 3, 3, 0, 3, 3]])
    found = [count(f"{e}:top_k=1", x) for e in ("llama.cpp", "sglang", "hf", "vllm")]
    assert found == [1, 1, 4, 4]


def test_top_p_half_of_eight_equal_logits() -> None:
    found = [
        count(s, flat(8))
        for s in ("llama.cpp:top_p=0.5", "hf:top_p=0.5", "vllm:top_p=0.5", "sglang:top_p=0.5")
    ]
    assert found == [4, 4, 4, 5]


def test_sglang_measures_top_p_on_the_full_distribution() -> None:
    x = torch.randn(1, 1000, generator=torch.Generator().manual_seed(0))
    assert count("sglang:top_k=10,top_p=0.5", x) == 10
    assert count("hf:top_k=10,top_p=0.5", x) < 10
    assert count("vllm:top_k=10,top_p=0.5", x) == count("hf:top_k=10,top_p=0.5", x)


def test_min_p_before_top_p_keeps_fewer_in_vllm() -> None:
    x = torch.randn(1, 1000, generator=torch.Generator().manual_seed(0)) * 2
    hf, vllm = (count(f"{e}:top_k=0,top_p=0.95,min_p=0.05", x) for e in ("hf", "vllm"))
    assert vllm < hf
    assert count("llama.cpp:top_k=0,top_p=0.95,min_p=0.05", x) == hf


def test_min_p_one_keeps_all_tied_maxima() -> None:
    x = torch.tensor([[2.0, 2, 1, 2]])
    assert [count(f"{e}:min_p=1", x) for e in ("hf", "vllm", "sglang", "llama.cpp")] == [3, 3, 3, 3]


def test_typical_half_of_eight_equal_logits() -> None:
    assert count("llama.cpp:typical=0.5,top_p=1", flat(8)) == 5
    assert count("hf:typical=0.5", flat(8)) == 8


def test_huggingface_guards_typical_against_removed_tokens() -> None:
    x = torch.randn(1, 40, generator=torch.Generator().manual_seed(0))
    x[:, 20:] = -torch.inf
    assert count("llama.cpp:typical=0.9,top_p=1,min_p=0", x) == count("hf:typical=0.9", x) == 13


def test_epsilon_rescues_all_tied_maxima() -> None:
    assert count("hf:epsilon=0.2", flat(8)) == 8


def test_top_h_of_one_cuts_to_a_hundred() -> None:
    x = torch.randn(1, 400, generator=torch.Generator().manual_seed(1))
    assert 99 <= count("hf:top_k=0,top_h=1.0", x) <= 100


def test_xtc_leaves_one_of_eight_equal_tokens() -> None:
    chain = resolve("llama.cpp:xtc=1,xtc_threshold=0.1,top_p=1")
    ledger = chain.run(flat(8), NONE)
    assert ledger.kept.sum() == 1
    assert "eliminated for being too likely" in ledger.records[-2].why(0)


def test_xtc_draws_decide() -> None:
    x = flat(8).expand(3, 8)
    entry = resolve("xtc=0.4").run(x, NONE.expand(3, 0), draws=torch.tensor([0.1, 0.4, 0.5])).records[0]
    assert entry.active.tolist() == [True, True, False] and entry.n_after.tolist() == [1, 1, 8]
    undecided = resolve("xtc=0.4").run(flat(8), NONE).records[0]
    assert not bool(undecided.active) and "no draw given" in undecided.notes[0]
    assert resolve("koboldcpp:xtc=0.4").run(flat(8), NONE, draws=torch.tensor([0.4])).kept.sum() == 8


def test_xtc_min_keep_is_all_or_nothing() -> None:
    assert count("xtc=1,xtc.min_keep=2", flat(8)) == 8


@pytest.mark.parametrize(("engine", "in_output", "in_prompt"), [
    ("llama.cpp", 0.7583, -2.50), ("vllm", 0.7583, -1.50), ("sglang", 0.8750, -1.25),
])  # fmt: skip
def test_penalties(engine: str, in_output: float, in_prompt: float) -> None:
    """Token 9 once in the output at logit 1.75; token 7 twice in the prompt at logit -1.25."""
    x = flat(16).clone()
    x[0, 9], x[0, 7] = 1.75, -1.25
    spec = f"{engine}:repetition_penalty=1.2,frequency_penalty=0.3,presence_penalty=0.4"
    stage = next(s for s in resolve(spec).stages if s.kind == "penalties")
    final = alone(stage).run(x, NONE, [History((7, 3, 7), (9,))]).final[0]
    assert final[9].item() == pytest.approx(in_output, abs=5e-5)
    assert final[7].item() == pytest.approx(in_prompt, abs=5e-5)


def test_negative_window_is_off_in_llama_cpp() -> None:
    stages = {s.kind: s for s in resolve("llama.cpp:repeat_penalty=1.05,repeat_last_n=-1").stages}
    assert stages["penalties"].is_off()
    assert not resolve("repetition_penalty=1.05,penalties.last_n=-1").stages[0].is_off()


def test_llama_cpp_tempers_last() -> None:
    """Truncation at temperature 1: the survivors do not depend on the temperature."""
    x = torch.randn(1, 500, generator=torch.Generator().manual_seed(3)) * 3
    sets = {t: resolve(f"llama.cpp:temperature={t}").run(x, NONE).kept for t in (0.3, 3.0)}
    assert torch.equal(sets[0.3], sets[3.0])
    assert count("hf:temperature=0.3,top_p=0.9", x) < count("hf:temperature=3.0,top_p=0.9", x)


@pytest.mark.parametrize("temperature", [0, -1])
def test_llama_cpp_temperature_zero_takes_the_best_survivor(temperature: int) -> None:
    x = torch.tensor([[5.0, 4.9, 1.0, 0.0]])
    chain = resolve(f"llama.cpp:temperature={temperature},xtc=1")
    ledger = chain.run(x, torch.tensor([[0, 1]]))
    assert ledger.kept.tolist() == [[False, True, False, False]]
    assert [r.alive_after.tolist() for r in ledger.records[7:9]] == [[[True, True]], [[False, True]]]


def test_dynamic_temperature_counts_removed_entries_in_llama_cpp() -> None:
    x = torch.tensor([[3.0, 2.0, 1.0, -9.0, -9.5]])
    spec = "llama.cpp:top_k=0,top_p=1,min_p=0,temperature=1,dynatemp_range=0.5,top_n_sigma="
    with_entries = resolve(spec + "1").run(x, NONE)
    n = int(with_entries.records[3].n_after)
    p = torch.softmax(x[0, :n].double(), 0)
    share = float(-(p * p.log()).sum()) / math.log(5)
    assert with_entries.records[-1].threshold.item() == pytest.approx(0.5 + share)


def test_dry_clamps_the_exponent_in_float32() -> None:
    stage = STAGES["dry"](multiplier=1.0, base=4.0, allowed_length=0)
    assert stage.penalty(1000) == pytest.approx(4.0**64)


def test_dry_names_the_ngram_of_a_repeated_tool_call() -> None:
    call = (11, 12, 13, 14, 15)
    history = History((1, *call, 99, 2), (11, 12, 13, 14))
    x = flat(128)
    entry = resolve("dry=0.8,dry.allowed_length=2,temperature=1").run(x, NONE, [history]).records[0]
    assert list(entry.details()) == [15]
    assert "'15;' would repeat the 4-gram '11;12;13;14;'" in entry.details()[15].told(lambda i: f"{i};")
    assert "4-gram [11, 12, 13, 14]" in entry.why(15)
    ledger = resolve("dry=0.8").run(x, NONE, [history])
    assert ledger.final[0, 15].item() == pytest.approx(-0.8 * 1.75**2)


def test_dry_breakers() -> None:
    history = History((), (11, 12, 13, 14, 99, 11, 12, 13))
    x = flat(128)

    def penalty(**settings: object) -> float:
        stage = STAGES["dry"](multiplier=1.0, base=2.0, **settings)
        return -alone(stage).run(x, NONE, [history]).final[0, 14].item()

    assert penalty() == 2.0
    assert penalty(breaker_tokens=((12,),)) == 0.0
    assert penalty(breaker_tokens=((11, 12),)) == 0.0
    assert penalty(breaker_tokens=((11,),)) == 1.0
    assert penalty(breaker_tokens=((11,),), at_limit=False) == 0.0
    assert penalty(breaker_tokens=((14,),)) == 0.0
    assert penalty(allowed_length=3) == 1.0 and penalty(allowed_length=4) == 0.0
    assert penalty(last_n=3) == 0.0


def test_dry_breaker_strings_need_a_vocabulary() -> None:
    chain = resolve("llama.cpp:dry=1")
    pieces = [f"t{i}" for i in range(20)] + ["a:", "\n\n"]
    known = chain.with_vocabulary(pieces).stages[2]
    assert known.breaker_tokens == ((21,), (20,)) and not known.breakers
    notes = chain.run(flat(22), NONE, [History((1, 2, 3))]).records[2].notes
    assert any("no vocabulary" in note for note in notes)


def test_mirostat_two_on_equal_logits_leaves_one() -> None:
    assert count("mirostat_v2=5", flat(50_257)) == 1
    assert count("mirostat_v1=5", flat(50_257)) == 1


def test_mirostat_state_moves_against_the_surprise() -> None:
    x = torch.log(torch.tensor([[0.5, 0.25, 0.125, 0.125]]).double())
    chain = resolve("mirostat_v2=1.0,mirostat_v2.eta=0.5")
    state = chain.start(1)
    first = chain.run(x, NONE, state=state)
    assert first.kept.sum() == 2  # mu = 2 bits
    state = chain.accept(state, first, torch.tensor([1]))
    assert state[0].item() == pytest.approx(2 - 0.5 * (math.log2(3) - 1))
    assert chain.run(x, NONE, state=state).kept.sum() == 1


def test_mirostat_one_by_hand() -> None:
    p = torch.tensor([0.4, 0.25, 0.15, 0.1, 0.06, 0.04], dtype=torch.float64)
    t = [math.log((i + 2) / (i + 1)) for i in range(5)]
    b = [math.log(p[i] / p[i + 1]) for i in range(5)]
    s = sum(x * y for x, y in zip(t, b, strict=True)) / sum(x * x for x in t)
    k = int((((s - 1) * 2 ** (2 * 1.5)) / (1 - 6 ** -(s - 1))) ** (1 / s))
    entry = resolve("mirostat_v1=1.5").run(p.log()[None], NONE).records[0]
    assert entry.threshold.item() == k == int(entry.n_after)


def test_tail_free_by_hand() -> None:
    """p = .5 .3 .1 .06 .04: second differences 0, .16, .02 of .18 in all; sums 0, .889, 1."""
    x = torch.log(torch.tensor([[0.5, 0.3, 0.1, 0.06, 0.04]], dtype=torch.float64))
    assert count("tail_free=0.5", x) == 1
    assert count("tail_free=0.95", x) == 2
    shifted = alone(STAGES["tail_free"](z=0.95, rule="shifted"))
    assert count(shifted, x) == 3
    assert count(alone(STAGES["tail_free"](z=0.999999, rule="shifted")), flat(8)) == 7


def test_top_a_and_top_n_sigma_by_hand() -> None:
    x = torch.log(torch.tensor([[0.5, 0.3, 0.1, 0.06, 0.04]], dtype=torch.float64))
    assert count("top_a=0.4", x) == 3  # threshold 0.1, met exactly but for rounding
    y = torch.tensor([[4.0, 2.0, 0.0, -torch.inf]])
    sigma = math.sqrt(8 / 3)
    assert count(f"top_n_sigma={2 / sigma + 1e-6}", y) == 2
    filled = STAGES["top_n_sigma"](n=2 / math.sqrt(11 / 3) + 1e-6, sigma="zero_filled")
    assert count(alone(filled), y) == 2


def spread_row(n: int, hole: int, scale: float) -> torch.Tensor:
    """A row of logits that any language can make: no generator, every ``hole``-th removed."""
    places = np.arange(n)
    row = (places * 7919 % n).astype(np.float32) / np.float32(n) * np.float32(scale)
    if hole:
        row[places % hole == 1] = -np.inf
    return torch.from_numpy(row)[None]


@pytest.mark.parametrize(
    ("scale", "p", "kept"), [(1, 0.999, 50_171), (8, 0.999, 41_590), (16, 0.9999, 27_764)]
)
def test_float32_keeps_as_many_as_llama_cpp(scale: float, p: float, kept: int) -> None:
    """Counts of llama.cpp's own top-p (0c1e57098, g++ -O2), which normalises before it sorts."""
    x = spread_row(50_257, 0, scale)
    chain = replace(resolve(f"llama.cpp:top_k=0,top_p={p},min_p=0"), precision="float32")
    assert count(chain, x) == kept


UNDEFINED = [
    (12, 3, 6.0, 0.5, [2, 3], 2),
    (16, 2, 4.0, 0.9, [2, 4, 6, 8, 10], 5),
    (17, 2, 4.0, 0.9, [0, 2, 4, 6, 8, 10, 12, 14, 16], 17),
    (40, 3, 6.0, 0.5, [0, 3, 5, 6, 8, 17, 32, 33, 35, 36, 38, 39], 25),
    (300, 0, 400.0, 0.5, None, 292),
]
"""What llama.cpp's own typical (0c1e57098, g++ -O2 with libstdc++) keeps: size, hole, scale and mass of a
row; the tokens kept; the length of its array afterwards."""


@pytest.mark.parametrize(("n", "hole", "scale", "mass", "kept", "size"), UNDEFINED)
def test_typical_after_removed_tokens_is_llama_cpps(
    n: int, hole: int, scale: float, mass: float, kept: list[int] | None, size: int
) -> None:
    chain = resolve(f"llama.cpp:top_k=0,top_p=1,min_p=0,typical={mass},temperature=1")
    x = spread_row(n, hole, scale)
    targets = torch.arange(n)[None]
    entry = next(r for r in chain.run(x, targets).records if r.stage == "typical")
    alive = entry.alive_after[0].nonzero()[:, 0].tolist()
    assert len(alive) == size if kept is None else alive == kept
    assert int(entry._after.size[0]) == size
    assert "undefined" in str(entry.notes) or "libstdc++" in str(entry.notes)
    assert bool((entry.margin[entry.alive_after] >= 0).all())
    gone = entry.alive_before & ~entry.alive_after
    assert bool((entry.margin[gone] <= 0).all())
    assert all("undefined order" in entry.why_target(k) for k in gone[0].nonzero()[:, 0].tolist())


def test_typical_with_a_removed_token_by_hand() -> None:
    x = torch.tensor([[2.0, 1.0, 0.0, -torch.inf]])
    assert count("llama.cpp:top_k=0,top_p=1,min_p=0,typical=0.5,temperature=1", x) == 1


@pytest.mark.parametrize("engine", ["koboldcpp", "text-generation-webui"])
def test_what_two_engines_turn_off_that_llama_cpp_does_not(engine: str) -> None:
    """A target of 0 and a negative multiplier are off there; a window of 0 tokens is all of the text."""
    off = {stage.kind: stage for stage in resolve(f"{engine}:adaptive_target=0,dry_multiplier=-1").stages}
    assert off["adaptive_p"].is_off() and off["dry"].is_off()
    text = History((), (4, 5, 6, 4, 5))
    x = torch.zeros((1, 9))
    for spec, same in ((engine, True), ("llama.cpp", False)):
        dry, whole = (
            resolve(f"{spec}:dry_multiplier=1{more}").run(x, NONE, [text]).final
            for more in (",dry_last_n=0", "")
        )
        assert (float(dry[0, 6]) == float(whole[0, 6])) == same


def test_text_generation_webui_finds_breakers_by_their_last_token() -> None:
    """That of the string behind a letter, not all that hold it; a breaker is never penalised."""
    pieces = ["", "\n", "x\n", "a", "b", "c"]
    chain = resolve('text-generation-webui:dry_multiplier=1,dry.breakers=["\\n"]')
    (dry,) = (
        one
        for one in chain.with_vocabulary(pieces, lambda text: [pieces.index(t) for t in text]).stages
        if one.kind == "dry"
    )
    assert dry.params()["breaker_tokens"] == [[1]]
    text = History((), (3, 4, 1, 5, 3, 4))
    for token, lowered in ((1, False), (2, True)):
        seen = History((), tuple(token if one == 1 else one for one in text.generated))
        ledger = Chain("one", stages=(dry,)).run(torch.zeros((1, 6)), NONE, [seen])
        assert (float(ledger.final[0, token]) < 0) == lowered
    free = resolve("text-generation-webui:dry_multiplier=1,dry_allowed_length=0")
    nothing = free.run(torch.zeros((1, 9)), NONE, [History((), (3, 4, 5))])
    assert not bool(nothing.final.ne(0).any())  # no match is not a match of length 0


def test_text_generation_webui_spares_newlines_and_ends_from_xtc() -> None:
    x = torch.tensor([[0.4, 0.35, 0.2, 0.05]]).log()
    spell = {"\n": [1]}
    for ends, encode, left in (([3], {}, 2), ([0], {}, 4), ([3], spell, 4)):
        chain = resolve("text-generation-webui:xtc_probability=1").with_ends(ends)
        chain = chain.with_vocabulary([""] * 4, lambda text, known=encode: known.get(text, ()))
        assert int(chain.run(x, NONE, draws=torch.tensor([0.0])).kept.sum()) == left


def test_koboldcpp_puts_a_truncation_before_adaptive_p() -> None:
    """koboldcpp.py sets min_p = 0.002 where neither min-p nor top-p cuts, and says nothing."""
    alone = resolve("koboldcpp:adaptive_target=0.3,top_p=1")
    assert alone.origins_of("min_p") == {"p": "koboldcpp, for adaptive_p"}
    by_name = {stage.name: stage.params() for stage in alone.stages}
    assert by_name["min_p"]["p"] == 0.002
    for spec in ("koboldcpp:adaptive_target=0.3", "koboldcpp:top_p=1", "koboldcpp"):
        assert not resolve(spec).origins_of("min_p")


def test_guidance_of_logits_is_that_of_log_probabilities_until_a_penalty() -> None:
    torch.manual_seed(0)
    x, other = torch.randn(1, 9).double() + 4, torch.randn(9).double() + 4
    text = History((1, 2), (3,), {"against": other})
    rates = [f"guidance=1.5,guidance.of={of}" for of in ("log_probs", "logits")]
    same = [resolve(spec).run(x, NONE, [text]).probs() for spec in rates]
    assert torch.allclose(*same)
    penalised = [resolve(f"{spec},repetition_penalty=1.5").run(x, NONE, [text]).probs() for spec in rates]
    assert not torch.allclose(*penalised)
