"""Write a report of checks for the terminal, readable without colour."""

from __future__ import annotations

from collections.abc import Iterable

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.text import Text

from elimtool.analysis.check.findings import Finding, Report, Result, Status
from elimtool.analysis.check.paired import PairedDifference
from elimtool.report.screen import Screen, padded

WORDS: dict[Status, tuple[str, str]] = {
    "passed": ("ok", "green"),
    "failed": ("FAIL", "bold red"),
    "no_baseline": ("NONE", "bold yellow"),
    "not_comparable": ("OTHER", "bold yellow"),
    "error": ("ERROR", "bold red"),
}
"""Word and colour of each status."""
MOST_FINDINGS = 5
"""Findings shown of one check; the rest is counted (and is in --json and --junit)."""
MOST_NAME = 40


def check_table(report: Report, *, width: int = 80, encoding: str = "utf-8") -> RenderableType:
    """Lay out a line for each check, below it what did not pass, and at the end the counts."""
    screen = Screen.of(width, encoding)
    names = [screen.shorten(screen.visible(result.check.id), MOST_NAME) for result in report.results]
    room = max((cell_len(name) for name in names), default=0)
    stories: set[str] = set()
    lines: list[Text] = [Text(screen.visible(f"{report.path}  {report.model}"))]
    for name, result in zip(names, report.results, strict=True):
        lines += _check(name, room, result, stories, screen)
    for title, told, style in (
        ("baseline", report.updates, "dim"),
        ("not comparable", report.mismatch, "yellow"),
        ("warning", report.warnings, "yellow"),
    ):
        lines += [one for said in told for one in _said(f"{title}: {said}", 0, style, screen)]
    if report.missing:
        lines += _said(
            f"no baseline {report.missing}: write it with --update and review it", 0, "yellow", screen
        )
    for pair in report.pairs:
        lines += _pair(pair, screen)
    return Group(*lines, Text(counted(report), style="green" if report.passed else "bold red"))


def print_table(report: Report, console: Console) -> None:
    """Print the table in the width and encoding of a console."""
    console.print(check_table(report, width=console.width, encoding=console.encoding), highlight=False)


def counted(report: Report) -> str:
    """Count the checks that passed, and those that did not by reason."""
    reasons = {
        "failed": "failed",
        "no_baseline": "without a baseline",
        "not_comparable": "not comparable with the baseline",
        "error": "with prompts that failed",
    }
    total = len(report.results)
    passed = total - len(report.failed)
    words = [f"{total} check{'s' if total != 1 else ''}: {passed} passed"]
    for status, word in reasons.items():
        if count := sum(result.status == status for result in report.results):
            words.append(f"{count} {word}")
    if report.warnings:
        words.append(f"{len(report.warnings):,} warning{'s' if len(report.warnings) != 1 else ''}")
    return ", ".join(words) + f" ({report.seconds:.1f} s)"


def notes(report: Report) -> list[str]:
    """What does not compare, warnings, and a missing baseline."""
    missing = [f"no baseline {report.missing}"] if report.missing else []
    return [*report.mismatch, *report.warnings, *missing]


def _check(name: str, room: int, result: Result, told: set[str], screen: Screen) -> list[Text]:
    word, style = WORDS[result.status]
    line = Text(f"{word:<6}", style=style).append(padded(name, room), style="not bold default")
    line.append(f"  {result.n_passed:,} of {len(result.findings):,}", style="not bold default")
    if result.mostly < 1:
        line.append(f" ({result.mostly:.4g} must pass)", style="not bold default")
    lines = [line]
    if result.status == "passed":
        return lines
    if result.check.why:
        lines += _said(result.check.why, 6, "italic", screen)
    for finding in result.bad[:MOST_FINDINGS]:
        lines += _finding(finding, told, screen)
    if len(result.bad) > MOST_FINDINGS:
        lines += _said(f"{len(result.bad) - MOST_FINDINGS:,} more prompts did not pass", 6, "dim", screen)
    return lines


def _finding(finding: Finding, told: set[str], screen: Screen) -> Iterable[Text]:
    """Message, causes and story of a prompt, without causes and stories that were already written above."""
    yield from _said(finding.message, 6, "", screen)
    for cause in finding.causes:
        if cause in told:
            continue
        told.add(cause)
        yield from _said(f"changed since the baseline: {cause}", 8, "yellow", screen)
    if finding.story and finding.story not in told:
        told.add(finding.story)
        yield from _said(finding.story, 8, "dim", screen)


def _said(text: str, indent: int, style: str, screen: Screen) -> list[Text]:
    return screen.wrap(screen.visible(text), indent=indent, style=style, hang=2)


def _pair(pair: PairedDifference, screen: Screen) -> Iterable[Text]:
    """How far a check's values are from another run's."""
    interval = f" (95% {pair.low:+.3g} to {pair.high:+.3g})" if pair.low is not None else ""
    moved = ", ".join(f"'{prompt}' {move:+.3g}" for prompt, move in pair.moved)
    told = f"{pair.check}: mean change {pair.mean:+.3g}{interval} over {pair.n:,} prompts"
    yield from _said(f"{told}; moved most: {moved}" if moved else told, 0, "", screen)
