"""An answer along a text: against Hugging Face's own outputs, invariants, controls, refusals, the story."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import elimtool
from elimtool import ElimError, Prompt, TraceOptions
from elimtool.analysis.along import along_text, at_least
from elimtool.engine.along import CutText, holds, other_orders, with_cue
from elimtool.prompts.prompt import Message
from elimtool.prompts.segments import starts_of
from elimtool.report.facts import Tables
from elimtool.report.figures.along import along as figures
from elimtool.report.screen import Screen
from elimtool.report.trace.along import along_lines, along_sentence

TEXT = "The text is of Paris. The capital is Madrid. A token of the text."
CUE = " The capital"
OPTIONS = TraceOptions(
    tables=("top_tokens",), lens="raw", samplers=("hf:top_k=5",), along="sentences", cue=CUE
)


def traced(model: Any, prompt: Any = TEXT, targets: Any = (" is",), **options: Any) -> Any:
    return elimtool.trace(model, prompt, targets=targets, options=replace(OPTIONS, **options))


def rows(model: Any, prompt: Any = TEXT, **options: Any) -> Any:
    return traced(model, prompt, **options).table("answers_along")


def after(model: Any, ids: Any) -> torch.Tensor:
    with torch.inference_mode():
        logits = model.hf(input_ids=torch.tensor([list(ids)]), use_cache=False).logits
    return logits[0, -1].double().log_softmax(-1)


@pytest.fixture(scope="module")
def run(llama: Any) -> Any:
    return traced(llama)


def test_each_beginning_is_what_transformers_makes_of_its_tokens(llama: Any, run: Any) -> None:
    found = run.table("answers_along")
    ids = list(llama.encode(Prompt(text=TEXT + CUE)).token_ids)
    cue = llama.tokenizer.encode(CUE, special=False).ids
    assert tuple(ids[-len(cue) :]) == cue
    text = found[found["arrangement"] == "text"]
    assert text["k"].tolist() == [0, 1, 2, 3]
    assert text["segment"].fillna("").tolist() == [
        "",
        "The text is of Paris.",
        " The capital is Madrid.",
        " A token of the text.",
    ]
    joined = ["", *np.add.accumulate(text["segment"].to_numpy(dtype=object)[1:])]
    for row, begun in zip(text.itertuples(), joined, strict=True):
        given = [*llama.tokenizer.encode(begun).ids, *cue]
        assert row.n_tokens == len(given) and not row.retokenised
        output = after(llama, given)
        assert row.logprob == pytest.approx(float(output[row.token_id]), abs=1e-4)
        assert row.rank == int((output > output[row.token_id]).sum()) + 1
        assert row.top == llama.tokenizer.texts([int(output.argmax())])[0]
        assert list(row.alive_in) == (["hf:top_k=5"] if row.rank <= 5 else [])


def test_the_whole_text_is_the_plain_trace(llama: Any, run: Any) -> None:
    plain = elimtool.trace(
        llama, TEXT + CUE, targets=(" is",), options=TraceOptions(lens="raw", samplers=("hf:top_k=5",))
    )
    whole = run.table("answers_along").query("arrangement == 'text' and k == 3").iloc[0]
    last = plain.table("lens").iloc[-1]
    assert whole["rank"] == last["rank"] and whole["logprob"] == pytest.approx(last["logprob"], abs=1e-5)
    alive = plain.table("sampling_targets")["alive_after"].iloc[-1]
    assert (len(whole["alive_in"]) == 1) == alive
    assert run.prompts["text"].iloc[0] == TEXT + CUE


def test_keys_are_those_of_the_prompts_own_pass_alone(llama: Any, run: Any) -> None:
    # the joint probabilities of longer targets take passes of their own, with every table there is
    other = traced(llama, targets=(" is", " Paris of the text"), tables=None).table("answers_along")
    mine = run.table("answers_along")
    same = other[other["answer"] == " is"]
    np.testing.assert_allclose(same["logprob"], mine["logprob"], atol=1e-4)
    prompts = [Prompt(text="The end of a token.", id="b"), Prompt(text=TEXT, id="a")]
    both = traced(llama, prompts).table("answers_along")  # side by side, padded
    np.testing.assert_allclose(both[both["prompt_id"] == "a"]["logprob"], mine["logprob"], atol=1e-4)


def test_a_beginning_does_not_depend_on_what_comes_later(llama: Any, run: Any) -> None:
    other = rows(llama, TEXT.replace("A token of the text.", "The end is no layer of Spain."))
    for k in (0, 1, 2):
        values = [
            table.query(f"arrangement == 'text' and k == {k}")[["logprob", "rank"]].iloc[0].astype(float)
            for table in (run.table("answers_along"), other)
        ]
        np.testing.assert_allclose(*values, rtol=1e-5)


def test_other_orders_and_filler_are_read_whole(llama: Any, run: Any) -> None:
    found = run.table("answers_along")
    shuffled = found[found["arrangement"] == "shuffled"]
    assert shuffled["draw"].tolist() == list(range(5)), "3 sentences have 5 other orders"
    pieces = ["The text is of Paris.", "The capital is Madrid.", "A token of the text."]
    outputs = {}
    for order in other_orders(3, np.random.default_rng(0)):
        given = llama.tokenizer.encode(" ".join(pieces[at] for at in order) + CUE).ids
        outputs[order] = float(after(llama, given)[shuffled["token_id"].iloc[0]])
    np.testing.assert_allclose(shuffled["logprob"], list(outputs.values()), atol=1e-4)
    assert [one.strip() for one in shuffled["segment"]] == [pieces[order[-1]] for order in outputs]
    filler = found[found["arrangement"] == "filler"].iloc[0]
    cue = llama.tokenizer.encode(CUE, special=False).ids
    one = llama.tokenizer.encode(" ...", special=False).ids
    length = len(llama.tokenizer.encode(TEXT).ids)
    output = after(llama, (one * length)[:length] + cue)
    assert filler["logprob"] == pytest.approx(float(output[filler["token_id"]]), abs=1e-4)


def test_one_segment_has_two_rows_and_nothing_to_reorder(llama: Any) -> None:
    found = rows(llama, "The capital of Spain is Madrid")
    assert found["arrangement"].tolist() == ["text", "text", "filler"] and found["k"].tolist() == [0, 1, 1]
    said = along_sentence(found.replace({np.nan: None}).to_dict("records"), Screen(80))
    assert "cannot be said" in said and "copies what" not in said


def test_without_targets_what_the_text_leads_to_is_followed(llama: Any) -> None:
    found = rows(llama, targets=())
    whole = found.query("arrangement == 'text' and k == 3").iloc[0]
    assert whole["rank"] == 1 and whole["answer"] == whole["top"] and set(found["answer"]) == {whole["top"]}


def test_tokens_that_answers_begin_with_are_appended_everywhere(llama: Any) -> None:
    run = traced(llama, targets=(" of", " only"))
    found, prompt = run.table("answers_along"), run.prompts.iloc[0]
    first = found.query("arrangement == 'text' and k == 0")
    cue = llama.tokenizer.encode(CUE, special=False).ids
    appended = tuple(prompt["token_ids"][len(prompt["token_ids"]) - prompt["n_appended"] :])
    for row in first.itertuples():
        output = after(llama, cue + appended)
        assert row.logprob == pytest.approx(float(output[row.token_id]), abs=1e-4)


@pytest.mark.parametrize("chat", ["message", "answer", "prefill"])
def test_what_stands_around_the_text_stays(llama: Any, chat: str) -> None:
    prompt = {
        "message": Prompt(messages=(Message("user", TEXT),)),
        "answer": Prompt(messages=(Message("user", "Of Spain?"), Message("assistant", TEXT))),
        "prefill": Prompt(text="Of Spain? ").with_prefill(TEXT),
    }[chat]
    run = traced(llama, prompt)
    found = run.table("answers_along").query("arrangement == 'text'")
    assert [one.strip() for one in found["segment"].fillna("")] == [
        "",
        "The text is of Paris.",
        "The capital is Madrid.",
        "A token of the text.",
    ]
    begun = run.prompts["text"].iloc[0].replace(" The capital is Madrid. A token of the text.", "")
    assert begun.endswith(CUE) and begun.startswith(("<|start|>user", "Of Spain?"))
    given = llama.tokenizer.encode(begun, special=chat == "prefill").ids
    one = found.iloc[1]
    assert one["n_tokens"] == len(given)
    assert one["logprob"] == pytest.approx(float(after(llama, given)[one["token_id"]]), abs=1e-4)


def test_a_number_cuts_so_many_tokens(llama: Any) -> None:
    found = rows(llama, along=7).query("arrangement == 'text'")
    count = len(llama.encode(Prompt(text=TEXT)).token_ids)
    assert len(found) == 1 + -(-count // 7) and "".join(found["segment"][1:]) == TEXT
    np.testing.assert_array_equal(np.diff(found["n_tokens"])[:-1], 7)
    output = rows(llama, along="7").query("arrangement == 'text'")
    assert output.equals(found)


@pytest.mark.parametrize(
    ("way", "text", "segments"),
    [
        (
            "sentences",
            'He said "No." Then he left!  Why? e.g. this.',
            ['He said "No."', " Then he left!", "  Why? e.g. this."],
        ),
        ("sentences", "一。二！三", ["一。", "二！", "三"]),
        ("sentences", "3.5 is it", ["3.5 is it"]),
        ("lines", "a\nb \n\n  c\n", ["a", "\nb", " \n\n  c\n"]),
    ],
)
def test_where_texts_are_cut(way: str, text: str, segments: list[str]) -> None:
    starts = starts_of(text, way)
    assert [text[a:b] for a, b in zip(starts, [*starts[1:], len(text)], strict=True)] == segments


def test_orders_are_different_and_never_the_text_itself() -> None:
    for count, wanted in ((1, 0), (2, 1), (3, 5), (4, 10), (40, 10)):
        found = list(other_orders(count, np.random.default_rng(1)))
        assert len(set(found)) == len(found) == wanted and tuple(range(count)) not in found


@pytest.mark.parametrize(
    ("segment", "token", "found"),
    [
        (" He has 15 apples.", "1", True),
        (" He has 15 apples.", "5", False),
        (" He has 15 apples.", " app", True),
        (" He has 15 apples.", " ", False),
        ("f(x) = 3", "(", True),
        ("我在北京。", "北", True),  # no space says where a word begins
        ("私は東京に", "東京", True),
    ],
)
def test_a_segment_holds_what_a_word_begins_with(segment: str, token: str, found: bool) -> None:
    assert holds(segment, token) is found


def test_copies_by_chance_are_counted_out() -> None:
    assert at_least([0.5, 0.5], 2) == pytest.approx(0.25) and at_least([0.3] * 4, 0) == pytest.approx(1.0)
    text = [
        {"arrangement": "text", "k": k, "same": k == 2, "copied": True, "share_holding": 0.5, "top": "5"}
        for k in range(3)
    ]
    other = [
        {"arrangement": "shuffled", "k": 2, "same": False, "copied": True, "share_holding": 0.5, "top": "7"}
        for _ in range(5)
    ]
    own = {"answer": "5", "is_foil": False}
    found = along_text([{**one, **own} for one in (*text, *other)])
    assert (found.settled, found.aoc, found.copied, found.expected) == (2, 1.0, 5, 2.5)
    assert found.p_value == pytest.approx(0.5**5) and found.copies
    always = along_text([{**one, **own, "share_holding": 1.0} for one in (*text, *other)])
    assert always.p_value == pytest.approx(1.0) and not always.copies, "a word of every sentence is no sign"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"along": "words", "cue": "x"}, "sentences, lines or a number"),
        ({"along": 0, "cue": "x"}, "a number of tokens from 1"),
        ({"along": "lines"}, "needs a `cue`"),
        ({"cue": "x"}, "give `along` too"),
        ({"along": "lines", "cue": "x", "position": "all"}, "position='last'"),
        ({"tables": ("answers_along",)}, "table answers_along needs `along`"),
        ({"along": "lines", "cue": "\ud800"}, "lone surrogate"),
    ],
)
def test_what_cannot_be_asked(options: Any, message: str) -> None:
    with pytest.raises(ElimError, match=message):
        TraceOptions(**options)


def test_what_cannot_be_cut(llama: Any) -> None:
    with pytest.raises(ElimError, match="inside a token"):
        rows(llama, "The te", cue="xt")
    with pytest.raises(ElimError, match="no text before the cue"):
        rows(llama, Prompt(text=""))
    with pytest.raises(ElimError, match="scored has none"):
        rows(llama, Prompt(text=TEXT, scored="no-prefix"), targets=())


def test_what_is_cut_is_all_of_the_text(llama: Any) -> None:
    one = llama.encode(with_cue(Prompt(text=f"  {TEXT}\n"), CUE))
    cut = CutText.of(one, "sentences", CUE)
    assert "".join(cut.segments) == f"  {TEXT}\n"
    assert cut.reordered(llama, range(cut.count)) == one.token_ids


def test_beginnings_that_would_have_other_tokens_are_told(run: Any) -> None:
    rows = run.arrow("answers_along").to_pylist()
    told = [row | {"retokenised": None if row["retokenised"] is None else False} for row in rows]
    assert "other tokens" not in along_sentence(told, Screen(80))
    told = [row | {"retokenised": row["arrangement"] == "text" and row["k"] in (1, 2)} for row in rows]
    assert along_sentence(told, Screen(80)).endswith("By itself the text up to k = 1, 2 has other tokens.")


@pytest.mark.parametrize("width", [40, 60, 80, 140])
def test_the_story_fits_and_has_its_controls(run: Any, width: int) -> None:
    tables, prompt = Tables(run), run.table("prompts").iloc[0].to_dict()
    lines = along_lines(tables, prompt, Screen(width))
    assert lines and all(line.cell_len <= width for line in lines)
    said = " ".join(line.plain.strip() for line in lines)
    assert "5 other orders" in said and "by chance" in said and "filler" in said


def test_the_page_has_every_segment_and_control(run: Any) -> None:
    chart, segments, orders = figures(Tables(run), run.table("prompts").iloc[0].to_dict())
    assert list(chart.layers) == [0, 1, 2, 3] and len(segments.rows) == 4 and len(orders.rows) == 6  # type: ignore[attr-defined]
    assert segments.rows[2][1] == "The capital is Madrid."  # type: ignore[attr-defined]
