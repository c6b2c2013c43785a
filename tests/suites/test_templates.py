"""Suites of templates: what they expand to, and what is refused or doubted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from elimtool.errors import ElimError
from elimtool.prompts.prompt import Prompt
from elimtool.suites.read import open_prompts, read_suite, shipped_suites
from elimtool.suites.suite import Suite

SUITE: dict[str, Any] = {
    "version": 1,
    "defaults": {"targets": [" nurse"], "foils": [" doctor"]},
    "templates": [
        {
            "id": "a",
            "template": "I heard {who} {tense} a",
            "neutral": "I heard they {tense} a",
            "category": "x/y",
        }
    ],
    "slots": {"tense": ["was", "is"]},
    "groups": {"slot": "who", "female": ["Mary", "Anna"], "male": ["John", "Paul"]},
}


def read(tmp_path: Path, **changes: Any) -> Suite:
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump({**SUITE, **changes}, sort_keys=False), encoding="utf-8")
    suite = read_suite(path)
    assert suite is not None
    return suite


def test_a_template_is_filled_with_all_words_and_slots(tmp_path: Path) -> None:
    suite = read(tmp_path)
    assert not suite.checks and len(suite.records) == 2 * (2 * 2 + 1)
    first = suite.records[0]
    assert first == {
        "id": "a/was/Mary|John/female",
        "prompt": "I heard Mary was a",
        "template": "a",
        "slots": {"tense": "was"},
        "targets": [" nurse"],
        "foils": [" doctor"],
        "category": "x/y",
        "group": "female",
        "tuple": "a/was/Mary|John",
        "filler": "Mary|John",
        "spans": {"group": [8, 12]},
    }
    tuples: dict[str, set[str]] = {}
    for record in suite.records:
        if record.get("role") != "neutral":
            tuples.setdefault(record["tuple"], set()).add(record["group"])
            start, end = record["spans"]["group"]
            assert record["prompt"][start:end] in record["filler"].split("|")
    assert len(tuples) == 4 and set(map(frozenset, tuples.values())) == {frozenset({"female", "male"})}
    assert [one["prompt"] for one in suite.records if "role" in one] == [
        "I heard they was a",
        "I heard they is a",
    ]


def test_batch_reads_the_records_as_prompts(tmp_path: Path) -> None:
    read(tmp_path)
    file, doubts = open_prompts(tmp_path / "suite.yaml")
    with file:
        prompts = [record.prompt for record in file.records()]
    assert not doubts and all(isinstance(one, Prompt) for one in prompts)
    first = prompts[0]
    assert (
        isinstance(first, Prompt) and first.group == "female" and first.design.tuple_id == "a/was/Mary|John"
    )
    assert first.design.slots == {"tense": "was"} and first.spans[0].locate(first.text or "") == (8, 12)


def test_groups_of_targets_have_one_prompt(tmp_path: Path) -> None:
    groups = {"targets": {"female": [" she"], "male": [" he", " him"]}}
    templates = [{"id": "t", "template": "The nurse said that", "neutral": "They said that"}]
    suite = read(tmp_path, templates=templates, groups=groups)
    assert [(one["prompt"], one["targets"]) for one in suite.records if "role" not in one] == [
        ("The nurse said that", [" she"]),
        ("The nurse said that", [" he", " him"]),
    ]
    assert all("foils" not in one for one in suite.records) and len(suite.records) == 4


def test_a_line_of_jsonl_is_a_template_with_words_of_its_own(tmp_path: Path) -> None:
    lines = [
        {
            "id": str(number),
            "template": f"No {number}: the {{who}} left, and",
            "groups": {"a": [f"x{number}"], "b": ["y"]},
        }
        for number in range(3)
    ]
    path = tmp_path / "suite.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    suite = read_suite(path)
    assert suite is not None and [one["filler"] for one in suite.records[::2]] == ["x0|y", "x1|y", "x2|y"]


def test_lists_that_do_not_belong_together_give_a_record_a_word(tmp_path: Path) -> None:
    suite = read(tmp_path, groups={"female": ["Mary"], "male": ["John", "Paul"], "pair": "all"})
    assert [one["filler"] for one in suite.records if "role" not in one] == ["Mary", "John", "Paul"] * 2
    assert {one["tuple"] for one in suite.records if "role" not in one} == {"a/was", "a/is"}


def template(text: str, **more: Any) -> dict[str, Any]:
    return {"templates": [{"id": "t", "template": text, **more}]}


ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "slot-missing": (template("I heard Mary was a"), "{who}"),
    "slot-twice": (template("{who} said {who} was a"), "repeat_slot"),
    "slot-unknown": (template("I heard {who} {mood} a"), "{mood} has no values"),
    "neutral-slot": (template("I heard {who} was", neutral="I heard {who}"), "leave the group out"),
    "group-empty": ({"groups": {"slot": "who", "a": [], "b": ["x"]}}, "'a' has no words"),
    "unaligned": ({"groups": {"slot": "who", "a": ["x"], "b": ["y", "z"]}}, "a 1, b 2"),
    "word-in-two-groups": ({"groups": {"slot": "who", "a": ["x", "y"], "b": ["y", "z"]}}, "'y'"),
    "article": (
        {**template("He saw a {who} and"), "groups": {"slot": "who", "a": ["artist"], "b": ["baker"]}},
        "'artist|baker'",
    ),
    "article of unaligned lists": (
        {
            **template("He saw a {who} and"),
            "groups": {"slot": "who", "a": ["baker"], "b": ["cook", "artist"], "pair": "all"},
        },
        "'baker|cook|artist'",
    ),
    "word-in-two-groups of targets": (
        {**template("I think that"), "groups": {"targets": {"a": [" x"], "b": [" y", " x"]}}},
        "' x'",
    ),
}
"""By the check, and what is special about it after a space."""
WARNINGS: dict[str, tuple[dict[str, Any], str]] = {
    "identical-groups": ({"groups": {"slot": "who", "a": ["x", "y"], "b": ["x", "y"]}}, "same words"),
    "slot-first": (template("{who} {tense} a"), "sink"),
    "word-elsewhere": (template("The nurse heard that {who} was a"), "'nurse'"),
    "identical-groups of targets": (
        {**template("I think that"), "groups": {"targets": {"a": [" x"], "b": [" x"]}}},
        "same words",
    ),
    "word-elsewhere in a slot": ({"slots": {"tense": ["was", "was, said the nurse,"]}}, "'nurse'"),
    "word-elsewhere in its value": (
        {"slots": {"tense": [{"text": "was in Paris,", "targets": [" Paris"]}, "is"]}},
        "'Paris'",
    ),
    "word-elsewhere among the words": (
        {"groups": {"slot": "who", "a": ["a Nurse", "x"], "b": ["y", "z"]}},
        "among the groups' words",
    ),
    "duplicates": ({"slots": {"tense": ["was", "was"]}}, "count once"),
}


@pytest.mark.parametrize("check", ERRORS)
def test_a_template_that_compares_more_than_the_group_is_left_out(check: str, tmp_path: Path) -> None:
    changes, says = ERRORS[check]
    check = check.split(maxsplit=1)[0]
    suite = read(tmp_path, **changes)
    found = [one for one in suite.checks if one.check == check]
    assert found and found[0].level == "error" and says in found[0].message and not suite.records
    assert "left out" in str(found[0])
    with pytest.raises(ElimError, match="no template or pair can be used") as refused:
        open_prompts(tmp_path / "suite.yaml")
    assert refused.value.exit_code == 5


@pytest.mark.parametrize("check", WARNINGS)
def test_what_is_doubtful_is_said(check: str, tmp_path: Path) -> None:
    changes, says = WARNINGS[check]
    check = check.split(maxsplit=1)[0]
    suite = read(tmp_path, **changes)
    assert [one.level for one in suite.checks if one.check == check and says in one.message] == ["warning"]
    assert suite.records


def test_a_slot_may_be_repeated_where_that_is_meant(tmp_path: Path) -> None:
    suite = read(tmp_path, repeat_slot=True, **template("So {who} said {who} was a"))
    assert suite.records[0]["prompt"] == "So Mary said Mary was a" and not suite.checks


def test_one_template_may_repeat_its_slot(tmp_path: Path) -> None:
    own = template("So {who} said {who} was a")["templates"][0]
    found = read(tmp_path, templates=[{**own, "repeat_slot": True}, "Once {who} saw {who}"])
    assert {one["template"] for one in found.records} == {own["id"]}
    assert [one.check for one in found.checks] == ["slot-twice"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"templates": [{"template": "x {who}", "neutral": 3}]}, "`neutral` must be a text"),
        ({"repeat_slot": "no"}, "`repeat_slot` must be true or false"),
        ({"version": 2}, "`version` must be 1"),
        ({"templates": []}, "no `templates`"),
        ({"grops": {}}, "did you mean 'groups'"),
        ({"groups": {"slot": "who", "a": ["x"]}}, "two groups at least"),
        ({"groups": {"a": [1], "b": ["y"]}}, "must be a list of strings"),
        ({"groups": {"a": ["x"], "b": ["y"], "pair": "al"}}, "`pair` must be aligned or all"),
        (
            {"templates": [{"id": "a", "template": "x {who}"}, {"id": "a", "template": "y {who}"}]},
            "two templates",
        ),
        ({"templates": [7]}, "must be a mapping"),
        ({"templates": [{"template": "x {who}", "traget": "y"}]}, "unknown key 'traget'"),
        ({"groups": {"targets": {"a": ["x"], "b": ["y"]}, "c": ["z"]}}, "leave one of the two out"),
        ({"templates": ["{x} and {y}"], "groups": {"a": ["x"], "b": ["y"]}}, "which slot"),
    ],
)
def test_a_file_that_is_no_suite_is_refused_with_the_place(changes: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(ElimError) as refused:
        read(tmp_path, **changes)
    assert says in f"{refused.value.message} {refused.value.hint}" and "suite.yaml" in refused.value.message


def test_what_ships_is_what_the_page_says() -> None:
    shipped = shipped_suites()
    assert set(shipped) == {"facts", "jobs", "minimal_pairs", "wordings"}
    jobs = read_suite(shipped["jobs"])
    assert jobs is not None and not jobs.checks
    asked = [one for one in jobs.records if "role" not in one]
    assert len({one["template"] for one in asked}) == 24 and len({one["filler"] for one in asked}) == 8
    assert len(asked) == 24 * 16 and len(jobs.records) == 24 * 17
    pairs = read_suite(shipped["minimal_pairs"])
    assert pairs is not None and not pairs.checks and len(pairs.records) == 120
    categories = [one["category"] for one in pairs.records]
    assert len(set(categories)) == 12 and all(categories.count(one) == 10 for one in categories)
    wordings = read_suite(shipped["wordings"])
    assert wordings is not None and not wordings.checks and len(wordings.records) == 12 * 30
    assert all(len(one["targets"]) == 1 for one in wordings.records)
    file, doubts = open_prompts("facts")
    with file:
        assert not doubts and sum(isinstance(one.prompt, Prompt) for one in file.records()) == 200


def test_templates_without_groups_vary_their_slots_alone(tmp_path: Path) -> None:
    text = """
