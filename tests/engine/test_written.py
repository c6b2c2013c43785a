"""Positions among written tokens: rows against Hugging Face and the walk, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import elimtool
from elimtool import ElimError, Prompt, TraceOptions
from elimtool.model.interventions import Ablate, Knockout
from elimtool.prompts.prompt import Message, SpanRequest

TEXT = "The capital of France is"
CHAIN = (
    "penalties.repetition=1.5,penalties.presence=0.7,dry.multiplier=2,dry.allowed_length=1,top_k=40,"
    "temperature=0.9"
)


def written(model: Any, position: str, prompt: Any = TEXT, **options: Any) -> Any:
    given = {"samplers": (CHAIN,), "lens": "raw", "generate": 6, "seed": 5, **options}
    return elimtool.trace(model, prompt, options=TraceOptions(position=position, **given))


@pytest.fixture(scope="module")
def run(llama: Any) -> Any:
    return written(llama, "written")


def test_every_written_token_has_rows_where_it_was_predicted(llama: Any, run: Any) -> None:
    walk, prompt = run.table("walk"), run.prompts.iloc[0]
    assert (prompt["n_written"], prompt["n_prefill"], prompt["n_appended"]) == (6, 0, 0)
    assert prompt["text"] == TEXT and prompt["token_ids"][-6:].tolist() == walk["token_id"].tolist()
    assert prompt["prompt_id"] == llama.encode(Prompt(text=TEXT)).prompt_id
    start = prompt["n_tokens"] - 6
    for name in ("lens", "attention", "attention_heads", "components", "sampling", "survival", "verdicts"):
        assert sorted(run.table(name)["position"].unique()) == list(range(start - 1, start + 5)), name
    assert walk["position"].tolist() == list(range(start - 1, start + 5))
    final = run.table("lens").query("layer == 3")
    followed = final.set_index(["position", "token_id"])["prob"]
    for step in walk.itertuples():
        assert followed[step.position, step.token_id] == pytest.approx(step.model_prob, rel=1e-4)


def test_rows_equal_hugging_faces_forward_pass_over_prompt_and_text(llama: Any, run: Any) -> None:
    ids = run.prompts["token_ids"][0].tolist()
    with torch.inference_mode():
        found = llama.hf(input_ids=torch.tensor([ids]), use_cache=False).logits[0].double().log_softmax(-1)
    final = run.table("lens").query("layer == 3")
    assert len(final) >= 6 * 5
    for row in final.itertuples():
        assert row.logprob == pytest.approx(float(found[row.position, row.token_id]), abs=1e-4)
        assert row.rank == int((found[row.position] > found[row.position, row.token_id]).sum()) + 1


def test_the_chain_sees_the_history_that_it_wrote_with(run: Any) -> None:
    shared = ["n_before", "n_after", "mass_pruned", "threshold", "entropy_before", "entropy_after"]
    own, walked = run.table("sampling"), run.table("walk_stages")
    assert own["stage"].tolist() == walked["stage"].tolist()
    assert own["position"].tolist() == walked["position"].tolist()
    np.testing.assert_allclose(own[shared].astype(float), walked[shared].astype(float), rtol=1e-4, atol=1e-5)
    assert set(run.table("walk_stages").query("active")["stage"]) >= {"penalties", "dry"}


def test_the_first_written_token_is_read_where_the_prompt_ends(llama: Any, run: Any) -> None:
    plain = elimtool.trace(llama, TEXT, options=TraceOptions(samplers=(CHAIN,), lens="raw"))
    first = run.table("components").query("position == position.min()")
    whole = plain.table("components")
    key = ["target", "component"]
    joined = whole.merge(first, on=key, suffixes=("", "_w"))
    assert len(joined) == len(whole)
    np.testing.assert_allclose(joined["dla"], joined["dla_w"], atol=1e-4)


def test_what_was_written_is_a_span_and_the_prompts_keep_theirs(run: Any, llama: Any) -> None:
    names = {span["span"]: span["tokens"].tolist() for span in run.prompts["spans"][0]}
    plain = {span.name: list(span.tokens) for span in llama.encode(Prompt(text=TEXT)).spans}
    assert {name: tokens for name, tokens in names.items() if name != "written"} == plain
    assert names["written"] == list(range(run.prompts["n_tokens"][0] - 6, run.prompts["n_tokens"][0]))
    table = run.table("attention").query("span == 'written' and layer == 0").set_index("position")
    assert table["span_size"].tolist() == [0, 1, 2, 3, 4, 5]
    assert table["mass"].iloc[1:].gt(0).all()


def test_some_of_the_written_tokens(llama: Any, run: Any) -> None:
    every = sorted(run.table("survival")["position"].unique())
    for position, wanted in (("written:0", [0]), ("written:2,4-5", [2, 4, 5]), ("written:-1", [5])):
        some = written(llama, position)
        assert sorted(some.table("survival")["position"].unique()) == [every[k] for k in wanted]
        assert some.table("walk").equals(run.table("walk"))


def test_without_a_number_as_many_are_written_as_the_position_needs(llama: Any, run: Any) -> None:
    some = written(llama, "written:1,3", generate=0)
    assert some.prompts["n_written"][0] == 4
    assert some.table("walk")["token_id"].tolist() == run.table("walk")["token_id"].tolist()[:4]
    assert some.manifest.seed == 5


@pytest.mark.parametrize(("target", "foil"), [("of", "is"), ("e", "a")])
def test_targets_are_followed_beside_the_written_token(llama: Any, run: Any, target: str, foil: str) -> None:
    """The target's first token is read, be it the space before it: within a text nothing is appended."""
    some = written(llama, "written:2", Prompt(text=TEXT, targets=(target,), foils=(foil,)))
    step = run.table("walk").iloc[2]
    first = llama.tokenizer.encode(f" {target}", special=False).ids[0]
    assert set(some.table("survival")["token_id"]) == {first, step["token_id"]}
    assert some.table("walk")["token_id"].tolist() == run.table("walk")["token_id"].tolist()


