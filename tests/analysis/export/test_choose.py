"""Which eliminated answers are exported: held-out templates, duplicates, limits, and what a sampler cut."""

from __future__ import annotations

from typing import Any

import pytest

from elimtool.analysis.export.choose import Example, ExportOptions, begins, choose, held_out
from elimtool.analysis.export.eliminated import Eliminated
from elimtool.errors import ElimError


def answer(number: int, **said: Any) -> Eliminated:
    prompt = {"text": said.pop("text", f"Prompt {number} is"), "role": said.pop("role", None), "turns": None}
    given = {
        "elim_id": f"p{number}/x", "prompt": prompt, "ids": (1, 2), "spelling": " Paris", "token_id": 3,
        "foils": (), "right": (), "greedy": (), "greedy_from": 2, "outcome": "outranked", "severity": 1.0,
        "lost_layer": None, "cut_chain": None, "cut_stage": None, "setting": "", "template": f"t{number}",
    }  # fmt: skip
    return Eliminated(**{**given, **said})


def fit(one: Eliminated) -> Example:
    return Example(one, one.spelling, " London")


def ids(found: list[Eliminated], **options: Any) -> tuple[list[str], dict[str, int]]:
    asked = ExportOptions("dpo", **{"hold_out": 0.0, **options})
    chosen = choose(found, sorted({one.template for one in found}), asked, fit)
    return [one.of.elim_id for one in chosen.examples], dict(chosen.left_out)


def test_what_a_sampler_alone_cut_is_left_out_unless_it_is_asked_for() -> None:
    found = [answer(1), answer(2, outcome="sampler_eliminated", setting="k of at least 50")]
    assert ids(found) == (["p1/x"], {"sampler": 1})
    assert ids(found, with_sampler=True)[0] == ["p1/x", "p2/x"]
    assert ids(found, outcomes=("sampler_eliminated",)) == (["p2/x"], {"outcome": 1})
    chosen = choose(found, ["t1", "t2"], ExportOptions("sft", hold_out=0), fit)
    assert [one.setting for one in chosen.settings] == ["k of at least 50"]


def test_duplicates_are_equal_in_nfkc_white_space_and_case() -> None:
    texts = ["The capital  of France is", "the capital of \uff26rance is\n", "The capital of Spain is"]
    found = [answer(number, text=text) for number, text in enumerate(texts)]
    assert ids(found) == (["p0/x", "p2/x"], {"duplicate": 1})


def test_a_template_has_no_more_than_its_limit_and_the_most_severe_come_first() -> None:
    found = [answer(number, template="one", severity=9.0 - number) for number in range(5)]
    assert ids(found, per_template=2) == (["p0/x", "p1/x"], {"per_template": 3})
    assert len(ids(found, per_template=0)[0]) == 5


def test_held_out_templates_are_those_of_the_suite_whatever_was_eliminated() -> None:
    names = [f"t{number}" for number in range(10)]
    held = held_out(names, 0.2, 0)
    assert len(held) == 2 and held == held_out(names[::-1], 0.2, 0)
    assert held_out(names, 0.2, 1) != held or held_out(names, 0.2, 2) != held
    assert held_out(names, 0.0, 0) == () and len(held_out(names, 0.99, 0)) == 9
    assert held_out(["one"], 0.5, 0) == () and held_out([], 0.5, 0) == ()
    found = [answer(number) for number in range(10)]
    chosen = choose(found, names, ExportOptions("sft"), fit)
    assert chosen.held_out == held and chosen.left_out == {"held_out": 2}
    assert not {one.of.template for one in chosen.examples} & set(held)


def test_the_wrong_side_of_a_pair_is_never_taught() -> None:
    assert ids([answer(1, role="bad"), answer(2, role="good")]) == (["p2/x"], {"wrong_side": 1})


def test_a_wrong_answer_is_needed_for_preferences_alone() -> None:
    def alone(one: Eliminated) -> Example:
        return Example(one, one.spelling, None)

    for format, left in (("dpo", {"no_rejected": 1}), ("kto", {}), ("sft", {})):
        assert choose([answer(1)], ["t1"], ExportOptions(format, hold_out=0), alone).left_out == left


@pytest.mark.parametrize(
    ("text", "other", "expected"),
    [
        (" Paris", "paris", True),
        ("Black", " Black Sea", True),
        ("Bla", " Black Sea", False),
        ("", "Paris", False),
        ("Paris", "Par", False),
    ],
)
def test_first_words(text: str, other: str, expected: bool) -> None:
    assert begins(text, other) is expected


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"format": "ppo"}, "`format` 'ppo'"),
        ({"format": "sft", "outcomes": ("lost",)}, "`outcomes`: 'lost'"),
        ({"format": "sft", "hold_out": 1.0}, "`hold_out`"),
        ({"format": "sft", "per_template": -1}, "`per_template`"),
    ],
)
def test_options_are_refused_by_name(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ElimError, match=told):
        ExportOptions(**options)
