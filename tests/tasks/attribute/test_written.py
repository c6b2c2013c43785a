"""Attribution of a token that the model wrote: its value, its parts, and what is refused."""

from __future__ import annotations

from math import log
from typing import Any

import pytest
import torch

import elimtool
from elimtool import ElimError, Prompt, TraceOptions
from elimtool.prompts.prompt import Message
from elimtool.tasks.attribute.options import AttributeOptions

CHAT = Prompt(messages=(Message("system", "Be brief."), Message("user", "Which one?")))


def attributed(model: Any, prompt: Any, **options: Any) -> Any:
    given = {"methods": ("leave-one-out",), "chain": "top_k=5", "seed": 3, **options}
    return elimtool.attribute(model, prompt, options=AttributeOptions(**given))


def test_a_written_token_is_attributed_to_the_prompts_parts_and_to_what_was_written_before(
    llama: Any,
) -> None:
    walk = elimtool.trace(
        llama, CHAT, options=TraceOptions(samplers=("top_k=5",), generate=5, seed=3, lens="raw")
    )
    step = walk.table("walk").iloc[3]
    run = attributed(llama, CHAT, position="written:3")
    (method,) = run.table("attribution_methods").itertuples()
    assert (method.position, method.target) == (step["position"], step["token"])
    assert method.value == pytest.approx(log(step["model_prob"]), abs=1e-4)
    ids = run.prompts["token_ids"][0].tolist()
    scores = run.table("attributions").set_index("span")["score"]
    spans = {one["span"]: set(one["tokens"].tolist()) for one in run.prompts["spans"][0]}
    assert list(scores.index) == ["system", "user", "written"]
    for span, score in scores.items():
        left = [
            token
            for at, token in enumerate(ids)
            if at <= step["position"] and at not in spans[span] - {step["position"]}
        ]
        with torch.inference_mode():
            logits = llama.hf(input_ids=torch.tensor([left]), use_cache=False).logits[0, -1].double()
        assert method.value - float(logits.log_softmax(-1)[step["token_id"]]) == pytest.approx(
            score, abs=1e-3
        )


def test_the_first_written_token_has_nothing_written_before_it(llama: Any) -> None:
    run = attributed(llama, CHAT, position="written:0", generate=4)
    assert run.table("attributions")["span"].tolist() == ["system", "user"]
    assert not any("'written'" in note for note in run.manifest.config["notes"])


def test_a_prefill_is_attributed_as_it_stands(llama: Any) -> None:
    prompt = CHAT.with_prefill("It is this one")
    run = attributed(llama, prompt, position="written:2")
    row = run.prompts.iloc[0]
    (method,) = run.table("attribution_methods").itertuples()
    assert (
        row["token_ids"][method.position + 1]
        == row["token_ids"][len(row["token_ids"]) - row["n_prefill"] + 2]
    )
    assert "prefill" in run.table("attributions")["span"].tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"position": "written"}, "`position` must be 'last', an index from 0 or written:0, got 'written'"),
        ({"position": "written:1-2"}, "`position` must be"),
        ({"generate": 3}, "`generate` must be a number of tokens for a position among them, got 3"),
        ({"position": "written:2", "generate": -1}, "`generate` must be"),
        ({"position": "written:5", "generate": 2}, "`position` written:5 is outside the text written"),
        ({"position": "written:1", "chain": "lama.cpp"}, "lama.cpp"),
    ],
)
def test_what_cannot_be_attributed_is_refused(llama: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ElimError, match="") as raised:
        attributed(llama, CHAT, **options)
    assert message in raised.value.message