def test_many_prompts_equal_one(llama: Any, run: Any) -> None:
    both = written(llama, "written", [TEXT, Prompt(text="A token", id="other")])
    one = both.table("survival").query("prompt_id != 'other'")
    own = run.table("survival")
    assert one["token_id"].tolist() == own["token_id"].tolist()
    np.testing.assert_allclose(one["prob"], own["prob"], rtol=1e-4)
    assert (
        both.table("walk").query("prompt_id != 'other'")["token"].tolist()
        == run.table("walk")["token"].tolist()
    )


def test_without_generation_a_prefill_is_what_was_written(llama: Any) -> None:
    chat = Prompt(messages=(Message("user", "Which one?"),)).with_prefill("The first")
    found = written(llama, "written", chat, generate=0)
    row = found.prompts.iloc[0]
    assert (row["n_written"], row["n_prefill"]) == (
        0,
        len(llama.tokenizer.encode("The first", special=False).ids),
    )
    start = row["n_tokens"] - row["n_prefill"]
    positions = sorted(found.table("lens")["position"].unique())
    assert positions == list(range(start - 1, row["n_tokens"] - 1))
    for position in positions:
        followed = set(found.table("lens").query("position == @position")["token_id"])
        assert int(row["token_ids"][position + 1]) in followed
    assert "walk" not in found.tables or found.table("walk").empty
    both = written(llama, "written", chat).prompts.iloc[0]
    assert (both["n_written"], both["n_prefill"]) == (6, row["n_prefill"])


def test_interventions_act_on_what_was_written_without_them(llama: Any, run: Any) -> None:
    changed = written(
        llama, "written", interventions=(Ablate("1.1", "zero"), Knockout("written", None, "later"))
    )
    assert changed.table("walk").equals(run.table("walk"))
    effects = changed.table("effects")
    assert sorted(effects["position"].unique()) == run.table("walk")["position"].tolist()
    assert (effects["prob_before"] != effects["prob_after"]).any()
    with pytest.raises(ElimError, match="`generate` cannot be combined with ablate"):
        TraceOptions(generate=3, interventions=(Ablate("1.1", "zero"),))


@pytest.mark.parametrize(
    ("position", "prompt", "options", "message", "hint"),
    [
        ("written", TEXT, {"generate": 0}, "nothing was written", "`generate`, or give a `prefill`"),
        (
            "written:6",
            TEXT,
            {},
            "`position` written:6 is outside the text written, which has 6 tokens",
            "give 0 to 5",
        ),
        ("written:2,9", TEXT, {}, "`position` written:2,9: 9 is outside the text written", "0 '"),
        ("written:3-1", TEXT, {}, "the range 3-1 runs backwards", "give 1-3"),
        ("written:", TEXT, {}, "`position` must be", ""),
        ("written:last", TEXT, {}, "`position` must be", ""),
        ("written", TEXT, {"samplers": ()}, "needs a sampler chain", ""),
        (
            "written",
            Prompt(text=TEXT, spans=(SpanRequest("written", "capital"),)),
            {},
            "span name 'written' is given twice",
            "",
        ),
        ("written", "a token of the text" * 10, {"generate": 110}, "context is 128", "fewer tokens"),
    ],
)
def test_what_cannot_be_read_is_refused(
    llama: Any, position: str, prompt: Any, options: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(ElimError) as raised:
        written(llama, position, prompt, **options)
    assert message in raised.value.message
    assert hint in raised.value.hint


def test_a_bad_prompt_of_many_is_a_row(llama: Any) -> None:
    found = written(llama, "written:2", [TEXT, Prompt(text="word " * 64, id="long")], errors="row")
    assert found.prompts["status"].tolist() == ["ok", "error"]
