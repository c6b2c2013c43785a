"""Bans and biases against the processors of transformers: each alone, and whole chains as it makes them."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
import transformers

from elimtool.errors import ElimError
from elimtool.samplers import STAGES, Chain, History, Stage, resolve
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.no_repeat_ngram import least_ngram
from elimtool.samplers.stage import Context
from tests.samplers.rows import KINDS, alone, rows

VOCAB, PROMPT = 12, 5
NONE = torch.zeros((1, 0), dtype=torch.int64)
INF = float("inf")

SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "ngram 1": ({"no_repeat_ngram_size": 1}, "no_repeat_ngram=1"),
    "ngram 2": ({"no_repeat_ngram_size": 2}, "no_repeat_ngram=2"),
    "ngram 3": ({"no_repeat_ngram_size": 3}, "no_repeat_ngram=3"),
    "words": ({"bad_words_ids": [[3], [1, 2], [2], [4, 5, 6]]}, "bad_words=[[3], [1, 2], [2], [4, 5, 6]]"),
    "least": ({"min_length": 9}, "min_length=9"),
    "least new": ({"min_new_tokens": 2}, "min_new_tokens=2"),
    "suppress": ({"suppress_tokens": [1, 4, 7]}, "suppress=[1, 4, 7]"),
    "begin": ({"begin_suppress_tokens": [0, 5]}, "begin_suppress=[0, 5]"),
    "decay": (
        {"exponential_decay_length_penalty": (1, 1.4)},
        "length_decay=1.4,length_decay.after=1",
    ),
    "bias": (
        {"sequence_bias": [[[3], -2.5], [[1, 2], -INF], [[4, 2], 1.5]]},
        "sequence_bias=[[[3], -2.5], [[1, 2], -.inf], [[4, 2], 1.5]]",
    ),
}
TOGETHER = (
    ("ngram 2", "words", "least new", "suppress"),
    ("bias", "ngram 3", "least", "decay", "begin"),
    ("bias", "words", "decay", "suppress", "begin"),
)
EOS = [2, 6]


def processors(**given: Any) -> Any:
    """The processors that transformers itself makes for a setting, in its order."""
    config = transformers.LlamaConfig(
        vocab_size=VOCAB, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    model = transformers.LlamaForCausalLM(config)
    generation = transformers.GenerationConfig(eos_token_id=EOS, **given)
    generation._eos_token_tensor = torch.tensor(EOS)
    ids = torch.zeros((1, PROMPT), dtype=torch.int64)
    return model._get_logits_processor(
        generation, input_ids_seq_length=PROMPT, encoder_input_ids=ids, device="cpu"
    )


def texts(n: int, seed: int) -> torch.Tensor:
    """Texts in which n-grams repeat, with none to six tokens written after the prompt."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 7, (n, PROMPT + seed % 7), generator=draw)


def compared(chain: Chain, made: Any, n: int, kinds: Any = KINDS) -> int:
    for seed in range(7):
        for kind in kinds:
            x, ids = rows(kind, n, VOCAB, seed), texts(n, seed)
            wanted = made(ids, x.clone())
            past = [History(tuple(row[:PROMPT]), tuple(row[PROMPT:])) for row in ids.tolist()]
            ledger = chain.run(x, NONE.expand(n, 0), past)
            full = (wanted > -torch.inf).any(-1)  # what happens to emptied rows has a test of its own
            assert torch.equal(ledger.kept[full], wanted[full] > -torch.inf), (chain.name, kind, seed)
            alive = (wanted > -torch.inf) & full[:, None]
            assert torch.allclose(ledger.final[alive], wanted[alive], rtol=1e-6, atol=1e-6)
    return 7 * len(kinds) * n


@pytest.mark.parametrize("name", SETTINGS)
def test_each_processor(name: str) -> None:
    given, spec = SETTINGS[name]
    made = processors(do_sample=False, **given)
    chain = resolve(f"hf:top_k=0,{spec}").with_ends(EOS)
    assert len(made) == 1 and len([stage for stage in chain.stages if not stage.is_off()]) == 1
    assert compared(chain, made, 30) >= 1000
    if name != "decay":  # a test that cannot fail is none
        with pytest.raises(AssertionError):
            compared(resolve("hf:top_k=0"), made, 30)


@pytest.mark.parametrize("names", TOGETHER, ids=",".join)
def test_whole_chains_on_ten_thousand_rows(names: tuple[str, ...]) -> None:
    given = {key: value for name in names for key, value in SETTINGS[name][0].items()}
    made = processors(do_sample=True, temperature=0.8, top_k=5, min_p=0.05, **given)
    spec = ",".join(SETTINGS[name][1] for name in names)
    chain = resolve(f"hf:{spec},temperature=0.8,top_k=5,min_p=0.05").with_ends(EOS)
    assert len(made) == len(names) + 3
    kinds = [kind for kind in KINDS if "flat" not in kind]
    assert compared(chain, made, 300, kinds) >= 10_000


def one(stage: Stage, history: History | None = None, vocab: int = VOCAB) -> Any:
    return (
        alone(stage)
        .run(rows("normal", 1, vocab), torch.arange(vocab)[None], [history or History()])
        .records[0]
    )


