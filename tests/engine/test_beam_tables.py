"""Beam searches of a run: texts, drops and targets against transformers' own, and what is told of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import elimtool
from elimtool import ElimError, Prompt, TraceOptions
from elimtool.engine.beam_tables import BeamPlan, beam_tables
from elimtool.model.loading import load_hugging_face
from elimtool.model.view import Target
from elimtool.report.facts import Tables
from elimtool.report.figures.beams import beams
from elimtool.report.screen import Screen
from elimtool.report.trace.beams import beam_lines, target_sentence
from elimtool.run.selection import asked_by
from elimtool.samplers import resolve

TEXT = "The capital of France is"
PROCESSED = {
    "hf": {},
    "hf:repetition_penalty=1.4,no_repeat_ngram=2,temperature=0.5": {
        "repetition_penalty": 1.4,
        "no_repeat_ngram_size": 2,
    },
    "hf:min_new_tokens=3,suppress=[44,120,270],renormalize=true": {
        "min_new_tokens": 3,
        "suppress_tokens": [44, 120, 270],
        "renormalize_logits": True,
    },
}


@pytest.fixture(scope="module")
def plain(llama_directory: Path) -> Any:
    return load_hugging_face("llama", llama_directory, "float32", False)


def ids_of(model: Any) -> list[int]:
    return list(model.encode(Prompt(text=TEXT)).token_ids)


def traced(model: Any, text: Any = TEXT, **options: Any) -> Any:
    given = {"tables": ("top_tokens",), "lens": "raw", "samplers": ("hf",), "generate": 5, "beams": 3}
    return elimtool.trace(model, text, options=TraceOptions(**{**given, **options}))


def generated(plain: Any, n_beams: int, tokens: int, ids: list[int], **how: Any) -> Any:
    return plain.generate(
        torch.tensor([ids]),
        num_beams=n_beams,
        num_return_sequences=n_beams,
        max_new_tokens=tokens,
        do_sample=False,
        pad_token_id=299,
        output_scores=True,
        return_dict_in_generate=True,
        **how,
    )


@pytest.mark.parametrize("chain", PROCESSED)
def test_the_result_is_that_of_transformers_with_its_processors(
    llama: Any, plain: Any, monkeypatch: pytest.MonkeyPatch, chain: str
) -> None:
    """Temperature and top-k of the chain are for draws: transformers leaves them out, too."""
    ends = list(range(0, 300, 5))
    monkeypatch.setattr(llama.hf.generation_config, "eos_token_id", ends)
    run = traced(llama, samplers=(chain,), length_penalty=0.7)
    ids = ids_of(llama)
    expected = generated(plain, 3, 5, ids, eos_token_id=ends, length_penalty=0.7, **PROCESSED[chain])
    found = run.table("beams").query("fate == 'result'")
    assert found["place"].tolist() == [1, 2, 3]
    for row, tokens, score in zip(
        found.itertuples(), expected.sequences[:, len(ids) :], expected.sequences_scores, strict=True
    ):
        assert list(row.token_ids) == tokens[tokens != 299].tolist()
        assert row.final_score == pytest.approx(float(score), abs=1e-4)
        assert row.final_score == pytest.approx(row.score / row.n_tokens**0.7)
        with torch.inference_mode():
            logits = llama.hf(input_ids=torch.tensor([[*ids, *row.token_ids]])).logits[0, len(ids) - 1 : -1]
        alone = logits.double().log_softmax(-1)[range(row.n_tokens), list(row.token_ids)].sum()
        assert row.logprob == pytest.approx(float(alone), abs=1e-4)


def test_steps_add_up(llama: Any) -> None:
    run = traced(llama)
    steps, texts = run.table("beam_steps"), run.table("beams")
    assert steps.groupby("step").size().tolist() == [6] * 5  # twice as many as beams: one token ends
    kept = steps.query("fate != 'dropped'")
    assert kept.groupby("step").size().tolist() == [3] * 5
    assert (kept["lead"] >= 0).all() and (steps.query("fate == 'dropped' and not ends")["lead"] <= 0).all()
    last = kept.query("step == 4")
    assert sorted(last["text"]) == sorted(texts["text"])
    assert dict(zip(last["text"], last["score"], strict=True)) == dict(
        zip(texts["text"], texts["score"], strict=True)
    )


def test_the_least_number_of_beams_is_that_at_which_transformers_keeps_the_target(
    llama: Any, plain: Any
) -> None:
    """Of texts of two tokens: transformers returns all texts of two tokens that n beams hold."""
    ids = ids_of(llama)
    held = [
        generated(plain, n, 2, ids, eos_token_id=None).sequences[:, len(ids) :].tolist() for n in range(1, 21)
    ]
    paths = [held[-1][place] for place in (0, 3, 11, 19)]
    targets = tuple(Target(str(path), tuple(path), "", "") for path in paths)
    one = replace(llama.encode(Prompt(text=TEXT)), targets=targets)
    found = beam_tables(llama, one, resolve("hf"), BeamPlan(4, 4))["beam_targets"]
    expected = [next(n for n, texts in enumerate(held, 1) if path in texts) for path in paths]
    assert found["least_beams"] == expected and max(expected) > 4
    assert found["stays"] == [path in held[3] for path in paths]
    assert found["most_beams"] == [64] * 4


def test_a_target_that_is_dropped_says_where_by_how_much_and_a_ban_is_named(llama: Any) -> None:
    ids = ids_of(llama)
    with torch.inference_mode():
        output = llama.hf(input_ids=torch.tensor([ids])).logits[0, -1].double().log_softmax(-1)
    order = output.argsort(descending=True).tolist()
    target = Target("x", (order[9],), "x", "x")
    one = replace(llama.encode(Prompt(text=TEXT)), targets=(target,))

    def row_of(chain: str) -> dict[str, Any]:
        columns = beam_tables(llama, one, resolve(chain), BeamPlan(3, 4))["beam_targets"]
        return {name: values[0] for name, values in columns.items()}

    row = row_of("hf")
    assert (row["place"], row["least_beams"], row["dropped_step"], row["stays"]) == (10, 10, 0, False)
    assert row["lead"] == pytest.approx(float(output[order[9]] - output[order[2]]), abs=1e-4)
    told = target_sentence(row, Screen(80))
    assert "place 10" in told and "the least that keeps it is 10 beams" in told
    banned = row_of(f"suppress=[{order[9]}]")
    assert (banned["removed_by"], banned["place"], banned["least_beams"]) == ("suppress", None, None)
    assert "suppress removes it, for every number of beams" in target_sentence(banned, Screen(80))


def test_prompts_side_by_side_the_story_and_the_page(llama: Any) -> None:
    both = traced(llama, [Prompt(text="A token"), Prompt(text=TEXT, targets=(" is",))])
    alone = traced(llama, Prompt(text=TEXT, targets=(" is",)))
    for name in asked_by("beams"):
        own = alone.table(name)
        found = both.table(name).query(f"prompt_id == '{own.prompt_id[0]}'").reset_index(drop=True)
        assert len(own) and found.equals(own), name
    prompt = alone.prompts.iloc[0].to_dict()
    told = " ".join(" ".join(one.plain for one in beam_lines(Tables(alone), prompt, Screen(80))).split())
    assert "30 continuations were looked at in 5 steps, 15 dropped" in told and "' is' " in told
    texts, steps = beams(Tables(alone), prompt)
    assert [row[1] for row in texts.rows] == ["result"] * 3 and len(steps.rows) == 30


def test_a_chain_that_bans_every_token_leaves_no_text(llama: Any) -> None:
    banned = ",".join(map(str, range(300)))
    run = traced(llama, samplers=(f"suppress=[{banned}]",))
    assert all(run.table(name).empty for name in asked_by("beams"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beams": 65}, "`beams` must be from 1 to 64"),
        ({"beams": 2, "generate": 0}, "say how many tokens with `generate`"),
        ({"beams": 0, "tables": ("beams",)}, "table beams needs `beams`"),
        ({"length_penalty": float("inf")}, "finite"),
        ({"early_stopping": "soon"}, "early_stopping"),
    ],
)
def test_what_cannot_be_searched_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ElimError) as told:
        TraceOptions(**{"generate": 5, "beams": 3, **options})
    assert message in f"{told.value} {told.value.hint}"
