"""Walks that go back where a banned phrase is written, against KoboldCpp's loop on whole passes."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

import elimtool
from elimtool import Prompt, TraceOptions
from elimtool.samplers import resolve
from elimtool.samplers.phrase_ban import PhraseBan

TEXT = "The capital of France is"
LENGTH, SEED, K = 16, 3, 3


def chain_of(phrases: list[str]) -> str:
    return f"top_k={K},phrase_ban={json.dumps(phrases)}"


def small(text: str) -> str:
    return text.encode().lower().decode()  # of bytes, these are A to Z, as in C


def run_of(llama: Any, chain: str, **options: Any) -> Any:
    given = {"tables": ("walk", "walk_stages", "walk_rewinds"), "generate": LENGTH, "seed": SEED} | options
    return elimtool.trace(llama, TEXT, options=TraceOptions(samplers=(chain,), **given))


def by_koboldcpp(llama: Any, phrases: list[str]) -> tuple[list[int], list[dict[str, Any]]]:
    """Write as ``gpttype_generate`` does, without a cache; return the text, and what was taken back."""
    prompt = list(llama.encode(Prompt(TEXT)).token_ids)
    encode = lambda text: llama.tokenizer.encode(text, special=False).ids  # noqa: E731
    limit = 3 + max(len(encode(small(phrase))) for phrase in phrases)
    random = torch.Generator().manual_seed(SEED)
    text: list[int] = []
    probs: list[float] = []
    delayed: list[str] = []
    banned: dict[int, list[int]] = {}
    undone: list[dict[str, Any]] = []
    for drawn in range(1, LENGTH + 1):
        with torch.inference_mode():
            row = llama.hf(input_ids=torch.tensor([prompt + text]), use_cache=False).logits[0, -1].double()
        row = row.clone()
        least = float(row.min())
        row[banned.get(len(text), [])] = least - 8 if least < 0 else 0.0
        left = row.softmax(-1) * (row >= row.topk(K).values[-1])
        left /= left.sum()
        choice = float(torch.rand(2, 1, generator=random, dtype=torch.float64)[1])
        token = int((left.cumsum(-1) > choice).nonzero()[0])
        text.append(token)
        probs = [*probs[: len(text) - 1], float(left[token])]
        delayed.append(llama.tokenizer.texts([token])[0])
        del delayed[: max(0, len(delayed) - limit)]
        for phrase in phrases:
            if small(phrase) in small("".join(delayed)):
                back = next(n for n in range(1, 99) if small(phrase) in small("".join(delayed[-n:])))
                first, *rest = probs[-back:]
                undone.append(
                    {
                        "step": len(text) - back,
                        "n_tokens": back,
                        "token_id": text[-back],
                        "n_drawn": drawn,
                        "back_prob": first,
                        "collateral": first - first * float(torch.tensor(rest).prod()),
                    }
                )
                banned.setdefault(len(text) - back, []).append(text[-back])
                del text[-back:], delayed[-back:]
                break
    return text, undone


def test_a_walk_goes_back_where_koboldcpp_does(llama: Any) -> None:
    phrases: list[str] = []
    free = run_of(llama, f"top_k={K}", tables=("walk",)).table("walk")["token"].tolist()
    written = free
    for begin, size in ((2, 3), (4, 1), (2, 2)):  # each is a part of what the bans before it let through
        phrases.append("".join(written[begin : begin + size]).encode().upper().decode())
        run = run_of(llama, chain_of(phrases))
        written = run.table("walk")["token"].tolist()
    text, undone = by_koboldcpp(llama, phrases)
    found = run.table("walk_rewinds")
    assert run.table("walk")["token_id"].tolist() == text and len(text) < LENGTH
    assert len(undone) >= 3 and {one["n_tokens"] for one in undone} >= {1, 2, 3}
    for name in ("step", "n_tokens", "token_id", "n_drawn"):
        assert found[name].tolist() == [one[name] for one in undone], name
    for name in ("back_prob", "collateral"):
        assert found[name].tolist() == pytest.approx([one[name] for one in undone], rel=1e-4, abs=1e-6)
    assert found["rewind"].tolist() == list(range(len(undone))) and (found["stage"] == "phrase_ban").all()
    assert (found["collateral"][found["n_tokens"] == 1] == 0).all()
    assert not any(small(phrase) in small("".join(written)) for phrase in phrases)
    stages = run.table("walk_stages").set_index("step")
    bans = stages[stages["stage"] == "taken_back"]
    assert set(bans.index[bans["active"]]) == {one["step"] for one in undone if one["step"] < len(text)}
    for step, row in bans[bans["active"]].iterrows():
        assert json.loads(row["params"])["tokens"] == [
            one["token_id"] for one in undone if one["step"] == step
        ]


def test_without_a_phrase_in_it_nothing_changes_and_nothing_is_told(llama: Any) -> None:
    free, banned = (run_of(llama, chain) for chain in (f"top_k={K}", chain_of(["no such phrase at all"])))
    assert free.table("walk")["token_id"].tolist() == banned.table("walk")["token_id"].tolist()
    assert "walk_rewinds" not in banned.tables and "walk_rewinds" not in free.tables


def test_bans_stand_where_the_engine_has_its_own() -> None:
    chain = resolve("koboldcpp:banned_strings=[a b]").with_vocabulary(
        ["a", " b", "c"], lambda text: text.split()
    )
    drawn, bans = chain.without_phrase_bans()
    assert [one.kind for one in chain.stages if one not in drawn.stages] == ["phrase_ban"]
    assert len(bans) == 1 and isinstance(bans[0], PhraseBan)
    at = next(at for at, one in enumerate(drawn.stages) if one.kind == "soft_ban")
    assert drawn.with_soft_ban([2]).stages[at].tokens == (2,) and not drawn.stages[at].tokens
    other = resolve("temperature=0.5,phrase_ban=[a b]").with_vocabulary(["a", " b"])
    assert [one.name for one in other.without_phrase_bans()[0].stages] == ["taken_back", "temperature"]
    plain = resolve("temperature=0.5")
    assert plain.without_phrase_bans() == (plain, ())


def test_only_the_first_phrase_counts_and_what_was_given_out_does_not() -> None:
    ban = PhraseBan(("bc", "abc"), held=3, pieces=["a", "b", "c", "xbcx"])
    rule = ban.taken_back((0, 1, 2))
    assert rule is not None and rule.back == 2 and "'bc'" in str(rule)
    assert ban.taken_back((0, 1)) is None and ban.taken_back(()) is None
    assert ban.taken_back((0, 3)).back == 1  # type: ignore[union-attr]


def test_sampled_paths_go_back_as_walks_do(llama: Any) -> None:
    free = run_of(llama, f"top_k={K}", tables=("walk",)).table("walk")["token"].tolist()
    phrase = "".join(free[2:4])
    asked = {"tables": ("path_steps",), "paths": ("sampled:2",)}
    steps = run_of(llama, chain_of([phrase]), **asked).table("path_steps")
    for place, one in steps.groupby("place"):
        walked = run_of(llama, chain_of([phrase]), seed=SEED + int(place) - 1, tables=("walk",)).table("walk")
        assert one["token_id"].tolist() == walked["token_id"].tolist(), place
    assert small(phrase) not in small("".join(steps[steps["place"] == 1]["token"]))
    assert len(steps[steps["place"] == 1]) < LENGTH, "what was taken back counts"


def test_the_chance_to_stop_is_that_of_texts_that_go_back(
    llama: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two draws, all of them summed by hand: an end, or a phrase of one token and an end in its place."""
    ids, kept = list(llama.encode(Prompt(TEXT)).token_ids), 24

    def left(row: torch.Tensor) -> torch.Tensor:
        probs = row.softmax(-1) * (row >= row.topk(kept).values[-1])
        return probs / probs.sum()

    with torch.inference_mode():
        row = llama.hf(input_ids=torch.tensor([ids])).logits[0, -1].double()
        order = row.argsort(descending=True)[:kept].tolist()
        after = llama.hf(input_ids=torch.tensor([[*ids, token] for token in order])).logits[:, -1].double()
    ends = order[::3]
    monkeypatch.setattr(llama.hf.generation_config, "eos_token_id", ends)
    texts = [small(one) for one in llama.tokenizer.texts(order)]
    phrases = [text for token, text in zip(order, texts, strict=True) if token not in ends][:6]
    first = left(row)
    here, back, later = float(first[ends].sum()), 0.0, 0.0
    for token, text, then in zip(order, texts, after, strict=True):
        if token in ends:
            continue
        if any(phrase in text for phrase in phrases):
            banned = row.clone()
            banned[token] = float(row.min()) - 8
            back += float(first[token] * left(banned)[ends].sum())
        else:
            later += float(first[token] * left(then)[ends].sum())
    options = {"generate": 2, "watch": ("eos",), "samples": 16, "lens": "raw", "tables": ("stops",)}
    rows = run_of(llama, f"top_k={kept},phrase_ban={json.dumps(phrases)}", **options).table("stops")
    for step, exact in enumerate((here + back, here + back + later)):
        error = float(rows["stop_by_se"][step])
        assert 0 < error < 0.04 and rows["stop_by"][step] == pytest.approx(exact, abs=4 * error), step
    assert back > 3 * rows["stop_by_se"][0]
