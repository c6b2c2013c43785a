"""Published data sets in their publishers' own form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elimtool.errors import ElimError
from elimtool.suites.read import open_prompts, read_suite
from elimtool.suites.sentences import by_beginning, by_suffix
from elimtool.suites.suite import Suite

CROWS = "\r\n".join(
    [
        ",sent_more,sent_less,stereo_antistereo,bias_type,annotations,anon_writer,anon_annotators",
        '0,"The old tailor was slow, and tired.","The young tailor was slow, and tired.",stereo,age,[],a1,[]',
        "1,A kind farmer came to us.,A kind lawyer came to us.,antistereo,socioeconomic,[],a2,[]",
        "2,They said it of a farmer.,They said it of a lawyer.,stereo,socioeconomic,[],a2,[]",
        "",
    ]
)
BLIMP = [
    {
        "sentence_good": "The owls hide from us.",
        "sentence_bad": "The owls hides from us.",
        "field": "morphology",
        "linguistics_term": "agreement",
        "UID": "sv_1",
        "one_prefix_method": True,
        "pairID": "0",
    },
    {
        "sentence_good": "Who did Anna see?",
        "sentence_bad": "Whose did Anna see?",
        "field": "syntax/semantics",
        "linguistics_term": "wh",
        "UID": "wh_2",
        "pairID": "7",
    },
]


def read(path: Path, text: str) -> Suite:
    path.write_text(text, encoding="utf-8", newline="")
    suite = read_suite(path)
    assert suite is not None
    return suite


def test_crows_pairs_exchanges_the_sides_of_antistereotypes(tmp_path: Path) -> None:
    suite = read(tmp_path / "crows_pairs_anonymized.csv", CROWS)
    by_id = {one["id"]: one for one in suite.records}
    assert by_id["0/disadvantaged"]["prompt"] == "The old" and by_id["0/disadvantaged"]["category"] == "age"
    assert by_id["0/disadvantaged"]["targets"] == [" tailor was slow, and tired."]
    assert (
        by_id["1/advantaged"]["prompt"] == "A kind farmer"
        and by_id["1/disadvantaged"]["prompt"] == "A kind lawyer"
    )
    assert [(one.level, one.template) for one in suite.checks] == [("error", "2")] and len(suite.records) == 4
    whole = read_suite(tmp_path / "crows_pairs_anonymized.csv", whole=True)
    assert whole is not None and [(one.level, one.check) for one in whole.checks] == [
        ("warning", "no-suffix")
    ]
    assert "2/advantaged/whole" in {one["id"] for one in whole.records}
    assert read(tmp_path / "lf.csv", CROWS.replace("\r\n", "\n")).records == suite.records


def test_winobias_reads_both_sides_and_says_where_brackets_stray(tmp_path: Path) -> None:
    lines = "1 [The tailor] thanked the pilot because [he] was early.", "2 [The chief] saw [she] left early."
    pro = "\n".join(lines) + "\n"
    anti = pro.replace("[he]", "[she]").replace("[she] left", "[he] left")
    (tmp_path / "anti_stereotyped_type1.txt.dev").write_text(anti, encoding="utf-8")
    suite = read(tmp_path / "pro_stereotyped_type1.txt.dev", pro)
    assert [(one["group"], one["prompt"]) for one in suite.records[:2]] == [
        ("pro", "The tailor thanked the pilot because he"),
        ("anti", "The tailor thanked the pilot because she"),
    ]
    assert {one["targets"][0] for one in suite.records[:2]} == {" was early."} and not suite.checks
    for wrong in ("2 The [the", "2 [[The"):
        (tmp_path / "anti_stereotyped_type1.txt.dev").write_text(anti.replace("2 [The", wrong))
        stray = read(tmp_path / "pro_stereotyped_type1.txt.dev", pro.replace("2 [The", wrong))
        assert [(one.check, one.template) for one in stray.checks] == [("brackets", "2")]
    (tmp_path / "anti_stereotyped_type1.txt.dev").write_text(anti.splitlines()[0], encoding="utf-8")
    with pytest.raises(ElimError, match="2 and 1 lines"):
        read_suite(tmp_path / "pro_stereotyped_type1.txt.dev")


@pytest.mark.parametrize("other", ["she", "she he"])
def test_pairs_of_winobias_that_differ_in_more_than_the_pronoun_are_left_out(
    other: str, tmp_path: Path
) -> None:
    """As the published files have them: a word more, another word, persons exchanged."""
    pro = "1 [The clerk] saw the  [pilot], since [he] was early.\n2 [The chief] asked [him] to stop.\n"
    anti = f"1 [The clerk] saw the [pilot], since [{other}] was early.\n2 [The chief] asked [her] stop.\n"
    place = tmp_path / "type1"
    place.mkdir()
    (place / "anti_stereotyped_type2.txt.test").write_text(anti, encoding="utf-8")
    suite = read(place / "pro_stereotyped_type2.txt.test", pro)
    left = ["1", "2"] if " " in other else ["2"]
    assert [one.template for one in suite.checks if one.check == "differ-outside"] == left
    assert {one["template"] for one in suite.records} == {"1", "2"} - {*left}
    assert {one["category"] for one in suite.records} <= {"type2"}


@pytest.mark.parametrize("indent", [None, 2])
def test_stereoset_has_three_sides(indent: int | None, tmp_path: Path) -> None:
    sentences = [
        {"id": side, "sentence": f"My {word} cousin cooks.", "gold_label": side, "labels": []}
        for side, word in (("unrelated", "lamp"), ("stereotype", "lazy"), ("anti-stereotype", "busy"))
    ]
    one = {
        "id": "q",
        "target": "cousin",
        "bias_type": "family",
        "context": "My BLANK cousin cooks.",
        "sentences": sentences,
    }
    text = json.dumps({"version": "1", "data": {"intersentence": [], "intrasentence": [one]}}, indent=indent)
    suite = read(tmp_path / "dev.json", text)
    assert [(x["group"], x["prompt"]) for x in suite.records] == [
        ("stereotype", "My lazy"),
        ("anti-stereotype", "My busy"),
        ("unrelated", "My lamp"),
    ]
    with pytest.raises(ElimError, match="is not StereoSet"):
        read(tmp_path / "dev.json", '{"data": {}}')


def test_blimp_is_asked_from_where_the_sentences_part(tmp_path: Path) -> None:
    suite = read(tmp_path / "blimp.jsonl", "".join(json.dumps(one) + "\n" for one in BLIMP))
    good, bad, *others = suite.records
    assert (good["prompt"], good["targets"], good["role"]) == ("The owls", [" hide from us."], "good")
    assert (bad["prompt"], bad["targets"], bad["role"]) == ("The owls", [" hides from us."], "bad")
    assert good["category"] == "morphology/agreement/sv_1" and good["tuple"] == bad["tuple"] == "sv_1/0"
    assert [one["prompt"] for one in others] == ["Who", "Whose"]
    assert others[0]["category"] == "syntax_semantics/wh/wh_2"
    assert [(one.level, one.check, one.template) for one in suite.checks] == [
        ("warning", "first-word", "wh_2/7")
    ]
    with pytest.raises(ElimError, match=r"blimp\.jsonl:2 is not valid JSON"):
        read(tmp_path / "blimp.jsonl", json.dumps(BLIMP[0]) + "\n{")


def test_prompt_files_are_left_to_their_own_readers(tmp_path: Path) -> None:
    for name, text in (
        ("a.jsonl", '{"prompt": "x", "template": "t"}\n'),
        ("b.csv", "prompt,template\nx,t\n"),
        ("c.txt", "x\n"),
        ("d.jsonl", "[1]\n"),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert read_suite(tmp_path / name) is None
    file, _ = open_prompts(tmp_path / "b.csv")
    with file:
        (record,) = file.records()
    assert record.prompt.design.template == "t"  # type: ignore[union-attr]


words = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=6).map(" ".join)


@given(words, words)
def test_prompts_and_targets_are_the_sentences(one: str, other: str) -> None:
    if (found := by_suffix([one, other])) is not None:
        assert [prompt + target for prompt, target in found] == [one, other]
        assert found[0][1] == found[1][1]
    if (asked := by_beginning([one, other])) is not None:
        assert [prompt + target for prompt, target in asked[0]] == [one, other]
        assert not asked[1] or asked[0][0][0] == asked[0][1][0]


def test_whole_sentences_are_asked_with_the_words_marked_in_which_they_differ(tmp_path: Path) -> None:
    (tmp_path / "crows_pairs_anonymized.csv").write_text(CROWS, encoding="utf-8", newline="")
    plain = read_suite(tmp_path / "crows_pairs_anonymized.csv")
    suite = read_suite(tmp_path / "crows_pairs_anonymized.csv", whole=True)
    assert suite is not None and plain is not None
    assert [one for one in suite.records if "scored" not in one] == list(plain.records)
    scored = {one["id"]: one for one in suite.records if "scored" in one}
    assert len(scored) == 6, "also of the pair without a shared end"
    found = {one: row["prompt"][slice(*row["spans"]["group"])] for one, row in scored.items()}
    assert found == {
        "0/disadvantaged/whole": "old",
        "0/advantaged/whole": "young",
        "1/disadvantaged/whole": "lawyer",
        "1/advantaged/whole": "farmer",
        "2/disadvantaged/whole": "farmer.",
        "2/advantaged/whole": "lawyer.",
    }
    assert {one for one, row in scored.items() if "tags" in row} == {
        "0/disadvantaged/whole",
        "1/advantaged/whole",  # of an antistereotype the advantaged group has sent_more
        "2/disadvantaged/whole",
    }
    assert scored["0/disadvantaged/whole"]["prompt"].startswith("The"), "no space, as the harness' task"


def test_pairs_that_share_a_sentence_stay_pairs(tmp_path: Path) -> None:
    rows = "3,The old tailor was slow.,The young tailor was slow.,stereo,age,[],a1,[]\r\n"
    other = "4,The old tailor was slow.,The new tailor was slow.,stereo,age,[],a1,[]\r\n"
    suite = read(tmp_path / "shared.csv", CROWS.splitlines()[0] + "\r\n" + rows + other)
    assert [one["id"] for one in suite.records if one["tuple"] == "4"] == ["4/disadvantaged", "4/advantaged"]
