"""How far two prompts are apart, layer by layer: hand-made numbers, symmetry, identity, causality."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.spatial.distance import cosine, jensenshannon

from elimtool.lenses.raw import RawLens
from elimtool.model.loading import load_model
from elimtool.model.view import Batch
from elimtool.prompts.prompt import Prompt
from elimtool.samplers import resolve
from elimtool.tasks.compare.divergence import CAUSAL_WITHIN, diverge, ends, last_residuals, read, shared
from elimtool.tasks.compare.flips import layer_flips, stage_flips

from .prompts import PAIRS, both


def readings(model: Any, a: str, b: str) -> Any:
    return [read(model, RawLens(), one) for one in ends(model, *both(model, a, b)).residuals]


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_numbers_are_those_of_scipy_and_hugging_face(llama: Any, a: str, b: str) -> None:
    one, other = readings(llama, a, b)
    found = diverge(one, other)
    hidden = []
    for text in (a, b):
        ids = torch.tensor([llama.encode(Prompt(text=text)).token_ids])
        with torch.inference_mode():
            hidden.append(
                [h[0, -1].double().numpy() for h in llama.hf(ids, output_hidden_states=True).hidden_states]
            )
    for layer, (x, y) in enumerate(zip(*(states[:-1] for states in hidden), strict=True)):
        assert found.cosine_distance[layer] == pytest.approx(cosine(x, y), abs=1e-5)
        apart = 2 * float(((x - y) ** 2).sum() ** 0.5 / ((x**2).sum() ** 0.5 + (y**2).sum() ** 0.5))
        assert found.relative_l2[layer] == pytest.approx(apart, rel=1e-4, abs=1e-5)
    for layer in range(len(found.js)):
        p, q = (side.logprobs[layer].double().exp().numpy() for side in (one, other))
        assert found.js[layer] == pytest.approx(jensenshannon(p, q, base=2) ** 2, abs=1e-6)
        kept = [set(side.nucleus[layer].nonzero()[:, 0].tolist()) for side in (one, other)]
        assert found.jaccard[layer] == pytest.approx(len(kept[0] & kept[1]) / len(kept[0] | kept[1]))


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_exchanging_the_prompts_changes_no_bit(llama: Any, a: str, b: str) -> None:
    one, other = readings(llama, a, b)
    back, forth = readings(llama, b, a)
    assert diverge(one, other) == diverge(back, forth) == diverge(other, one)
    assert torch.equal(one.residual, forth.residual) and torch.equal(other.residual, back.residual)


def test_a_prompt_against_itself_is_all_zeros(llama: Any) -> None:
    one, other = readings(llama, "The capital of France is", "The capital of France is")
    found = diverge(one, other)
    zeros = (0.0,) * 5
    assert (found.cosine_distance, found.relative_l2, found.js) == (zeros, zeros, zeros)
    assert found.jaccard == (1.0,) * 5
    assert not list(layer_flips(one, other))


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_what_both_begin_with_is_the_same_at_every_layer(llama: Any, a: str, b: str) -> None:
    one, other = both(llama, a, b)
    found = ends(llama, one, other)
    n = shared(one, other)
    if n == 0:
        assert found.difference is None
        return
    assert found.difference is not None and found.difference <= CAUSAL_WITHIN[torch.float32] / 10
    every = [Prompt(text=text) for text in (a, b)]
    rows = Batch.of([llama.encode(prompt, position="all") for prompt in every])
    seen: list[torch.Tensor] = []
    llama.stream(rows, (), lambda view: seen.append(view.residual[:, :n]))
    assert len(seen) == 5
    for layer in seen:
        torch.testing.assert_close(layer[0], layer[1], rtol=1e-5, atol=1e-6)


def test_a_layer_that_looks_ahead_is_found(llama: Any) -> None:
    """A thousandth of the mean over all positions, later ones too, added to each."""

    def look_ahead(_module: Any, _inputs: Any, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        mixed = hidden + 1e-3 * hidden.mean(1, keepdim=True)
        return (mixed, *output[1:]) if isinstance(output, tuple) else mixed

    pair = both(llama, *PAIRS[1])
    handle = llama.bridge.blocks[1].register_forward_hook(look_ahead)
    try:
        broken = ends(llama, *pair).difference
    finally:
        handle.remove()
    held = ends(llama, *pair).difference
    assert held is not None and broken is not None
    assert held <= CAUSAL_WITHIN[torch.float32] < broken


def test_a_model_that_looks_ahead_of_itself_is_found(
    llama_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its own code, of which no hook tells: what both begin with runs for each of them."""
    llama = load_model(str(llama_directory))  # of its own: hooks that others left would keep it from sharing
    pair = both(llama, "The capital of France is", "The capital of France is Paris, the city")
    assert llama.shares([one.token_ids for one in pair])
    one = llama.bridge.blocks[1].mlp.original_component
    usual = type(one).forward

    def ahead(self: Any, hidden: torch.Tensor) -> Any:
        return usual(self, hidden) + (1e-2 * hidden.mean(1, keepdim=True) if self is one else 0)

    monkeypatch.setattr(type(one), "forward", ahead)
    broken = ends(llama, *pair).difference
    assert broken is not None and CAUSAL_WITHIN[torch.float32] < broken


def test_side_by_side_is_as_alone(llama: Any) -> None:
    pair = both(llama, *PAIRS[0])
    more = [llama.encode(Prompt(text=text)) for text in ("The text", "The capital of the text is eliminated")]
    together, tables = last_residuals(llama, [*pair, *more], heads=True)
    assert len(together) == 4 and len(tables) == 1
    assert set(tables[0].column("prompt_id").to_pylist()) == {one.prompt_id for one in (*pair, *more)}
    for one, found in zip((*pair, *more), together, strict=True):
        (alone,), none = last_residuals(llama, [one])
        torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-5)
        assert none == []
    for one, found in zip(ends(llama, *pair).residuals, together, strict=False):
        torch.testing.assert_close(found, one, rtol=1e-4, atol=1e-5)


def test_flips_say_from_which_layer_on_the_sides_differ(llama: Any) -> None:
    one, other = readings(llama, *PAIRS[3])
    rows = list(layer_flips(one, other))
    assert rows
    for row in rows:
        kept, lost = (one, other) if row["eliminated_in"] == "b" else (other, one)
        differs = (kept.nucleus & ~lost.nucleus)[:, row["token_id"]].tolist()
        first = row["layer"] + 1
        assert all(differs[first:]) and (first == 0 or not differs[first - 1])
    mirrored = {(row["token_id"], "ba"["ab".index(row["eliminated_in"])], row["layer"]) for row in rows}
    back = {(row["token_id"], row["eliminated_in"], row["layer"]) for row in layer_flips(other, one)}
    assert mirrored == back


@pytest.mark.parametrize("temperature", [0.8, 1e-4])  # at the second, probabilities of survivors underflow
def test_flips_of_a_chain_name_the_stage(llama: Any, temperature: float) -> None:
    pair = both(llama, *PAIRS[3])
    sides = readings(llama, *PAIRS[3])
    chain = resolve(f"top_k=5,temperature={temperature}")
    rows = list(stage_flips(*sides, pair, [chain]))
    best = [set(side.logits.topk(5).indices.tolist()) for side in sides]
    for name, kept, lost in (("b", *best), ("a", best[1], best[0])):
        assert {row["token_id"] for row in rows if row["eliminated_in"] == name} == kept - lost
    assert rows and {row["stage"] for row in rows} == {"top_k"}
