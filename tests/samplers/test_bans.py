"""Bans and biases against the processors of transformers: each alone, and whole chains as it makes them."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any

import pytest
import torch
import transformers

from elimtool.errors import ElimError
from elimtool.samplers import STAGES, Chain, History, Stage, resolve
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.no_repeat_ngram import least_ngram
from elimtool.samplers.stage import Context
from tests.samplers.rows import KINDS, alone, example, rows

VOCAB, PROMPT = 12, 5
NONE = torch.zeros((1, 0), dtype=torch.int64)
INF = float("inf")

EVERY = list(range(VOCAB))
ALLOWED = {0: [1, 2], 1: [0, 3, 4], 2: [2], 5: [0, 1, 2, 3, 4, 6]}
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
    "encoder": ({"encoder_repetition_penalty": 1.3}, "encoder_repetition_penalty=1.3"),
    "encoder ngram 1": ({"encoder_no_repeat_ngram_size": 1}, "encoder_no_repeat_ngram=1"),
    "encoder ngram 2": ({"encoder_no_repeat_ngram_size": 2}, "encoder_no_repeat_ngram=2"),
    "repetition": ({"repetition_penalty": 1.4}, "repetition_penalty=1.4"),
    "forced end": (
        {"forced_eos_token_id": [1, 5], "max_length": PROMPT + 4},
        f"forced_eos=[1, 5],forced_eos.length={PROMPT + 3}",
    ),
    "forced begin": ({"forced_bos_token_id": 4}, "forced_bos=4"),
    "prefix": (
        {"prefix_allowed_tokens_fn": lambda _, text: ALLOWED.get(int(text[-1]), EVERY), "num_beams": 1},
        f"prefix_allowed={[[[], EVERY], *([[token], ids] for token, ids in ALLOWED.items())]}",
    ),
    "invalid": ({"remove_invalid_values": True}, "remove_invalid_values=true"),
    "renormalize": ({"renormalize_logits": True}, "renormalize_logits=true"),
    "watermark": (
        {"watermarking_config": transformers.WatermarkingConfig(bias=1.5)},
        "watermark=1.5",
    ),
}
TOGETHER = (
    ("ngram 2", "words", "least new", "suppress"),
    ("bias", "ngram 3", "least", "decay", "begin"),
    ("bias", "words", "decay", "suppress", "begin"),
    ("encoder", "repetition", "encoder ngram 2", "words", "prefix", "forced end", "watermark"),
    ("ngram 2", "prefix", "invalid", "begin", "watermark", "renormalize"),
    ("ngram 1", "words", "suppress"),
)
EOS = [2, 6]


@lru_cache
def model() -> transformers.LlamaForCausalLM:
    config = transformers.LlamaConfig(
        vocab_size=VOCAB, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    return transformers.LlamaForCausalLM(config)


def processors(prompts: torch.Tensor, prefix_allowed_tokens_fn: Any = None, **given: Any) -> Any:
    """The processors that transformers itself makes for a setting, in its order."""
    generation = transformers.GenerationConfig(eos_token_id=EOS, **given)
    generation._eos_token_tensor = torch.tensor(EOS)
    return model()._get_logits_processor(
        generation,
        input_ids_seq_length=prompts.shape[1],
        encoder_input_ids=prompts,
        prefix_allowed_tokens_fn=prefix_allowed_tokens_fn,
        device="cpu",
    )


def texts(n: int, seed: int, prompt: int = PROMPT) -> torch.Tensor:
    """Texts in which n-grams repeat, with none to six tokens written after the prompt."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 7, (n, prompt + seed % 7), generator=draw)


