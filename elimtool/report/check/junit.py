"""Write a report of checks as JUnit XML by Ant's and Jenkins' schemas: a case for each check and prompt."""

from __future__ import annotations

import re
import socket
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

from elimtool.analysis.check.findings import Finding, Report, Result
from elimtool.files.writing import writing

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, escaped or not."""


def junit_xml(report: Report) -> bytes:
    """The report as a UTF-8 document.

    A prompt that fails within ``mostly`` is a case that passes; ``system-out`` of the suite tells of it.

    Args:
        report: From a check.
    """
    cases = [(result, one) for result in report.results for one in result.findings]
    suite = ElementTree.Element("testsuite")
    for number, (result, one) in enumerate(cases):
        suite.append(_case(result, one, report.seconds if number == 0 else 0.0))
    failures = len(suite.findall("testcase/failure"))
    errors = len(suite.findall("testcase/error"))
    facts = {
        "name": "elimtool check",
        "package": _text(report.path),
        "id": "0",
        "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
        "hostname": socket.gethostname() or "localhost",
        "tests": str(len(cases)),
        "failures": str(failures),
        "errors": str(errors),
        "skipped": "0",
        "time": f"{report.seconds:.3f}",
    }
    for key, value in facts.items():
        suite.set(key, value)
    suite.insert(0, _properties(report))
    let = [
        f"tolerated by mostly: {result.check.id}: {one.text}" for result, one in cases if _let(result, one)
    ]
    ElementTree.SubElement(suite, "system-out").text = _text("\n".join([*report.updates, *let]))
    notes = [
        *report.mismatch,
        *report.warnings,
        *([f"no baseline {report.missing}"] if report.missing else []),
    ]
    ElementTree.SubElement(suite, "system-err").text = _text("\n".join(notes))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    written: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return written + b"\n"


def _properties(report: Report) -> ElementTree.Element:
    element = ElementTree.Element("properties")
    for name, value in (("model", report.model), ("exit_code", str(int(report.exit_code)))):
        ElementTree.SubElement(element, "property", name=name, value=_text(value))
    return element


def _case(result: Result, one: Finding, seconds: float) -> ElementTree.Element:
    prompt = one.prompt if one.prompt is not None else "all prompts"
    case = ElementTree.Element(
        "testcase", classname=_text(result.check.id), name=_text(prompt), time=f"{seconds:.3f}"
    )
    if one.status == "passed" or _let(result, one):
        return case
    kind = "failure" if one.status == "failed" else "error"
    found = ElementTree.SubElement(case, kind, type=one.status, message=_text(one.message))
    found.text = _text(one.text)
    return case


def _let(result: Result, one: Finding) -> bool:
    """Whether a prompt failed and its check passed all the same."""
    return one.status == "failed" and result.status == "passed"


def _text(text: str) -> str:
    """The text with what XML cannot hold written as an escape."""
    return _NOT_XML.sub(lambda found: found.group().encode("unicode_escape").decode("ascii"), text)


def write_junit(report: Report, file: Path) -> None:
    """Write the document to a file; its folder is made.

    Raises:
        ElimError: The file system refuses.
    """
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(junit_xml(report))
