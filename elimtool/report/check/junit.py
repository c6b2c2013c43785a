"""Write a report of checks as JUnit XML (Ant's and Jenkins' schemas), a case for each check and prompt."""

from __future__ import annotations

import re
import socket
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

from elimtool.analysis.check.findings import Finding, Report, Result
from elimtool.errors import ElimError
from elimtool.files.destination import check_file, write_file
from elimtool.files.writing import writing
from elimtool.report.check.terminal import notes

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, escaped or not."""


def junit_xml(report: Report) -> bytes:
    """Write the report as a UTF-8 document.

    A prompt whose failure ``mostly`` tolerates is a case that passes; ``system-out`` of the suite names it.
    """
    cases = [(result, one) for result in report.results for one in result.findings]
    suite = ElementTree.Element("testsuite")
    for number, (result, one) in enumerate(cases):
        # prompts run in batches, so time is known for the whole only; the first case carries it
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
    tolerated = [
        f"tolerated by mostly: {result.check.id}: {one.text}"
        for result, one in cases
        if _tolerated(result, one)
    ]
    ElementTree.SubElement(suite, "system-out").text = _text("\n".join([*report.updates, *tolerated]))
    ElementTree.SubElement(suite, "system-err").text = _text("\n".join(notes(report)))
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
    if one.status == "passed" or _tolerated(result, one):
        return case
    kind = "failure" if one.status == "failed" else "error"
    found = ElementTree.SubElement(case, kind, type=one.status, message=_text(one.message))
    found.text = _text(one.text)
    return case


def _tolerated(result: Result, one: Finding) -> bool:
    """Whether a prompt failed although its check passed."""
    return one.status == "failed" and result.status == "passed"


def _text(text: str) -> str:
    """Escape the characters that XML cannot hold."""
    return _NOT_XML.sub(lambda found: found.group().encode("unicode_escape").decode("ascii"), text)


def check_junit(file: Path) -> None:
    """Refuse, before any work, a file that ``write_junit`` would refuse.

    Raises:
        ElimError: As ``write_junit``.
    """
    with writing(file):
        if file.is_file() and not _is_junit(file):
            raise ElimError(f"{file} exists, and is not a JUnit report", "give another `junit`")
    check_file(file, overwrite=True)


def write_junit(report: Report, file: Path) -> None:
    """Write the document to a file, and make its folder if need be.

    An earlier JUnit report is replaced, as gates run again and again with one name; no other file is.

    Raises:
        ElimError: Another file is there, or the file system refuses.
    """
    check_junit(file)
    write_file(file, junit_xml(report), overwrite=True)


def _is_junit(file: Path) -> bool:
    try:
        with file.open("rb") as handle:
            return b"<testsuite" in handle.read(500)
    except OSError:
        return False
