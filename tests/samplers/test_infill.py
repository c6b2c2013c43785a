"""The infill stage against llama.cpp's loops over its array, on random rows and vocabularies."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import torch

from elimtool.engine.chains import chain_for
from elimtool.samplers import Chain, resolve
from elimtool.samplers.infill import Infill
from tests.samplers.rows import alone

NONE = torch.full((1, 1), -1)
ENDS, EOT = (3, 7), 7


def by_llama_cpp(logits: list[float], size: int, pieces: list[bytes]) -> tuple[list[list[Any]], str]:
    """Run the loops of ``llama_sampler_infill_apply``; return ids and logits left, and by which way."""
    held = sorted(enumerate(logits), key=lambda one: -one[1])[:size]
    probs = torch.tensor([x for _, x in held], dtype=torch.float64).softmax(-1).tolist()
    cur: list[list[Any]] = [[i, x, p] for (i, x), p in zip(held, probs, strict=True)]
    text = sum(p for i, _, p in cur if i not in ENDS)
    ends = sum(p for i, _, p in cur if i in ENDS)
    if 3 * ends * size > text:
        return [one[:2] for one in cur if one[0] in ENDS], "ends"
    for i0 in range(size):
        for i1 in range(size):
            if cur[i0][1] == -torch.inf:
                break
            if i0 == i1 or cur[i1][1] == -torch.inf:
                continue
            one, other = pieces[cur[i0][0]], pieces[cur[i1][0]]
            if len(one) > 0 and other[: len(one)] == one:
                to, of = (i1, i0) if cur[i1][2] > cur[i0][2] else (i0, i1)
                cur[to][2] += cur[of][2]
                cur[of][1], cur[of][2] = -torch.inf, 0.0
    cur = [one for one in cur if one[2] >= 0.2 or one[0] in ENDS]
    count = sum(one[0] not in ENDS for one in cur)
    if count == 0:
        return [[EOT, 1.0]], "forced"
    whole = sum(one[2] for one in cur)
    found = [one for one in cur if one[2] / whole >= 1 / (count + 1) or one[0] in ENDS]
    return [one[:2] for one in found], "fewer" if len(found) < len(cur) else "text"


def test_it_leaves_what_llama_cpp_leaves() -> None:
    draw = torch.Generator().manual_seed(0)
    ways: Counter[str] = Counter()
    vocab = 24
    for trial in range(400):
        sizes = torch.randint(1, 4, (vocab,), generator=draw).tolist()
        last = 100 if trial % 2 else 122  # few letters begin each other often
        pieces = [bytes(torch.randint(97, last, (size,), generator=draw).tolist()) for size in sizes]
        for end in ENDS:
            pieces[end] = b""
        x = torch.randn(1, vocab, generator=draw, dtype=torch.float64) * (0.3, 1, 2, 4)[trial % 4]
        x[0, list(ENDS)] -= (trial % 5) * 4
        size = 1 + trial % vocab
        stage = Infill(on=True, eos=ENDS, eot=EOT, pieces=pieces)
        cut = resolve(f"top_k={size}").stages[0]
        ledger = Chain("both", stages=(cut, stage)).run(x, NONE)
        wanted, way = by_llama_cpp(x[0].tolist(), size, pieces)
        ways[way] += 1
        left = ledger.final[0]
        assert left.isfinite().nonzero()[:, 0].tolist() == sorted(token for token, _ in wanted), (trial, way)
        for token, logit in wanted:
            assert float(left[token]) == logit
    assert set(ways) == {"ends", "forced", "text", "fewer"} and min(ways.values()) >= 10, ways


def test_a_row_tells_why_each_token_goes() -> None:
    pieces = [b"a", b"ab", b"c", b"", b"d", b"e"]
    x = torch.tensor([[0.3, 0.35, 0.25, 1e-4, 0.05, 0.05]], dtype=torch.float64).log()
    stage = Infill(on=True, eos=(3,), pieces=pieces)
    ledger = alone(stage).run(x, torch.arange(6)[None])
    entry = ledger.records[0]
    assert ledger.kept[0].tolist() == [False, True, False, True, False, False]
    assert entry.why(0) == "one begins the other: its p goes to 1"
    assert "p = 0.278, with what was merged into it, is under 0.333" in entry.why(2)
    assert "p = 0.05, with what was merged into it, is under 0.2" in entry.why(4)
    assert float(ledger.probs()[0, 1]) == float(x[0, 1].exp() / x[0, [1, 3]].exp().sum()), "the old logits"
    flat = alone(stage).run(torch.tensor([[0.0, 0, 0, -99, 0, 0]]), torch.arange(6)[None])
    assert flat.records[0].notes == (), "0.2 is reached by each"
    none = alone(replace(stage, pieces=[b""] * 9)).run(torch.tensor([[0.0] * 3 + [-99] + [0] * 5]), NONE)
    assert none.kept[0].nonzero()[:, 0].tolist() == [3] and "the end is forced" in none.records[0].notes[0]
    ends = alone(stage).run(torch.zeros(1, 6), torch.arange(6)[None])
    assert ends.kept[0].nonzero()[:, 0].tolist() == [3] and "more than all others" in ends.records[0].why(0)
    lost = alone(Infill(on=True, eos=(), pieces=[b""] * 9)).run(torch.zeros(1, 9), NONE)
    assert not lost.kept.any() and "no token is known" in lost.records[0].notes[0]
    bare = alone(Infill(on=True, eos=(3,))).run(x, NONE).records[0]
    assert "given no vocabulary" in bare.notes[0]


def test_it_takes_the_models_own_spelling_and_ends(llama: Any) -> None:
    chain = chain_for(llama, "top_k=40,infill=true")
    stage = chain.stages[1]
    assert isinstance(stage, Infill) and stage.eos and not stage.wants_text
    control = llama.tokenizer.control_ids
    assert control and all(stage.pieces[token] == b"" for token in control)
    others = [token for token in range(len(stage.pieces)) if token not in control]
    assert [stage.pieces[token] for token in others] == [llama.tokenizer.spell(token) for token in others]
