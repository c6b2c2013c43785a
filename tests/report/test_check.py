"""Reports of checks as table, JUnit XML, Markdown and annotations, with prompts that try to break them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from rich.console import Console

from elimtool.analysis.check.findings import Finding, Report, Result
from elimtool.analysis.check.spec import Check
from elimtool.errors import Exit
from elimtool.report.check import github
from elimtool.report.check.junit import junit_xml, write_junit
from elimtool.report.check.terminal import check_table

SCHEMA = Path(__file__).parents[1] / "data" / "junit.xsd"

HOSTILE = [
    "</testcase><failure>",
    "\"'&<>]]>",
    "100%, done: yes\r\nnext",
    "\x00\x01\x07\x1b[31m\x7f\x85",
    "\U0001f600 \u200f\u05e9\u05dc\u05d5\u05dd\u202e \ufeff\ufffe\uffff",
    "lone \ud800 surrogate",
    "| a | b |\n|---|\n`code` [link](http://x) @user #1 $x$",
    "::error::nested %0A ::set-output name=x::y",
    "",
    " ",
    "x" * 5000,
]


def check(name: str = "c", **more: Any) -> Check:
    return Check.model_validate({"id": name, "metric": "entropy", "max": 1.0, **more})


def finding(prompt: str | None, status: Any = "failed", text: str = "", **more: Any) -> Finding:
    return Finding(prompt, status, 2.0, "at most 1", off=1.0, message=f"entropy of {prompt} {text}", **more)


def report(*findings: Finding, **more: Any) -> Report:
    return Report("checks.yaml", "smollm2", (Result(check(), 4, 1.0, findings),), **more)


def printed(of: Report, encoding: str = "utf-8", width: int = 80) -> str:
    import io

    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    Console(file=stream, width=width).print(check_table(of, width=width, encoding=encoding), highlight=False)
    stream.seek(0)
    return stream.read()


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_prompts_in_junit(text: str) -> None:
    of = report(finding(text or None, causes=(text,), story=text), warnings=(text,), updates=(text,))
    document = etree.fromstring(junit_xml(of))
    schema = etree.XMLSchema(etree.parse(SCHEMA))
    schema.assertValid(document)
    (case,) = document.iter("testcase")
    assert len(case) == 1 and case[0].tag == "failure"
    if "</testcase>" in text:
        assert case.get("name") == text


def test_junit_counts_and_tolerates(tmp_path: Path) -> None:
    good, bad = finding("a", "passed"), finding("b")
    of = Report(
        "checks.yaml",
        "smollm2",
        (
            Result(check("most"), 1, 0.5, (good, bad)),
            Result(check("all"), 2, 1.0, (good, bad)),
            Result(check("base"), 3, 1.0, (finding("a", "no_baseline"),)),
            Result(check("wrong"), 4, 1.0, (finding("a", "error"),)),
        ),
    )
    write_junit(of, tmp_path / "new" / "out.xml")
    document = etree.parse(tmp_path / "new" / "out.xml")
    etree.XMLSchema(etree.parse(SCHEMA)).assertValid(document)
    suite = document.getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("6", "1", "2")
    assert "tolerated by mostly: most" in suite.findtext("system-out")
    assert of.exit_code == Exit.REGRESSION


def test_the_schema_can_fail() -> None:
    text = junit_xml(report(finding("a"))).replace(b' type="failed"', b"")
    assert not etree.XMLSchema(etree.parse(SCHEMA)).validate(etree.fromstring(text))


@pytest.mark.parametrize("text", HOSTILE)
def test_annotations_are_one_escaped_line(text: str) -> None:
    of = replace(report(finding(text, causes=(text,))), path="odd, path:\n%.yaml")
    (line,) = github.error_lines(of)
    assert "\n" not in line and "\r" not in line
    head, _, message = line.removeprefix("::error ").partition("::")
    assert head == "file=odd%2C path%3A%0A%25.yaml,line=4,title=c"
    assert not re.search(r"%(?!25|0D|0A)", message)
    restored = message.replace("%0A", "\n").replace("%0D", "\r").replace("%25", "%")
    assert text in restored


def test_nine_annotations_and_how_many_more() -> None:
    ten = github.error_lines(report(*(finding(str(n)) for n in range(10))))
    assert len(ten) == 10 and all("entropy of" in line for line in ten)
    many = github.error_lines(report(*(finding(str(n)) for n in range(30))))
    assert len(many) == 10
    assert many[-1].endswith("::21 more")
    assert github.error_lines(report(finding("a", "passed"))) == []


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_of_hostile_prompts_is_text(text: str) -> None:
    said = github.summary(report(finding(text, story=text), warnings=(text,)))
    for line in said.splitlines():
        if line.startswith("|"):
            assert line.count("|") == 5
        assert not re.search(r"[<>`\[\]]|\x1b|\x00", line)
    said.encode("utf-8", "backslashreplace")


def test_the_summary_stays_below_what_is_shown(tmp_path: Path) -> None:
    of = report(*(finding(f"{n} " + "é" * 3000) for n in range(400)))
    file = tmp_path / "summary.md"
    file.write_bytes(b"x" * 1000)
    github.append_summary(of, file)
    assert 900_000 < file.stat().st_size <= github.SUMMARY_BYTES
    assert re.search(r"\d+ more lines do not fit here\.", file.read_text())
    github.append_summary(of, file)
    assert file.stat().st_size <= github.SUMMARY_BYTES


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252"])
@pytest.mark.parametrize("text", HOSTILE)
def test_the_table_prints_anywhere(text: str, encoding: str) -> None:
    out = printed(report(finding(text, causes=(text,), story=text)), encoding)
    assert "\x1b[31m" not in out and "\x00" not in out
    assert out.splitlines()[1].startswith("FAIL  c")
    assert out.splitlines()[-1].startswith("1 check: 0 passed, 1 failed")


def test_the_table_counts_what_it_leaves_out() -> None:
    same = [finding(str(n), story="the same story") for n in range(9)]
    out = printed(report(*same))
    assert "4 more prompts did not pass" in out
    assert out.count("the same story") == 1


def test_json_has_no_infinities() -> None:
    of = report(replace(finding("a"), seen=float("inf"), off=float("inf")))
    text = json.dumps(of.to_dict(), allow_nan=False)
    assert json.loads(text)["checks"][0]["findings"][0]["seen"] == "Infinity"


@pytest.mark.parametrize(
    ("statuses", "mostly", "code"),
    [
        (["passed"], 1.0, 0),
        (["failed"], 1.0, 10),
        (["no_baseline", "failed"], 1.0, 10),
        (["no_baseline", "error"], 1.0, 4),
        (["passed", "error"], 1.0, 6),
        (["passed", "failed"], 0.5, 0),
        (["failed", "error"], 0.5, 6),
        (["failed", "failed", "error"], 0.5, 10),
        (["not_comparable"], 1.0, 4),
    ],
)
def test_exit_codes(statuses: list[Any], mostly: float, code: int) -> None:
    findings = tuple(finding(str(n), status) for n, status in enumerate(statuses))
    of = Report("checks.yaml", "smollm2", (Result(check(), 1, mostly, findings),))
    assert of.exit_code == code
    assert of.passed is (code == 0)
