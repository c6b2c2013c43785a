"""Whole texts of a grammar: against all their spellings, each read in a pass of its own."""

from __future__ import annotations

from math import exp, log
from typing import Any

import pytest
import torch

import elimtool
from elimtool import ElimError, Prompt, TraceOptions
from elimtool.samplers.grammar import Grammar

pytest.importorskip("llguidance")

TEXT, HEAT = "The capital of France is", 0.7
REGEX, TEXTS = "The|Tan|cap", ("The", "Tan", "cap")


def run_of(
    llama: Any, width: int, chain: str = f"temperature={HEAT},grammar.regex={REGEX}", **more: Any
) -> Any:
    given = {"generate": 5, "grammar_texts": width, "tables": ("grammar_whole", "grammar_texts")} | more
    return elimtool.trace(llama, TEXT, options=TraceOptions(samplers=(chain,), **given))


def spellings(model: Any) -> list[tuple[int, ...]]:
    """All ways to put the texts together from tokens, the end behind them, that the masks allow."""
    pieces = model.tokenizer.texts(range(model.vocab))
    grammar = Grammar(regex=REGEX, eos=ends(model)).with_tokenizer(model.tokenizer.definition, model.vocab)

    def ways(text: str) -> list[tuple[int, ...]]:
        if not text:
            return [()]
        begun = [(token, piece) for token, piece in enumerate(pieces) if piece and text.startswith(piece)]
        return [(token, *rest) for token, piece in begun for rest in ways(text[len(piece) :])]

    found = [(*way, end) for text in TEXTS for way in ways(text) for end in ends(model)]
    # where text is forced the library accepts more spellings than its masks allow
    return [way for way in found if all(grammar.at(way[:at]).allowed[one] for at, one in enumerate(way))]


def ends(model: Any) -> tuple[int, ...]:
    return tuple(sorted(elimtool.model.decode.end_ids(model)))


def weighed(model: Any, way: tuple[int, ...]) -> float:
    ids = list(model.encode(Prompt(TEXT)).token_ids)
    with torch.inference_mode():
        logits = model.hf(input_ids=torch.tensor([ids + list(way)])).logits[0, len(ids) - 1 : -1].double()
    return float((logits / HEAT).log_softmax(-1)[range(len(way)), list(way)].sum())


def test_all_texts_of_a_small_grammar_are_added_up(llama: Any) -> None:
    run = run_of(llama, 32)
    (whole,) = run.table("grammar_whole").to_dict("records")
    texts = run.table("grammar_texts")
    exact = {way: weighed(llama, way) for way in spellings(llama)}
    total = sum(map(exp, exact.values()))
    assert len(exact) > len(TEXTS), "some text has two spellings"
    assert whole["exact"] and whole["n_texts"] == len(exact) == len(texts)
    assert whole["log_mass"] == pytest.approx(log(total), abs=1e-4)
    assert whole["mass_least"] == whole["mass_most"] == pytest.approx(total, rel=1e-4)
    assert {tuple(ids) for ids in texts["token_ids"]} == set(exact) and set(texts["text"]) == set(TEXTS)
    for row in texts.itertuples():
        logprob = exact[tuple(row.token_ids)]
        assert row.logprob == pytest.approx(logprob, abs=1e-4)
        assert row.favoured == pytest.approx(row.masked_logprob - (logprob - log(total)), abs=1e-3)
    assert texts["masked_logprob"].map(exp).sum() == pytest.approx(1, abs=1e-9), "a mask writes nothing else"
    kl = (texts["masked_logprob"].map(exp) * texts["favoured"]).sum()
    assert whole["divergence"] == pytest.approx(kl, abs=1e-6) and kl > 1e-3
    assert texts["logprob"].is_monotonic_decreasing and texts["favoured"].min() < 0 < texts["favoured"].max()


def test_what_is_left_out_bounds_the_sum(llama: Any) -> None:
    (whole,) = run_of(llama, 32).table("grammar_whole").to_dict("records")
    for asked in ({"width": 1}, {"width": 32, "generate": 2}):
        run = run_of(llama, **asked)
        (part,) = run.table("grammar_whole").to_dict("records")
        assert not part["exact"] and part["n_texts"] < whole["n_texts"]
        assert part["mass_least"] < whole["mass_least"] < part["mass_most"]
        assert part["log_mass"] != part["log_mass"] and part["divergence"] != part["divergence"], "null"
        assert run.table("grammar_texts")["favoured"].isna().all()
    endless = run_of(llama, 4, chain="grammar.regex=(a|b)+").table("grammar_whole")
    assert not endless["exact"].any()


def test_what_cannot_be_asked(llama: Any) -> None:
    for options, said in (
        ({"width": 129}, "must be from 1 to 128"),
        ({"width": 3, "generate": 0}, "needs the length of a text"),
        ({"width": 3, "chain": "top_k=3"}, "no chain has one"),
        ({"width": 3, "chain": f"xtc=1,grammar.regex={REGEX}"}, "acts by chance or by what it remembers"),
        (
            {"width": 3, "chain": f"llama.cpp:grammar.regex={REGEX}"},
            "check what is drawn",
        ),
    ):
        with pytest.raises(ElimError, match=said):
            run_of(llama, **options)


def test_the_story_and_the_page_say_what_was_left_out(llama: Any) -> None:
    from elimtool.report.facts import Tables
    from elimtool.report.figures.grammar_texts import grammar_texts
    from elimtool.report.screen import Screen
    from elimtool.report.trace.grammar_texts import grammar_text_lines

    for width, said in ((32, "no others); texts through the mask are"), (1, "others left out")):
        tables = Tables(run_of(llama, width))
        (prompt,) = tables.all("prompts")
        told = " ".join(str(line) for line in grammar_text_lines(tables, prompt, Screen(100)))
        assert said in " ".join(told.split())
        (figure,) = grammar_texts(tables, prompt)
        assert said in figure.note
