"""A grammar that checks the drawn token, as llama.cpp's: against the engine's own loop, simulated here."""

from __future__ import annotations

from math import exp
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

import elimtool
from elimtool import TraceOptions
from elimtool.engine.forced import mean_of, ways
from elimtool.model.small import small_model
from elimtool.samplers import STAGES, Chain, History, resolve
from elimtool.samplers.draws import joined, second_draws
from elimtool.samplers.grammar import Grammar
from elimtool.samplers.temperature_range import temperature_ranges

pytest.importorskip("llguidance")

END = 3
NOBODY = torch.full((1, 1), -1)
DRAWS = 20_000


def grammar(mode: str = "check") -> Grammar:
    """Byte n + 33 is token n of the small model: 13 tokens and the end, token 3, are allowed."""
    stage = Grammar(regex="[!-.]{1,30}", eos=(END,), mode=mode)  # type: ignore[arg-type]
    return stage.with_tokenizer(small_model().tokenizer.definition, 256)


def chain_of(*stages: Any) -> Chain:
    return Chain("checked", stages=stages)


def peaked() -> torch.Tensor:
    """A row whose best tokens are partly outside the grammar."""
    x = torch.randn(256, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    for token, value in {40: 4.0, 1: 3.6, 90: 3.5, 5: 3.4, 120: 3.0, 7: 2.9, 9: 2.5}.items():
        x[token] = value
    return x[None]


def engine_chain(logits: np.ndarray, k: int, p: float, least: float, t: float) -> dict[int, float]:
    """llama.cpp's chain by hand: top-k, top-p, min-p, temperature; what may be drawn, with probabilities."""
    order = sorted(np.flatnonzero(logits > -np.inf), key=lambda token: -logits[token])[:k]
    weights = [exp(logits[token] - logits[order[0]]) for token in order]
    total, mass, kept = sum(weights), 0.0, 0
    for weight in weights:
        mass, kept = mass + weight / total, kept + 1
        if mass >= p:
            break
    order = [one for one in order[:kept] if logits[one] >= logits[order[0]] + np.log(least)]
    weights = [exp((logits[token] - logits[order[0]]) / t) for token in order]
    return {int(token): weight / sum(weights) for token, weight in zip(order, weights, strict=True)}


def test_it_draws_as_the_engines_own_loop_does() -> None:
    logits = peaked()[0].numpy()
    allowed = set(np.flatnonzero(grammar().at(()).allowed).tolist())
    random = np.random.default_rng(11)

    def draw(row: np.ndarray) -> int:
        found = engine_chain(row, 5, 0.9, 0.05, 0.7)
        return int(random.choice(list(found), p=list(found.values())))

    masked = np.where(np.isin(np.arange(256), list(allowed)), logits, -np.inf)
    counts = np.zeros(256)
    rejected = 0
    for _ in range(DRAWS):  # sample, check, sample again with the grammar first
        token = draw(logits)
        if token not in allowed:
            rejected += 1
            token = draw(masked)
        counts[token] += 1
    settings = {"top_k": 5, "top_p": 0.9, "min_p": 0.05, "temperature": 0.7}
    spec = "llama.cpp:" + ",".join(f"{name}={value}" for name, value in settings.items())
    chain = resolve(spec, grammar=Grammar(regex="[!-.]{1,30}"))
    assert [one.kind for one in chain.stages].index("grammar") == len(chain.stages) - 1
    chain = chain.with_ends((END,)).with_tokenizer(small_model().tokenizer.definition, 256)
    ledger = chain.run(peaked(), NOBODY)
    found = ledger.probs()[0].numpy()
    alive = found > 0
    assert (counts[~alive] == 0).all() and alive.sum() >= 4
    assert chisquare(counts[alive], found[alive] / found[alive].sum() * DRAWS).pvalue > 1e-3
    share = float(ledger.records[-1].mass_pruned)
    assert abs(rejected / DRAWS - share) < 4 * (share * (1 - share) / DRAWS) ** 0.5 and 0.2 < share < 0.8
    # masking first is another distribution: the same test refuses it
    first = chain_of(grammar("mask"), *chain.stages[:-1]).run(peaked(), NOBODY).probs()[0].numpy()
    assert 0.5 * np.abs(first - found).sum() > 0.03
    both = alive & (first > 0)
    assert chisquare(counts[both], first[both] / first[both].sum() * counts[both].sum()).pvalue < 1e-9


def test_the_mixture_is_that_of_the_two_passes() -> None:
    stages = STAGES["top_k"](k=5), STAGES["temperature"](temperature=0.7)
    targets = torch.arange(256)[None]
    ledger = chain_of(*stages, grammar()).run(peaked(), targets)
    check = ledger.records[-1]
    once = chain_of(*stages).run(peaked(), targets)
    masked = chain_of(grammar("mask"), *stages).run(peaked(), targets)
    allowed = torch.from_numpy(grammar().at(()).allowed.copy())
    first, second = once.probs()[0], masked.probs()[0]
    wanted = first.where(allowed, 0.0) + first[~allowed].sum() * second
    assert torch.allclose(ledger.probs()[0], wanted, atol=1e-12) and torch.equal(wanted > 0, ledger.kept[0])
    assert torch.allclose(check.mass_pruned, first[~allowed].sum())
    assert torch.allclose(check.prob_after[0], wanted, atol=1e-12)
    assert torch.equal(check.prob_before[0], once.records[-1].prob_after[0])
    assert check.second is not None and torch.equal(check.second.probs(), masked.probs())
    assert [one.stage for one in check.second.records] == ["grammar", "top_k", "temperature"]
    back = check.alive_after[0] & ~check.alive_before[0]  # resurrection: the second pass keeps others
    assert bool(back.any()) and bool(allowed[back].all())
    assert not bool((ledger.kept[0] & ~allowed).any()) and abs(float(wanted.sum()) - 1) < 1e-12
    (said,) = check.details(0).values()
    assert "rejects the drawn token with p = 0." in str(said)


def test_a_chain_that_only_rescales_is_masked_first_either_way() -> None:
    stages = STAGES["penalties"](repetition=1.2), STAGES["temperature"](temperature=0.6)
    past = [History((1, 5, 9))]
    checked = chain_of(*stages, grammar()).run(peaked(), NOBODY, past)
    masked = chain_of(grammar("mask"), *stages).run(peaked(), NOBODY, past)
    assert torch.allclose(checked.probs(), masked.probs(), atol=1e-12)


def test_rows_are_independent_and_a_text_that_left_the_grammar_is_let_be() -> None:
    chain = chain_of(STAGES["top_k"](k=5), grammar())
    past = [History(), History((), (200,)), History((), (4, 5))]
    x = torch.cat([peaked(), peaked(), peaked().roll(3, -1)])
    ledger = chain.run(x, NOBODY.expand(3, -1), past)
    for row in range(3):
        alone = chain.run(x[row : row + 1], NOBODY, past[row : row + 1])
        assert torch.allclose(alone.probs()[0], ledger.probs()[row], atol=1e-12)
    assert ledger.records[-1].active.tolist() == [True, False, True]
    assert torch.equal(ledger.probs()[1], chain_of(*chain.stages[:-1]).run(peaked(), NOBODY).probs()[0])


def test_xtc_draws_in_each_pass() -> None:
    xtc = STAGES["xtc"](probability=0.3, threshold=0.05)
    stages = (STAGES["top_k"](k=8), xtc)
    chain = chain_of(*stages, grammar())
    found = ways(chain, peaked(), History(), chain.start(1))
    assert len(found) == 4 and abs(sum(weight for weight, _ in found) - 1) < 1e-12
    allowed = torch.from_numpy(grammar().at(()).allowed.copy())

    def mean(first: tuple[Any, ...]) -> torch.Tensor:
        with_ = [
            w
            * chain_of(*first, stages[0], STAGES["xtc"](probability=1.0, threshold=0.05, fires=fires))
            .run(peaked(), NOBODY)
            .probs()[0]
            for fires, w in ((True, 0.3), (False, 0.7))
        ]
        return with_[0] + with_[1]

    once, again = mean(()), mean((grammar("mask"),))
    wanted = once.where(allowed, 0.0) + once[~allowed].sum() * again
    assert torch.allclose(mean_of(found), wanted, atol=1e-9)
    # drawn numbers: both passes' decisions are independent
    draws = torch.rand(40_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    both = (draws <= 0.3) & (second_draws(draws) <= 0.3)
    assert abs(float(both.double().mean()) - 0.09) < 4 * (0.09 * 0.91 / 40_000) ** 0.5
    assert float(second_draws(torch.tensor([joined(0.15, 0.65)], dtype=torch.float64))) == pytest.approx(0.65)


def test_a_state_learns_from_the_pass_that_drew() -> None:
    stages = STAGES["top_k"](k=3), STAGES["mirostat_v2"](tau=3.0)
    chain = chain_of(*stages, grammar())
    ledger = chain.run(peaked(), NOBODY)
    back = (ledger.kept[0] & ~ledger.records[-1].before.wide()[0].isfinite()).nonzero()[:, 0]
    token = back[:1]
    state = chain.accept(chain.start(1), ledger, token)
    masked = chain_of(grammar("mask"), *stages)
    alone = masked.accept(masked.start(1), masked.run(peaked(), NOBODY), token)
    assert torch.allclose(state[1], alone[2])


def test_temperatures_are_known_where_no_pass_depends_on_them() -> None:
    ranges = temperature_ranges(
        chain_of(STAGES["top_k"](k=3), STAGES["temperature"](temperature=0.7), grammar()),
        peaked(),
        torch.tensor([[1, 40, 5, 2, -1]]),
    )
    assert ranges.status == [["always", "never", "always", "never", ""]]
    late = chain_of(STAGES["temperature"](temperature=0.7), STAGES["top_p"](p=0.5), grammar())
    assert temperature_ranges(late, peaked(), torch.tensor([[1]])).status == [["not determined"]]


def test_tables_say_which_pass(llama: Any) -> None:
    given = Grammar(regex='[a-c]{2}| *"x"')
    options = TraceOptions(
        samplers=("llama.cpp:top_k=20", "vllm"),
        grammar=given,
        generate=4,
        tables=("sampling", "sampling_targets", "grammar", "grammar_passes", "grammar_pass_targets", "walk"),
    )
    run = elimtool.trace(llama, "The capital of France is", targets=["a", "Paris"], options=options)
    assert "".join(run.table("walk")["token"]).removesuffix("<|unknown|>") in (
        *(a + b for a in "abc" for b in "abc"),
        *(" " * n + '"x"'[: 4 - n] for n in range(5)),
    )
    passes = run.table("grammar_passes")
    assert set(passes["chain"]) == {"llama.cpp:top_k=20"}
    stages = resolve("llama.cpp").stages
    assert passes.groupby("pass").size().tolist() == [len(stages), len(stages) + 1]
    mask = run.table("grammar").set_index("chain")
    assert mask["mode"].tolist() == ["check", "mask"]
    rejected = mask.loc["llama.cpp:top_k=20", "mass_removed"]
    assert passes.groupby("pass")["pass_prob"].first().tolist() == pytest.approx([1 - rejected, rejected])
    second = passes[passes["pass"] == 2]
    assert second["stage"].iloc[0] == "grammar" and second["n_after"].iloc[0] > 0
    fates = run.table("grammar_pass_targets").sort_values("stage_index", kind="stable")
    ends = fates.groupby(["target", "pass"]).last()["prob_after"]
    final = run.table("sampling_targets").query("chain != 'vllm' and stage == 'grammar'").set_index("target")
    for target, allowed in (("a", True), ("Paris", False)):
        wanted = allowed * ends[target, 1] + rejected * ends[target, 2]
        assert final.loc[target, "prob_after"] == pytest.approx(wanted, abs=1e-12)
        assert (fates["target"] == target).sum() == 2 * len(stages) + 1