def compared(
    chain: Chain, given: dict[str, Any], n: int, kinds: Any = KINDS, prompt: int = PROMPT
) -> tuple[int, int]:
    """Compare a chain with transformers on rows of every kind; return how many, and how many it empties."""
    emptied = 0
    for seed in range(7):
        ids = texts(n, seed, prompt)
        made = processors(ids[:, :prompt], **given)
        past = [History(tuple(row[:prompt]), tuple(row[prompt:])) for row in ids.tolist()]
        for kind in kinds:
            x = rows(kind, n, VOCAB, seed)
            if "remove_invalid_values" in given:  # it puts in the least number of float32
                x = x.float()
            wanted = made(ids, x.clone())
            ledger = chain.run(x, NONE.expand(n, 0), past)
            assert torch.equal(ledger.kept, wanted > -torch.inf), (chain.name, kind, seed)
            alive = wanted > -torch.inf
            near = 1e-5 if x.dtype == torch.float32 else 1e-6
            close = torch.allclose(ledger.final[alive], wanted[alive].double(), rtol=near, atol=near)
            assert close, (chain.name, kind, seed)
            emptied += int((~alive.any(-1)).sum())
    return 7 * len(kinds) * n, emptied


@pytest.mark.parametrize("name", SETTINGS)
def test_each_processor(name: str) -> None:
    given, spec = SETTINGS[name]
    given, prompt = {"do_sample": False, **given}, 1 if name == "forced begin" else PROMPT
    chain = resolve(f"hf:top_k=0,{spec}").with_ends(EOS)
    made = processors(texts(1, 0, prompt), **given)
    assert len(made) == 1 and len([stage for stage in chain.stages if not stage.is_off()]) == 1
    assert compared(chain, given, 30, prompt=prompt)[0] >= 1000
    if name != "decay":  # a test that cannot fail is none
        with pytest.raises(AssertionError):
            compared(resolve("hf:top_k=0"), given, 30, prompt=prompt)


@pytest.mark.parametrize("names", TOGETHER, ids=",".join)
def test_whole_chains_on_ten_thousand_rows_in_all(names: tuple[str, ...]) -> None:
    given = {key: value for name in names for key, value in SETTINGS[name][0].items()}
    # under a temperature of 1 float32 overflows on what remove_invalid_values put in
    given |= {"do_sample": True, "temperature": 1.25, "top_k": 5, "min_p": 0.05}
    spec = ",".join(SETTINGS[name][1] for name in names)
    chain = resolve(f"hf:{spec},temperature=1.25,top_k=5,min_p=0.05").with_ends(EOS)
    assert len(processors(texts(1, 0), **given)) == len(names) + 3
    kinds = [kind for kind in KINDS if "flat" not in kind]
    seen, emptied = compared(chain, given, 60, kinds)
    assert seen * len(TOGETHER) >= 10_000
    assert emptied or names[0] != "ngram 1", "some chain must be compared on rows that it empties"


def test_a_watermark_that_hashes_the_candidate_too() -> None:
    config = transformers.WatermarkingConfig(bias=1.5, seeding_scheme="selfhash", context_width=3)
    made = config.construct_processor(60, "cpu")
    chain = resolve("watermark=1.5,watermark.scheme=selfhash,watermark.width=3")
    for kind in ("normal", "peaked", "holes"):
        x, ids = rows(kind, 5, 60), texts(5, 2)
        past = [History(tuple(row)) for row in ids.tolist()]
        wanted, ledger = made(ids, x.clone()), chain.run(x, NONE.expand(5, 0), past)
        assert torch.equal(ledger.final, wanted) and not torch.equal(ledger.final, x)


SYNTHID = transformers.SynthIDTextWatermarkingConfig
SECRETS = [654, 400, 836, 123, 340]