def test_equal_bans_are_equal_and_repeated_ones_change_nothing() -> None:
    banned = [
        STAGES["bad_words"](words=((3,),)),
        STAGES["suppress"](tokens=(3,)),
        STAGES["logit_bias"](bias=((3, -INF),)),
        STAGES["allowed_tokens"](tokens=tuple(i for i in range(VOCAB) if i != 3)),
    ]
    masks = [one(stage).removed_mask for stage in banned]
    assert all(torch.equal(mask, masks[0]) for mask in masks) and masks[0].sum() == 1
    twice = Chain("twice", stages=(banned[0], banned[1])).run(rows("normal", 1, VOCAB), NONE)
    assert twice.records[1].n_before == twice.records[1].n_after
    assert torch.allclose(twice.probs(), alone(banned[0]).run(rows("normal", 1, VOCAB), NONE).probs())


def test_survivors_share_what_the_ban_removes() -> None:
    entry = one(STAGES["suppress"](tokens=(1, 2, 7)))
    kept = entry.alive_after[0]
    wanted = entry.prob_before[0][kept] / (1 - entry.mass_pruned)
    assert torch.allclose(entry.prob_after[0][kept], wanted)
    assert bool(entry.margin.isnan().all()) and bool(entry.threshold.isnan().all())


def test_a_row_tells_the_rule_and_what_would_let_the_token_through() -> None:
    history = History((3, 1, 2, 3), ())
    entry = one(STAGES["no_repeat_ngram"](n=2), history)
    assert entry.why(1) == (
        "would repeat the 2-gram 3 1; no_repeat_ngram of 3 or more, or 0, lets it through"
    )
    assert entry.why(2) == "kept by no_repeat_ngram"
    words = one(STAGES["bad_words"](words=((8,), (2, 3, 5))), history)
    assert words.why(5) == "bad word 1: 2 3 5" and words.why(8) == "bad word 0: 8"
    least = one(STAGES["min_tokens"](n=3, eos=(4,)), History((1,), (2,)))
    assert least.why(4) == "the end 4 is banned under 3 tokens; allowed after 2 more tokens"
    assert entry.rule(1).told(lambda token: f" w{token}").startswith("would repeat the 2-gram ' w3 w1'")


def test_the_least_n_is_the_one_that_the_search_finds() -> None:
    draw = torch.Generator().manual_seed(0)
    for _ in range(200):
        text = tuple(torch.randint(0, 4, (14,), generator=draw).tolist())
        for token in range(5):
            stages = {n: STAGES["no_repeat_ngram"](n=n) for n in range(1, 16)}
            free = [n for n, stage in stages.items() if token not in stage.banned(History(text), 5)[0]]
            assert least_ngram(text, token) == free[0] and free == list(range(free[0], 16))


def test_a_ban_that_empties_the_row_is_recorded() -> None:
    entry = one(STAGES["suppress"](tokens=tuple(range(VOCAB))))
    assert not bool(entry.active) and entry.n_after == VOCAB
    assert "bans every token that is left" in entry.notes[0]


def test_five_thousand_words_cost_little() -> None:
    draw = torch.Generator().manual_seed(0)
    words = tuple(tuple(row) for row in torch.randint(0, 50_000, (5000, 3), generator=draw).tolist())
    chain = alone(STAGES["bad_words"](words=words))
    x = rows("normal", 8, 50_000)
    past = [History(words[i][:2]) for i in range(8)]
    c, context = Candidates.of(x, NONE.expand(8, 0)), Context(past)
    assert c.n.tolist() == [50_000] * 8  # known before the stage, as in a chain
    spent = []
    for _ in range(5):
        begun = time.process_time()
        effect = chain.stages[0].apply(c, context)
        spent.append(time.process_time() - begun)
    assert effect.keep is not None and not bool(effect.keep.all())
    assert min(spent) < 8 * 5e-3


def test_presets_have_bans_only_where_they_are_set() -> None:
    assert [stage.name for stage in resolve("hf").stages][:2] == ["repetition", "temperature"]
    chain = resolve("hf:no_repeat_ngram_size=3,min_new_tokens=4")
    assert [stage.name for stage in chain.stages][:4] == [
        "repetition",
        "no_repeat_ngram",
        "min_new_tokens",
        "temperature",
    ]
    shipped = resolve("hf", {"generation_config.json": {"suppress_tokens": [1, 2], "min_length": 0}})
    assert [stage.name for stage in shipped.stages if not stage.is_off()] == ["suppress", "top_k"]
    assert resolve("text-generation-webui:no_repeat_ngram_size=2").stages[-1].kind == "no_repeat_ngram"
    output = resolve("vllm:bad_words=[[1, 2]]")
    ledger = output.run(rows("normal", 1, VOCAB), torch.tensor([[2]]), [History((1,))])
    assert ledger.records[0].stage == "bad_words" and bool(ledger.records[0].alive_after)
    with pytest.raises(ElimError, match="no_repeat_ngram"):
        resolve("hf:no_repeat_ngram=-1")
