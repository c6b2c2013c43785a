"""Roles of a map name the heads in verdicts, sources and run.json, where a map is given and nowhere else."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import elimtool
from elimtool import TraceOptions
from elimtool.analysis.evidence import findings_in_words
from elimtool.analysis.map.known import HeadRoles
from elimtool.analysis.verdict import attribution_in_words
from elimtool.errors import ElimError
from elimtool.report.facts import Probe, Tables
from elimtool.report.figures.mapped import mapped_heads
from elimtool.run import Run
from elimtool.run.analysis import Analysis
from elimtool.run.roles import HeadProfile, read_profile
from elimtool.run.tables.findings import FINDINGS
from tests.report.printed import detailed, flat
from tests.report.test_map import row

PROMPT, TARGETS = "The capital of France is", ["Paris", "Berlin"]


def options(**given: Any) -> TraceOptions:
    return TraceOptions(samplers=("hf",), heads=True, **given)


@pytest.fixture(scope="module")
def plain(llama: Any) -> Run:
    return elimtool.trace(llama, PROMPT, targets=TARGETS, options=options())


@pytest.fixture(scope="module")
def roles(llama: Any, plain: Run) -> HeadRoles:
    """Every head of even number suppresses copies."""
    heads = [(f"{layer}.{head}", "suppressing") for layer in range(llama.n_layers) for head in (0, 2)]
    profiles = tuple(
        HeadProfile(
            f"{layer}.{head}",
            (("previous", 0.02), ("induction", 0.5), ("suppressing", 0.25), ("copying", None)),
            ("suppressing",) if head % 2 == 0 else (),
            "name",
            2.125,
        )
        for layer in range(llama.n_layers)
        for head in range(4)
    )
    return HeadRoles("mine", plain.manifest.weights_sha256, "f" * 64, tuple(heads), profiles)


@pytest.fixture(scope="module")
def named(llama: Any, roles: HeadRoles) -> Run:
    return elimtool.trace(llama, PROMPT, targets=TARGETS, options=options(roles=roles))


def test_verdicts_have_the_role_of_their_heads(named: Run, plain: Run) -> None:
    seen = 0
    for one in named.arrow("verdicts").to_pylist():
        for kind in ("eliminator", "promoter"):
            component = str(one[kind])
            even = component.startswith("head") and int(component[-1]) % 2 == 0
            assert one[f"{kind}_role"] == ("suppressing" if even else None)
            seen += even
    others = [name for name in plain.table("verdicts").columns if not name.endswith("_role")]
    assert named.table("verdicts")[others].equals(plain.table("verdicts")[others])
    assert not plain.table("verdicts")[["eliminator_role", "promoter_role"]].notna().any().any()
    assert named.manifest.config["roles"]["map"] == "f" * 64 and len(named.head_profiles) == 16
    assert "roles" not in plain.manifest.config and plain.roles == {}
    assert seen  # else nothing was tested


def test_the_story_names_roles(named: Run, plain: Run) -> None:
    told, without = flat(detailed(named)), flat(detailed(plain))
    assert "(copy suppression)" in told and "copy suppression" not in without
    verdict = {
        "promoter": None, "eliminator": "head 1.0", "eliminator_role": "suppressing", "eliminator_dla": -1.25,
        "outcome": "outranked", "eliminator_effect": 0.5, "eliminator_effect_resample": 0.4,
        "eliminator_null": 0.1, "eliminator_null_n": 20, "eliminator_confirmed": True,
    }  # fmt: skip
    assert "head 1.0 (copy suppression) takes 1.2" in attribution_in_words(verdict)[0]
    assert "ablating head 1.0 (copy suppression) changes" in findings_in_words(verdict)[0]


def test_sources_have_the_roles_of_their_heads(named: Run, plain: Run) -> None:
    rows, without = (run.arrow("source_spans").to_pylist() for run in (named, plain))
    for which in ("top", "low"):
        even = [row[f"{which}_head"] is not None and row[f"{which}_head"] % 2 == 0 for row in rows]
        assert [row[f"{which}_role"] for row in rows] == ["suppressing" if one else None for one in even]
        assert any(even) and not any(row[f"{which}_role"] for row in without)


def test_the_story_and_the_page_say_what_the_map_knows_of_named_heads(named: Run, plain: Run) -> None:
    told = flat(detailed(named))
    assert "What the map says of these heads" in told and "What the map says" not in flat(detailed(plain))
    answers = dict(re.findall(r"head (\d\.\d) \([^)]+\): copy suppression\? (\w+)", told))
    assert answers == {head: "yes" if head[-1] in "02" else "no" for head in answers} and answers
    assert re.search(r"\): copying\? not measurable; .*?induction 0.50; keeps names 2.1 times", told)
    (prompt,) = named.arrow("prompts").to_pylist()
    (listing,) = mapped_heads(Probe(Tables(named), prompt, prompt["n_tokens"] - 1))
    row = dict(zip(listing.columns, listing.rows[0], strict=True))
    assert row["keeps"] == "names" and row["times"] == 2.125 and row["induction"] == 0.5
    assert row["roles"] == ("copy suppression" if int(row["head"][-1]) % 2 == 0 else "none")
    assert mapped_heads(Probe(Tables(plain), prompt, prompt["n_tokens"] - 1)) == []


def test_a_profile_answers_the_question_that_is_asked() -> None:
    one = HeadProfile(
        "23.4", (("previous", 0.02), ("suppressing", 0.0), ("sink", 0.9)), ("sink",), "name", 2.1
    )
    assert (
        one.told("suppressing")
        == "copy suppression? no; sink 0.90; previous token 0.02; keeps names 2.1 times"
    )
    assert one.told("copying") == "sink 0.90; previous token 0.02; keeps names 2.1 times"
    assert read_profile("23.4", one.stated()) == one


def test_roles_of_another_model_are_refused(llama: Any, roles: HeadRoles) -> None:
    other = replace(roles, weights_sha256="0" * 64)
    with pytest.raises(ElimError, match="`roles` are of another model: the map is of mine"):
        elimtool.trace(llama, PROMPT, options=options(roles=other))


def test_roles_are_read_from_a_map(plain: Run, mapped: Analysis, map_directory: Path, tmp_path: Path) -> None:
    run = elimtool.open_run(map_directory)
    assert elimtool.head_roles(map_directory).map == run.manifest.fingerprint
    rows = [
        row(0, 0, "induction", 0.5, 0.01, True),
        row(0, 0, "copying", 0.9, 0.01, True),
        row(0, 1, "sink", 0.9, 0.01, True),
        row(0, 2, "dormant", 1.0, None, True),
        row(0, 3, "copying", 0.5, 0.01, False),
    ]
    run.save(tmp_path / "map")
    tables = {name: mapped.arrow(name) for name in FINDINGS["map"]}
    tables["head_roles"] = FINDINGS["map"]["head_roles"].from_rows(rows)
    Analysis.of("map", run.manifest, tables, {}, 0).save(tmp_path / "map")
    assert elimtool.head_roles(tmp_path / "map").heads == (("0.0", "copying"), ("0.2", "dormant"))
    with pytest.raises(ElimError, match="is not a map"):
        elimtool.head_roles(plain)