@pytest.mark.parametrize(
    ("config", "spec"),
    [
        (SYNTHID(5, SECRETS), ""),
        (SYNTHID(2, SECRETS, context_history_size=3), "n=2,remembered=3"),
        (SYNTHID(3, SECRETS, sampling_table_size=101, sampling_table_seed=7), "n=3,table=101,seed=7"),
        (SYNTHID(4, SECRETS[:1], skip_first_ngram_calls=True), "n=4,skip_first=true"),
    ],
)
def test_synthid_step_by_step(config: Any, spec: str) -> None:
    """The processor remembers what it was called with; the stage reads it off the text."""
    keys = config.keys
    chain = resolve(",".join([f"synthid={keys}", *(f"synthid.{one}" for one in spec.split(",") if one)]))
    seen, alone = 0, 0
    for at, kind in enumerate(KINDS):
        made, ids = config.construct_processor(VOCAB, "cpu"), texts(20, 7 * at)
        draw = torch.Generator().manual_seed(at)
        for step in range(12):
            x = rows(kind, 20, VOCAB, 100 * at + step)  # in float32 its 1 + g - sum loses most digits
            wanted = made(ids, x.clone())
            past = [History(tuple(row[:PROMPT]), tuple(row[PROMPT:])) for row in ids.tolist()]
            ledger = chain.run(x, NONE.expand(20, 0), past)
            assert torch.equal(ledger.kept, wanted > -torch.inf), (kind, step)
            least = torch.finfo(torch.float32).min  # what the stage makes of -inf; in float64 theirs is lower
            assert torch.allclose(ledger.final, wanted.clamp(min=least).where(ledger.kept, -torch.inf)), (
                kind,
                step,
            )
            seen, alone = seen + 20, alone + int((~ledger.records[0].active).sum())
            written = torch.randint(0, 2, (20, 1), generator=draw)  # so that contexts come again
            ids = torch.cat([ids, written], -1)
    assert seen == 20 * 12 * len(KINDS) and alone > 0
    other, x = SYNTHID(config.ngram_len, [key + 1 for key in keys]).construct_processor(VOCAB, "cpu"), x[:, :]
    assert not torch.allclose(
        other(texts(20, 0), x), resolve(f"synthid={keys}").run(x, NONE.expand(20, 0)).final
    )


def test_synthid_in_a_whole_chain_on_ten_thousand_rows() -> None:
    given = {key: value for name in ("ngram 2", "words", "begin") for key, value in SETTINGS[name][0].items()}
    given |= {"do_sample": True, "temperature": 1.25, "top_k": 5, "renormalize_logits": True}
    given["watermarking_config"] = SYNTHID(3, SECRETS)
    spec = ",".join(SETTINGS[name][1] for name in ("ngram 2", "words", "begin"))
    chain = resolve(
        f"hf:{spec},temperature=1.25,top_k=5,synthid={SECRETS},synthid.n=3,renormalize_logits=true"
    ).with_ends(EOS)
    draw, seen, emptied = torch.Generator().manual_seed(0), 0, 0
    for at, kind in enumerate(kind for kind in KINDS if "flat" not in kind):
        ids = texts(1000, 7 * at)
        made = processors(ids, **given)
        for step in range(2 + 2 * (at == 0)):
            x = rows(kind, 1000, VOCAB, 100 * at + step)
            wanted = made(ids, x.clone())
            past = [History(tuple(row[:PROMPT]), tuple(row[PROMPT:])) for row in ids.tolist()]
            ledger = chain.run(x, NONE.expand(1000, 0), past)
            empty = ledger.before(chain.stages.index(chain.stages[-2])).n == 0
            assert torch.equal(ledger.kept, wanted > -torch.inf), (kind, step)
            torch.testing.assert_close(ledger.probs(), wanted.softmax(-1))
            seen, emptied = seen + 1000, emptied + int(empty.sum())
            ids = torch.cat([ids, torch.randint(0, 7, (1000, 1), generator=draw)], -1)
    assert seen >= 10_000


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