version: 1
name: wordings
defaults: {foils: [" Rome"]}
templates: [{id: a, template: "{lead} {item} is", neutral: "{lead} it is"}]
slots:
  lead: [Well., So.]
  item: [{text: France, targets: [" Paris"], category: near}, {text: Japan, targets: " Tokyo"}]
"""
    path = tmp_path / "wordings.yaml"
    path.write_text(text)
    suite = read_suite(path)
    assert suite is not None and not [one for one in suite.checks if one.level == "error"]
    plain = [one for one in suite.records if "role" not in one]
    assert [one["id"] for one in plain] == [
        "a/Well./France",
        "a/Well./Japan",
        "a/So./France",
        "a/So./Japan",
    ]
    first = plain[0]
    assert first["prompt"] == "Well. France is" and first["slots"] == {"lead": "Well.", "item": "France"}
    assert (first["targets"], first["foils"], first["category"]) == ([" Paris"], [" Rome"], "near")
    assert plain[1]["targets"] == [" Tokyo"] and "category" not in plain[1] and "group" not in first


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ("[{targets: [a]}]", r"`slots`.item\[0\] must be a string or have a `text`"),
        ("[{text: a, target: [b]}]", "unknown key 'target'"),
        ("[on]", r"item\[0\] must be a string or have a `text`, got True"),
        ("[]", "`slots`.item must be a list"),
        ("[{text: a, targets: [1]}]", r"item\[0\]: `targets` must be a list of strings"),
    ],
)
def test_values_of_slots_are_refused_by_place(values: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(f'version: 1\nname: n\ntemplates: ["it is {{item}}"]\nslots: {{item: {values}}}\n')
    with pytest.raises(ElimError, match=told):
        read_suite(path)


def test_templates_with_the_same_neutral_wording_keep_one_each(tmp_path: Path) -> None:
    templates = [{"id": one, "template": f"{one} {{who}} was", "neutral": "One was"} for one in ("As", "If")]
    suite = read(tmp_path, templates=templates, slots={})
    assert [one["template"] for one in suite.records if one.get("role") == "neutral"] == ["As", "If"]
    assert suite.checks == ()
