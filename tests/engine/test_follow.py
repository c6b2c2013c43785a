"""Targets of several tokens: scored together in few passes, each as the model alone would."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import elimtool
from elimtool import TraceOptions
from elimtool.model.interventions import Ablate
from elimtool.prompts.prompt import Prompt
from tests.watched import Watched

LONG = {
    "The capital of France is": (" Paris, which is large", " a city", " Paris"),
    "Two": (" times two is four, as everybody knows", " Paris, which is large"),
    "Three more words and a full": (" stop.",),
    "a": (),
}
PROMPTS = [Prompt(text=text, targets=targets) for text, targets in LONG.items()]
OPTIONS = TraceOptions(tables=("survival",), samplers=(), target_space="exact", batch_size=4)


def joint(model: Any, prompts: Any, options: TraceOptions = OPTIONS) -> dict[tuple[str, str], float]:
    rows = elimtool.trace(model, prompts, options=options).table("survival")
    names = zip(rows["prompt_id"], rows["target"], strict=True)
    return dict(zip(names, rows["target_logprob"], strict=True))


def test_long_targets_equal_plain_transformers(llama: Any) -> None:
    found = joint(llama, PROMPTS)
    for prompt in PROMPTS:
        one = llama.encode(prompt, target_space="exact")
        for target in one.targets:
            ids = torch.tensor([[*one.token_ids, *target.token_ids]])
            with torch.inference_mode():
                logprobs = llama.hf(ids).logits[0, :-1].double().log_softmax(-1)
            each = logprobs.gather(1, ids[0, 1:, None])[len(one.token_ids) - 1 :]
            assert len(each) == len(target.token_ids)
            assert found[one.prompt_id, target.text] == pytest.approx(float(each.sum()), rel=1e-6)
    assert sum(len(t.token_ids) > 1 for p in PROMPTS for t in llama.encode(p).targets) >= 5


def test_many_long_targets_take_one_pass_more(llama: Any) -> None:
    watched = Watched.of(llama)
    joint(watched, PROMPTS)
    first = len(watched.passes)
    joint(watched, PROMPTS)
    # one to choose spellings, the prompts' own, and one for all long targets
    assert first == 3 and len(watched.passes) == 6
    # in that, only what predicts a second or later token is read out
    longer = [len(t.token_ids) - 1 for p in PROMPTS for t in llama.encode(p, target_space="exact").targets]
    assert watched.read[-1] == sum(longer)


@pytest.mark.parametrize("interventions", [(), (Ablate("1.2", "zero"),)], ids=["plain", "ablated"])
def test_batched_equals_single(llama: Any, interventions: Any) -> None:
    options = TraceOptions(
        tables=("survival",), samplers=(), target_space="exact", interventions=interventions, batch_size=4
    )
    together = joint(llama, PROMPTS, options)
    alone: dict[tuple[str, str], float] = {}
    for prompt in PROMPTS:
        alone |= joint(llama, prompt, options)
    assert together.keys() == alone.keys()
    for name, value in alone.items():
        assert together[name] == pytest.approx(value, rel=1e-6)


def test_readouts_are_held_some_at_a_time(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from elimtool.model import scores

    whole = joint(llama, PROMPTS)
    monkeypatch.setattr(scores, "READOUT_BYTES", 3 * llama.vocab * 8)
    watched = Watched.of(llama)
    parted = joint(watched, PROMPTS)
    assert max(watched.read[2:]) > 3 >= watched.read[-1]
    for name, value in whole.items():
        assert parted[name] == pytest.approx(value, rel=1e-6)


def test_a_long_target_that_does_not_fit_is_null(llama: Any) -> None:
    text = " a" * (llama.context // 2 - 1)
    assert len(llama.encode(Prompt(text=text)).token_ids) == llama.context - 2
    prompt = Prompt(text=text, targets=(" Paris, which is large", " a"))
    rows = elimtool.trace(llama, prompt, options=OPTIONS).table("survival")
    assert rows["target_logprob"].isna().tolist() == [True, False]