def test_a_ban_that_empties_the_row_is_recorded_and_later_stages_see_nothing() -> None:
    """Also among rows that are not empty, which it must not change."""
    x = rows("normal", 3, VOCAB)
    x[1, 3:] = -INF
    bans = STAGES["suppress"](tokens=(0, 1, 2))
    later = [example(kind) for kind in STAGES if not STAGES[kind].revives and STAGES[kind].role != "combine"]
    past = [History((5, 6, 7, 1, 5, 6), (7, 2, 5, 6))] * 3
    for stage in later:
        chain = Chain("two", stages=(bans, stage))
        ledger = chain.run(x, torch.arange(VOCAB).expand(3, -1), past, draws=torch.full((3,), 0.5))
        first, second = ledger.records
        assert first.n_after[1] == 0 == first.n_drawable[1] and float(first.mass_pruned[1]) == pytest.approx(
            1
        )
        assert not bool(first.alive_after[1].any()) and "no token is left" in first.notes_on(1)[0]
        assert first.notes_on(0) == []
        assert not bool(second.active[1]) and second.n_before[1] == 0 == second.n_after[1]
        assert bool(second.margin[1].isnan().all()) and not bool(ledger.probs()[1].any())
        others = [0, 2]
        alone = chain.run(x[others], torch.arange(VOCAB).expand(2, -1), past[:2], draws=torch.full((2,), 0.5))
        assert torch.equal(alone.final, ledger.final[others]), stage.kind
        assert torch.equal(alone.records[1].n_after, second.n_after[others])


@pytest.mark.parametrize(
    ("spec", "left"),
    [("force=3,force.length=2", 1), ("prefix_allowed=[[[], [3, 4]]]", 2), ("remove_invalid=true", VOCAB)],
)
def test_banned_tokens_can_come_back(spec: str, left: int) -> None:
    every = list(range(VOCAB))
    ledger = resolve(f"suppress={every},{spec}").run(
        rows("normal", 1, VOCAB), torch.tensor([[3, 0]]), [History((1, 2))]
    )
    first, second = ledger.records
    assert int(first.n_after) == 0 and int(second.n_after) == left == int(second.n_drawable)
    assert not bool(second.alive_before.any()) and bool(second.alive_after[0, 0])
    assert float(second.prob_after[0, 0]) == pytest.approx(1 / left)
    assert torch.allclose(ledger.probs().sum(-1), torch.ones(1).double())


def test_a_soft_ban_leaves_survivors_that_cannot_be_drawn() -> None:
    ledger = resolve("suppress=[3, 4],remove_invalid=true").run(rows("normal", 1, VOCAB), NONE)
    counts = [(int(one.n_after), int(one.n_drawable)) for one in ledger.records]
    assert counts == [(VOCAB - 2, VOCAB - 2), (VOCAB, VOCAB - 2)]


def test_force_ignores_what_comes_before() -> None:
    forced = "force=[3, 5],force.length=2"
    history, x = [History((1, 2))], rows("normal", 1, VOCAB)
    found = [
        resolve(f"{before}{forced}").run(x, NONE, history).probs()
        for before in ("", "top_k=1,", "bad_words=[[3]],")
    ]
    assert all(torch.equal(found[0], one) for one in found) and float(found[0][0, 3]) == 0.5
    entry = alone(STAGES["force"](tokens=(3,), length=2)).run(x, torch.tensor([[3, 1]]), history).records[0]
    assert float(entry.mass_pruned) == pytest.approx(1 - float(entry.prob_before[0, 0]))
    assert entry.why(1) == "displaced: force forces 3 after 2 tokens"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("force=3", "length is not set"),
        ("force=99,force.length=0", "token id 99 is not in the vocabulary"),
        ("force=[-1]", "tokens must be a list of token ids"),
        ("prefix_allowed=[[[1], []]]", "allowed must be pairs"),
        ("prefix_allowed=[[[], [99]]]", "token id 99 is not in the vocabulary"),
        ("encoder_repetition=0", "penalty must be"),
        ("watermark=1,watermark.share=1", "share must be"),
        ("watermark=1,watermark.scheme=other", "scheme = 'other' is not valid"),
        ("no_repeat_ngram=2,no_repeat_ngram.of=output", "of = 'output' is not valid"),
        ("remove_invalid=1", "on must be true or false"),
    ],
)
def test_what_cannot_be_is_refused(spec: str, said: str) -> None:
    with pytest.raises(ElimError, match=said):
        resolve(spec).run(rows("normal", 1, VOCAB), NONE)


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
