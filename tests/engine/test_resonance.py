"""Repetition and its control: against Hugging Face's own outputs, invariants, refusals, the story."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import elimtool
from elimtool import ElimError, Prompt, TraceOptions
from elimtool.analysis.resonance import onset, standing
from elimtool.engine import resonance as module
from elimtool.prompts.prompt import Message
from elimtool.report.facts import Tables
from elimtool.report.figures.resonance import repeated
from elimtool.report.screen import Screen
from elimtool.report.trace.resonance import resonance_lines, resonance_sentence

TEXT = "A token of the text. "
CHAT = Prompt(messages=(Message("user", TEXT),))


def rows(model: Any, prompt: Any = TEXT, copies: int = 4, **options: Any) -> Any:
    given = {"tables": ("top_tokens",), "lens": "raw", "repeat_control": 3}
    run = elimtool.trace(model, prompt, options=TraceOptions(repeat=copies, **{**given, **options}))
    return run.table("resonance")


def outputs(model: Any, ids: list[int]) -> Any:
    with torch.inference_mode():
        return model.hf(input_ids=torch.tensor([ids]), use_cache=False).logits[0].double().softmax(-1)


def test_every_number_is_that_of_transformers_on_the_repeated_tokens(llama: Any) -> None:
    found = rows(llama)
    unit = list(llama.tokenizer.encode(TEXT, special=False).ids)
    before = list(llama.encode(Prompt(text=TEXT)).token_ids)[: -len(unit)]
    whole = outputs(llama, before + unit * 4)
    own = np.array(
        [
            [float(whole[len(before) + copy * len(unit) + at - 1, token]) for at, token in enumerate(unit)]
            for copy in range(4)
            if before or copy
        ]
    )
    first = None if not before else own[0]
    later = own[1:] if before else own
    assert found["copies"].tolist() == [1, 2, 3] and not found["in_chat"].any()
    assert [list(one) for one in found["token_ids"]] == [unit] * 3
    np.testing.assert_allclose(found["tp"], later.mean(1), rtol=1e-4)
    np.testing.assert_allclose(found["first_prob"], later[:, 0], rtol=1e-4)
    if first is None:  # the first token of the text is predicted by nothing
        first = np.array([np.nan, *(float(whole[at, unit[at + 1]]) for at in range(len(unit) - 1))])
    ip = [(row[~np.isnan(first)] > first[~np.isnan(first)]).mean() for row in later]
    np.testing.assert_allclose(found["ip"], ip)
    for row, number in zip(found.itertuples(), (1, 2, 3), strict=True):
        at = len(before) + number * len(unit) - 1
        assert row.first_rank == int((whole[at] > whole[at, unit[0]]).sum()) + 1
        assert row.wr == np.mean([int(whole[at + j].argmax()) == token for j, token in enumerate(unit)])
        assert row.entropy == pytest.approx(float(-(whole[at] * whole[at].log()).sum()), rel=1e-4)


def test_controls_are_units_of_other_text_as_long(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[int, ...]] = []
    real = module._other

    def kept(*arguments: Any) -> Any:
        drawn.append(real(*arguments))
        return drawn[-1]

    monkeypatch.setattr(module, "_other", kept)
    found = rows(llama, copies=3)
    unit = tuple(llama.tokenizer.encode(TEXT, special=False).ids)
    assert len(drawn) == 3 * 2 and {len(one) for one in drawn} == {len(unit)} and unit not in drawn
    means = []
    for one, other in zip(drawn[::2], drawn[1::2], strict=True):
        probs = outputs(llama, [*one, *other, *unit])
        start = len(one) + len(other)
        means.append(np.mean([float(probs[start + at - 1, token]) for at, token in enumerate(unit)]))
    assert found["tp_control"].iloc[1] == pytest.approx(np.mean(means), rel=1e-4)
    low, high = np.quantile(means, (0.025, 0.975))
    np.testing.assert_allclose(
        found.loc[1, ["tp_control_low", "tp_control_high"]].astype(float), (low, high), rtol=1e-4
    )


def test_a_unit_that_is_its_own_control_gains_nothing(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_other", lambda _model, unit, _random: unit.ids)
    found = rows(llama)
    np.testing.assert_allclose(found["gain"], 0.0, atol=1e-4)
    np.testing.assert_allclose(found["tp"], found["tp_control"], rtol=1e-4)


def test_rows_do_not_depend_on_further_copies_and_draws_on_the_seed_alone(llama: Any) -> None:
    few, many = rows(llama, copies=3), rows(llama, copies=5)
    own = ["tp", "ip", "wr", "first_rank", "first_prob", "entropy"]
    np.testing.assert_allclose(few[own], many[own][:2], rtol=1e-5)
    assert few.equals(rows(llama, copies=3)) and not few.equals(rows(llama, copies=3, seed=1))


def test_one_token_without_another_before_it_is_the_same_at_every_place(llama: Any) -> None:
    found = rows(llama, "a", copies=6)
    assert len(llama.encode(Prompt(text="a")).token_ids) == 1
    for name in ("tp", "wr", "first_rank", "entropy"):
        np.testing.assert_allclose(found[name].astype(float), float(found[name][0]), rtol=1e-4)
    assert found["ip"].isna().all(), "nothing predicts the first copy"


def test_in_a_chat_copies_stand_in_the_message_and_the_reply_is_read(llama: Any) -> None:
    found = rows(llama, CHAT, copies=3, repeat_control_text="A capital")
    assert found["in_chat"].all() and found["ip"].isna().all()
    unit = list(llama.tokenizer.encode(TEXT, special=False).ids)
    before = list(llama.tokenizer.encode("<|start|>user\n", special=False).ids)
    after = list(llama.tokenizer.encode("<|end|>\n<|start|>assistant\n", special=False).ids)
    assert list(llama.encode(CHAT).token_ids) == before + unit + after, "the template of the tests"
    for number in (1, 2):
        ids = before + unit * number + after
        probs = outputs(llama, ids + unit)
        expected = np.mean([float(probs[len(ids) + at - 1, token]) for at, token in enumerate(unit)])
        assert found["tp"][number - 1] == pytest.approx(expected, rel=1e-4)
    other = list(llama.encode(Prompt(messages=(Message("user", "A capital"),))).token_ids)
    reply = outputs(llama, other)[-1]
    assert found["reply_control_rank"].tolist() == [int((reply > reply[unit[0]]).sum()) + 1] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repeat": 1}, "2 copies or more"),
        ({"repeat": -3}, "2 copies or more"),
        ({"repeat": 2, "repeat_control": 1}, "at least 2 draws"),
        ({"repeat": 2, "repeat_control_text": " "}, "`repeat_control_text` is empty"),
        ({"tables": ("resonance",)}, "table resonance needs `repeat`"),
    ],
)
def test_what_cannot_be_asked(options: Any, message: str) -> None:
    with pytest.raises(ElimError, match=message):
        TraceOptions(**options)


def test_what_cannot_be_repeated(llama: Any) -> None:
    with pytest.raises(ElimError, match="outgrow the context of"):
        rows(llama, copies=100_000)
    begun = Prompt(messages=(*CHAT.messages, Message("assistant", "A")))
    with pytest.raises(ElimError, match="begins the answer"):
        rows(llama, begun)


def test_a_unit_may_be_longer_than_any_document_of_other_text(llama: Any) -> None:
    unit = module.RepeatedUnit((), (5,) * 4000, (), "a word", False)
    drawn = [module._other(llama, unit, np.random.default_rng(seed)) for seed in (0, 1)]
    assert [len(one) for one in drawn] == [4000, 4000] and drawn[0] != drawn[1]


ROW = {
    "copies": 1,
    "in_chat": False,
    "token_ids": [504, 1116],
    "tp": 0.01,
    "tp_control": 0.01,
    "tp_control_low": 0.005,
    "tp_control_high": 0.02,
    "ip": 0.5,
    "wr": 0.0,
    "first_rank": 212,
    "first_prob": 0.001,
    "entropy": 2.0,
    "gain": 0.0,
    "reply_control_rank": None,
}


@pytest.mark.parametrize(("ranks", "first"), [([3, 1, 1], 2), ([1, 2, 1], 3), ([1, 2, 2], None), ([1, 1], 1)])
def test_the_onset_is_where_the_first_token_stays_first(ranks: list[int], first: int | None) -> None:
    assert onset([ROW | {"copies": at, "first_rank": rank} for at, rank in enumerate(ranks, 1)]) == first


@pytest.mark.parametrize(
    ("last", "found", "said"),
    [
        ({"tp": 0.8, "first_rank": 1}, "echo", "first from copy 3 on: an echo."),
        ({"tp": 0.019}, "none", "at rank 212: no echo"),
        ({"tp": 0.001}, "less", "less than after other text"),
        ({"tp": 0.01}, "constant", "nothing changes"),
        ({"tp": 0.8, "first_rank": 1}, "echo", "A copy is 2 tokens, id 504, 1116."),
        ({"tp": 0.8, "first_rank": 1, "reply_control_rank": 1}, "echo", "so that being first says nothing."),
    ],
)
@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_story_judges_by_the_control(last: Any, found: str, said: str, width: int) -> None:
    told = [ROW, ROW | {"copies": 2} | last]
    assert standing(told) == found
    assert said in resonance_sentence(told)

    class Made:
        def rows(self, *_: object) -> list[Any]:
            return told

    lines = resonance_lines(Made(), {"prompt_id": "p"}, Screen(width))  # type: ignore[arg-type]
    assert lines and all(line.cell_len <= width for line in lines)


def test_rare_tokens_are_not_constant_as_their_probabilities_are_small() -> None:
    rare = ROW | {"tp": 1e-9, "tp_control_low": 1e-10, "tp_control_high": 2e-9}
    assert standing([rare, rare | {"copies": 2, "tp": 5e-7}]) == "echo"
    assert standing([rare, rare | {"copies": 2, "tp": 1e-9 * (1 + 1e-5)}]) == "constant"


def test_the_page_lists_every_number_of_copies(llama: Any) -> None:
    options = TraceOptions(tables=("top_tokens",), lens="raw", repeat=4, repeat_control=2)
    run = elimtool.trace(llama, TEXT, options=options)
    (listed,) = repeated(Tables(run), run.table("prompts").iloc[0].to_dict())
    assert [row[0] for row in listed.rows] == ["1", "2", "3"]
