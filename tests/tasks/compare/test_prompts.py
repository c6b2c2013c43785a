"""Comparisons of two prompts on a tiny model: what must be zero, what must turn its sign, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import elimtool
from elimtool import ElimError, Message, Prompt, SpanRequest, TraceOptions
from elimtool.run.comparison import Comparison, open_comparison
from elimtool.tasks.compare.asked import Controls
from elimtool.tasks.compare.prompts import compare_prompts

from .prompts import PAIRS

NONE = Controls(count=0)
RAW = TraceOptions(lens="raw", samplers=("hf", "top_k=5"))
CLEAN = "The capital of France is"
SYSTEM = "keep the text of a token"
EDITS_OF_A = ("band", "beyond", "onset_layer", "onset_chance", "n_controls", "z", "focus_z")
"""Columns that are measured against controls, which are edits of the first prompt."""


def compare(model: Any, a: Any, b: Any, controls: Controls = NONE, **given: Any) -> Comparison:
    return compare_prompts(model, a, b, **{"options": RAW, "controls": controls, **given})


def chat(text: str, *spans: SpanRequest) -> Prompt:
    return Prompt(messages=(Message("system", SYSTEM), Message("user", text)), spans=spans)


@pytest.mark.parametrize("targets", [(" of", " is")])
def test_a_prompt_against_itself_differs_in_nothing(llama: Any, targets: tuple[str, ...]) -> None:
    found = compare(llama, CLEAN, CLEAN, Controls(), targets=targets)
    for name in found.tables:
        table = found.table(name)
        for column in table:
            if column.endswith(("_difference", "_shift", "_ratio")) or column in ("js", "cosine_distance"):
                assert not table[column].dropna().any(), f"{name}.{column}"
    pair = found.table("pairs").iloc[0]
    assert pair["output_changed"] is np.False_ or not pair["output_changed"]
    assert (pair["js_output"], pair["prefix_difference"], pair["n_controls"]) == (0, 0, 0)
    assert pair["prefix_holds"] and pd.isna(pair["onset_layer"])
    assert found.arrow("flips").num_rows == 0 and found.notes[1:] == []
    assert not found.table("verdict_differences")["changed"].any()


@pytest.mark.parametrize(("a", "b"), [PAIRS[1], PAIRS[3]])
def test_exchanging_the_prompts_negates_every_difference(llama: Any, a: str, b: str) -> None:
    there, back = compare(llama, a, b), compare(llama, b, a)
    assert there.tables.keys() == back.tables.keys()
    for name in there.tables:
        assert_exchanged(name, there.table(name), back.table(name))


@pytest.mark.parametrize(
    ("chain", "more"), [("dola=[0,1],top_k=5", {}), ("guidance=2.0,top_k=5", {"against": "is of the"})]
)
def test_chains_that_combine_outputs_flip_what_one_prompt_alone_keeps(
    llama: Any, chain: str, more: dict[str, str]
) -> None:
    options = TraceOptions(lens="raw", samplers=(chain,), futures=8, **more)
    kept = []
    for prompt in PAIRS[3]:
        table = elimtool.trace(llama, prompt, options=options).table("survivors")
        kept.append(set(table["token_id"]))
    assert {len(one) for one in kept} == {5} and kept[0] != kept[1]
    flips = compare(llama, *PAIRS[3], options=replace(options, futures=0)).table("flips")
    for side, found in (("b", kept[0] - kept[1]), ("a", kept[1] - kept[0])):
        rows = flips[(flips["where"] == "stage") & (flips["eliminated_in"] == side)]
        assert set(rows[f"token_id_{'ab'[side == 'a']}"]) == found


def test_prompts_that_begin_alike_have_the_numbers_of_prompts_measured_apart(llama_directory: Path) -> None:
    llama = elimtool.load_model(str(llama_directory))  # hooks that others left would keep it from sharing
    pairs = [*zip(*(PAIRS[0], PAIRS[4]), strict=True)]
    a, b = ([Prompt(text=text, id=str(at)) for at, text in enumerate(texts)] for texts in pairs)
    options = TraceOptions(lens="raw", samplers=("hf", "top_k=5"), heads=True)
    assert all(
        llama.saved([llama.encode(one).token_ids for one in two]) >= 4 for two in zip(a, b, strict=True)
    )

    def found() -> Comparison:
        return compare(llama, a, b, Controls(count=3), targets=(" of", " is"), options=options)

    together = found()
    with llama.whole():
        apart = found()
    assert together.tables.keys() == apart.tables.keys()
    for name in together.tables:
        pd.testing.assert_frame_equal(
            together.table(name), apart.table(name), rtol=1e-3, atol=2e-5, obj=name, check_exact=False
        )
    traced = [elimtool.trace(llama, replace(one, targets=(" is",)), options=options) for one in (a[0], b[0])]
    row = (
        together.table("lens_differences").query("pair_id == '0' and layer == 3 and target == ' is'").iloc[0]
    )
    for side, run in zip("ab", traced, strict=True):
        own = run.table("lens").query("layer == 3 and target == ' is'").iloc[0]
        assert row[f"logprob_{side}"] == pytest.approx(own["logprob"], abs=1e-4)


def assert_exchanged(name: str, there: pd.DataFrame, back: pd.DataFrame) -> None:
    ends = {"_a": "_b", "_b": "_a"}
    back = back.rename(columns={one: one[:-2] + ends[one[-2:]] for one in back if one[-2:] in ends})
    there, back = (
        one.drop(columns=[*EDITS_OF_A, "pair_id", "tags"], errors="ignore") for one in (there, back)
    )
    for column in back:
        if column.endswith(("_difference", "_shift", "_ratio")) and column != "prefix_difference":
            back[column] = -back[column]
    if "eliminated_in" in back:
        back["eliminated_in"] = back["eliminated_in"].map({"a": "b", "b": "a"})
    if "operation" in back:
        turned = {"insert": "delete", "delete": "insert"}
        back["operation"] = back["operation"].map(lambda one: turned.get(one, one))
    if name in (
        "attention_differences",
        "source_differences",
    ):  # unnamed spans are called as in the first prompt
        for frame in (there, back):
            frame["span"] = frame["span"].str.partition(":")[2]
    rows = [
        sorted(
            str([None if pd.isna(value) else value or 0 for value in row]) for row in frame.values.tolist()
        )
        for frame in (there[sorted(there)].astype(object), back[sorted(there)].astype(object))
    ]
    assert rows[0] == rows[1], name


def test_controls_are_rows_of_their_own_and_settle_the_band(llama: Any) -> None:
    found = compare(
        llama, CLEAN, "The old capital of France is", Controls(count=20, paraphrases=("A token",))
    )
    pairs = found.table("pairs")
    assert pairs["control"].isna().sum() == 1
    assert set(pairs["control"].dropna()) == {"paraphrase", "neutral", "random"}
    assert (pairs["of"].dropna() == pairs["pair_id"][0]).all() and pairs["n_controls"][0] == 21
    divergence = found.table("divergence").set_index(["pair_id", "layer"])
    controls = divergence.loc[pairs["pair_id"][1:].tolist(), "js"].unstack("layer")
    own = divergence.loc[pairs["pair_id"][0]]
    assert own["band"].tolist() == controls.apply(lambda column: sorted(column)[20]).tolist()
    assert (own["beyond"] == (own["js"] > own["band"])).all()
    beyond = own.index[own["beyond"]]
    assert pd.isna(pairs["onset_layer"][0]) if not len(beyond) else pairs["onset_layer"][0] == beyond[0]
    assert pairs["onset_chance"][0] == pairs["onset_layer"][1:].notna().mean()
    assert set(found.table("alignment")["pair_id"]) == set(pairs["pair_id"])
    again = compare(
        llama, CLEAN, "The old capital of France is", Controls(count=20, paraphrases=("A token",))
    )
    assert all(found.arrow(name).equals(again.arrow(name)) for name in found.tables)


def test_few_controls_make_no_band_and_are_told(llama: Any) -> None:
    found = compare(llama, CLEAN, "The old capital of France is", Controls(count=18))
    assert found.table("divergence")["band"].isna().all()
    assert found.table("pairs")["onset_layer"].isna().all()
    assert any("fewer than 19 controls" in note for note in found.notes)


def test_broken_causality_is_told_loudly(llama: Any) -> None:
    def look_ahead(_module: Any, _inputs: Any, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        mixed = hidden + 0.01 * hidden.mean(1, keepdim=True)
        return (mixed, *output[1:]) if isinstance(output, tuple) else mixed

    handle = llama.bridge.blocks[2].register_forward_hook(look_ahead)
    try:
        found = compare(llama, CLEAN, "The capital of France was")
    finally:
        handle.remove()
    pair = found.table("pairs").iloc[0]
    assert not pair["prefix_holds"] and pair["prefix_difference"] > 1e-4
    assert found.notes[0].startswith("CAUSALITY IS BROKEN")
    assert compare(llama, CLEAN, "The capital of France was").table("pairs")["prefix_holds"][0]


def test_spans_of_an_injection(llama: Any) -> None:
    attacked = CLEAN + ". A token is eliminated"
    spans = (SpanRequest("injected", ". A token is eliminated"),)
    named = compare(llama, chat(CLEAN, *spans), chat(attacked, *spans), Controls(count=4))
    marked = compare(llama, chat(CLEAN), chat(attacked), Controls(count=4, injection=True))
    for found in (named, marked):
        heads = found.table("head_differences")
        own = heads[heads["pair_id"] == found.table("pairs")["pair_id"][0]]
        assert len(own) == 4 * 4 * 3 and set(own["span"]) == {"system", "user", "injected"}
        assert own.loc[own["span"] == "injected", "mass_a"].isna().all()
        assert (own.loc[own["span"] == "injected", "mass_b"] > 0).all()
        system = own[own["span"] == "system"].set_index(["layer", "head"])
        sides = {name: own[own["span"] == name].set_index(["layer", "head"]) for name in ("user", "injected")}
        for side, data in (("a", ["user"]), ("b", ["user", "injected"])):
            rest = sum(sides[name][f"mass_{side}"] for name in data)
            focus = system[f"mass_{side}"] / (system[f"mass_{side}"] + rest + 1e-8)
            np.testing.assert_allclose(system[f"focus_{side}"], focus, rtol=1e-6)
        assert system["z"].notna().all() and system["focus_z"].notna().all()
        assert len(heads) == 5 * len(own)
    traced = elimtool.trace(
        llama, chat(attacked, *spans), options=TraceOptions(lens="raw", samplers=("hf",), heads=True)
    ).table("attention_heads")
    mine = traced[traced["span"] == "injected"]
    own = named.table("head_differences")
    own = own[(own["span"] == "injected") & (own["pair_id"] == own["pair_id"][0])]
    np.testing.assert_allclose(own["mass_b"], mine["mass"], rtol=1e-5)


def test_unnamed_spans_are_joined_by_the_alignment(llama: Any) -> None:
    found = compare(llama, CLEAN, "The old capital of France is").table("attention_differences")
    a = llama.encode(Prompt(text=CLEAN))
    spans = set(found["span"]) - {"<sink>"}
    assert spans == {f"{i}:{token}" for i, token in enumerate(a.tokens) if i}


def test_contrasts_are_those_of_the_two_traces(llama: Any) -> None:
    follow: dict[str, Any] = {"targets": ("Paris",), "foils": ("Rome", "Lyon")}
    texts = ("The capital of France is", "The capital of Italy is")
    rows = compare(llama, *texts, **follow).table("contrast_differences").set_index("foil")
    traced = [elimtool.trace(llama, text, **follow).table("contrasts").set_index("foil") for text in texts]
    for foil in follow["foils"]:
        for side, own in zip("ab", traced, strict=True):
            assert rows.loc[foil, f"contrast_{side}"] == pytest.approx(own.loc[foil, "difference"], abs=1e-4)
            assert rows.loc[foil, f"decision_layer_{side}"] == own.loc[foil, "decision_layer"]
        a, b = (rows.loc[foil, f"contrast_{side}"] for side in "ab")
        assert rows.loc[foil, "contrast_difference"] == pytest.approx(b - a)
        assert rows.loc[foil, "changed"] == ((a > 0) != (b > 0))


@pytest.mark.parametrize(("position", "back"), [(-2, 2), ("written:0", 3)])
def test_positions_from_the_end_and_of_written_tokens_are_read(llama: Any, position: Any, back: int) -> None:
    a, b = (Prompt(text=text).with_prefill("xx") for text in ("One two three", "One two four"))
    options = TraceOptions(position=position, samplers=("greedy",))
    pair = compare(llama, a, b, options=options).table("pairs").iloc[0]
    for side in "ab":
        assert pair[f"position_{side}"] == pair[f"n_tokens_{side}"] - back


def test_without_targets_both_sides_follow_the_leaders_of_either(llama: Any) -> None:
    found = compare(llama, *PAIRS[3])
    pair = found.table("pairs").iloc[0]
    targets = set(found.table("verdict_differences")["target"])
    assert {pair["top_token_a"], pair["top_token_b"]} <= targets
    assert pair["n_targets"] == len(targets) and pair["n_unmatched_a"] == pair["n_unmatched_b"] == 0


def test_many_pairs_with_one_that_fails(llama: Any, tmp_path: Path) -> None:
    left = [
        Prompt(text=CLEAN, id="one", group="g"),
        Prompt(text="A token", id="two"),
        Prompt(text="x", id="three"),
    ]
    right = [
        Prompt(text="The old text", id="one"),
        Prompt(text="A token " * 100, id="two"),
        Prompt(text="y", id="three"),
    ]
    found = compare(llama, left, right, options=TraceOptions(lens="raw", samplers=("hf",), errors="row"))
    pairs = found.table("pairs")
    assert pairs["pair_id"].tolist() == ["one", "two", "three"]
    assert pairs["status"].tolist() == ["ok", "error", "ok"] and "context" in pairs["error_message"][1]
    assert any("1 of 3 pairs could not be compared" in note for note in found.notes)
    assert found.arrow("statistics").num_rows > 0
    found.save(tmp_path / "kept")
    again = open_comparison(tmp_path / "kept")
    assert all(found.arrow(name).equals(again.arrow(name)) for name in found.tables)
    with pytest.raises(ElimError, match="context is 128"):
        compare(llama, left, right)


@pytest.mark.parametrize(
    ("a", "b", "given", "said"),
    [
        ("", CLEAN, {}, "the prompt is empty"),
        ([CLEAN], [CLEAN, "a"], {}, "1 prompts cannot be paired with 2"),
        (CLEAN, "a" * 200, {}, "the model's context is 128"),
        (CLEAN, "a", {"options": TraceOptions(position="all")}, "got 'all'"),
        (CLEAN, "a", {"options": TraceOptions(generate=2)}, "`generate` cannot be combined"),
        (CLEAN, CLEAN, {"controls": Controls(injection=True)}, "adds nothing"),
        (["a", "a"], ["b", "c"], {}, "two pairs have the same prompt"),
        (
            ["a", "b"],
            ["a", "b"],
            {"controls": Controls(paraphrases=("c",))},
            "`paraphrases` go with a single pair",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(llama: Any, a: Any, b: Any, given: Any, said: str) -> None:
    with pytest.raises(ElimError, match=said):
        compare(llama, a, b, **given)


def test_a_span_must_be_in_one_of_the_prompts_and_there_once(llama: Any) -> None:
    def spans(text: str) -> tuple[Prompt, Prompt]:
        request = (SpanRequest("part", text),)
        return Prompt(text=CLEAN, spans=request), Prompt(text="The old France of France is", spans=request)

    with pytest.raises(ElimError, match="is in neither prompt"):
        compare(llama, *spans("Germany"))
    with pytest.raises(ElimError, match="occurs 2 times"):
        compare(llama, *spans("France"))
    assert compare(llama, *spans("capital")).arrow("pairs").num_rows == 1
    with pytest.raises(ElimError, match="none of the 1 pairs could be compared: span 'part'"):
        compare(llama, *spans("Germany"), options=TraceOptions(lens="raw", samplers=("hf",), errors="row"))
    with pytest.raises(ElimError, match="`count` must be 0 or more, got -1"):
        Controls(count=-1)


def test_the_continuation_is_the_models_own(llama: Any) -> None:
    pair = compare(llama, CLEAN, "The old capital", Controls(count=0, continuation=3)).table("pairs").iloc[0]
    inputs = llama.tokenizer.backend(CLEAN, return_tensors="pt", return_token_type_ids=False)
    written = llama.hf.generate(**inputs, max_new_tokens=3, do_sample=False, pad_token_id=0)[0]
    assert pair["continuation_a"] == llama.tokenizer.backend.decode(written[inputs["input_ids"].shape[1] :])


def test_a_template_that_changes_earlier_text_is_told(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = llama.tokenizer.backend
    assert compare(llama, chat(CLEAN), chat("A token")).notes == compare(llama, CLEAN, "A token").notes
    written = "{{ messages[1]['content'] | length }} " + backend.chat_template
    monkeypatch.setattr(backend, "chat_template", written)
    notes = compare(llama, chat(CLEAN), chat("A token")).notes
    assert any("changes the text before the first message that differs" in note for note in notes)
