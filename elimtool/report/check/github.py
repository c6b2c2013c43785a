"""Write a report of checks as annotations and a step summary of GitHub Actions.

Source: GitHub's page "Workflow commands for GitHub Actions" (escapes, 10 annotations of a kind a step, a
summary of at most 1 MiB a step).
"""

from __future__ import annotations

from pathlib import Path

from elimtool.analysis.check.findings import Finding, Report, Result
from elimtool.files.writing import writing
from elimtool.report.check.terminal import WORDS, counted, notes
from elimtool.report.screen import Screen

MOST_ANNOTATIONS = 10
"""Annotations of one kind that GitHub shows for a step."""
SUMMARY_BYTES = 1 << 20
"""Largest summary of a step, in bytes; GitHub shows nothing of a longer one."""
_RESERVED = 512  # for the line that counts what did not fit


def error_lines(report: Report) -> list[str]:
    """Write at most ten ``::error`` lines; of more findings nine and a line that counts the rest."""
    found = [(result, one) for result in report.failed for one in result.bad]
    shown = found if len(found) <= MOST_ANNOTATIONS else found[: MOST_ANNOTATIONS - 1]
    lines = [_error(report.path, result.line, result.check.id, one.text) for result, one in shown]
    if len(found) > len(shown):
        lines.append(_error(report.path, 1, "elimtool check", f"{len(found) - len(shown):,} more"))
    if not found and not report.passed:
        lines = [_error(report.path, 1, "elimtool check", counted(report))]
    return lines


def _error(path: str, line: int, title: str, message: str) -> str:
    where = f"file={_property(path)},line={line},title={_property(title)}"
    return f"::error {where}::{_message(message)}"


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")


def summary(report: Report, room: int = SUMMARY_BYTES) -> str:
    """Write the report as Markdown in at most ``room`` bytes, and count the lines that do not fit."""
    head = [
        f"### elimtool check: {_cell(counted(report))}",
        "",
        "| | check | passed | |",
        "|---|---|---|---|",
    ]
    head += [
        f"| {WORDS[result.status][0]} | {_cell(result.check.id)}"
        f" | {result.n_passed:,} of {len(result.findings):,} | {_cell(result.check.why)} |"
        for result in report.results
    ]
    items = [f"- {_cell(note)}" for note in notes(report)]
    items += [_item(result, one) for result in report.failed for one in result.bad]
    left = room - _RESERVED
    kept: list[str] = []
    for count, line in enumerate([*head, "", *items]):
        left -= len(line.encode("utf-8", "backslashreplace")) + 1  # tokens may hold lone surrogates
        if left < 0:
            kept.append(f"\n{len(head) + 1 + len(items) - count:,} more lines do not fit here.")
            break
        kept.append(line)
    return "\n".join(kept) + "\n\n"


def append_summary(report: Report, file: Path) -> None:
    """Append the summary to the file that ``GITHUB_STEP_SUMMARY`` names, up to what GitHub shows.

    Raises:
        ElimError: The file cannot be written.
    """
    with writing(file):
        used = file.stat().st_size if file.exists() else 0
        room = SUMMARY_BYTES - used
        if room < 2 * _RESERVED:
            return
        with file.open("ab") as handle:
            handle.write(summary(report, room).encode("utf-8", "backslashreplace"))


def _item(result: Result, one: Finding) -> str:
    more = [f"changed since the baseline: {cause}" for cause in one.causes] + (
        [one.story] if one.story else []
    )
    return "\n".join(
        [f"- **{_cell(result.check.id)}**: {_cell(one.message)}", *(f"  - {_cell(line)}" for line in more)]
    )


def _cell(text: str) -> str:
    """Escape the text so that Markdown shows it as it is, on one line."""
    visible = Screen().visible(text)
    return "".join(f"&#{ord(char)};" if char in "\\`*_{}[]<>()#+!|~&@$" else char for char in visible)
