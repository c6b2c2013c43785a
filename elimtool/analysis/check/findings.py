"""Hold what checks found: a finding per prompt, a result per check, a report per check file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any, Literal

from elimtool.analysis.check.paired import PairedDifference
from elimtool.analysis.check.spec import Check
from elimtool.analysis.check.values import Value
from elimtool.errors import Exit

Status = Literal["passed", "failed", "no_baseline", "not_comparable", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One prompt under one check.

    Attributes:
        prompt: Id of the prompt; ``None`` for one value of all prompts.
        status: ``no_baseline``: nothing to compare with; ``not_comparable``: the baseline is of another model
            or metric; ``error``: the prompt could not be measured.
        seen: The value.
        expected: What would have passed, in words.
        baseline: The baseline's value; ``None`` where there is none.
        off: How far the value is past the nearest one that passes, in the metric's unit, >= 0.
        where: Target, chain, stage, span and layers of the value, in words.
        message: One sentence: what was expected, what was seen, how far off, where.
        causes: What changed since the baseline and may explain it.
        story: What became of the target, in a sentence; empty if the run does not say.
        target: The target, as it was scored, if the value is of one.
        position: The query position, if the value is of one.
    """

    prompt: str | None
    status: Status
    seen: Value
    expected: str
    baseline: Any = None
    off: float | None = None
    where: str = ""
    message: str = ""
    causes: tuple[str, ...] = ()
    story: str = ""
    target: str | None = None
    position: int | None = None

    @property
    def text(self) -> str:
        """The message, the causes and the story, one per line."""
        changed = [f"changed since the baseline: {cause}" for cause in self.causes]
        return "\n".join([self.message, *changed, *([self.story] if self.story else [])])


@dataclass(frozen=True, slots=True)
class Result:
    """One check.

    Attributes:
        check: The check.
        line: Its line in the check file.
        mostly: Share of the prompts that had to pass.
        findings: One per prompt.
    """

    check: Check
    line: int
    mostly: float
    findings: tuple[Finding, ...]

    @property
    def n_passed(self) -> int:
        """Prompts that passed."""
        return sum(finding.status == "passed" for finding in self.findings)

    @property
    def status(self) -> Status:
        """``failed`` if too few prompts can pass even if all that could not be judged did."""
        unknown = [one for one in self.findings if one.status not in ("passed", "failed")]
        needed = self.mostly * len(self.findings) - 1e-9  # 0.07 * 100 rounds to more than 7
        if self.n_passed >= needed and not unknown:
            return "passed"
        if self.n_passed + len(unknown) < needed:
            return "failed"
        return unknown[0].status if unknown else "passed"

    @property
    def bad(self) -> tuple[Finding, ...]:
        """Findings that did not pass, the farthest off first."""
        found = [one for one in self.findings if one.status != "passed"]
        return tuple(sorted(found, key=lambda one: -(one.off or 0.0)))


@dataclass(frozen=True, slots=True)
class Report:
    """What ``elimtool check`` found.

    Attributes:
        path: The check file.
        model: Model as it was named.
        results: One per check, in the file's order.
        warnings: What deserves a look but fails only with ``strict``.
        mismatch: How the baseline's identity differs, one line per field.
        strict: Whether warnings fail.
        updates: What an update of the baseline changed, one line per value.
        pairs: How the values differ from another run's, prompt by prompt.
        missing: The baseline that the file names, if there is no such file.
        seconds: How long it took.
    """

    path: str
    model: str
    results: tuple[Result, ...]
    warnings: tuple[str, ...] = ()
    mismatch: tuple[str, ...] = ()
    strict: bool = False
    updates: tuple[str, ...] = ()
    missing: str = ""
    pairs: tuple[PairedDifference, ...] = ()
    seconds: float = field(default=0.0, compare=False)

    @property
    def failed(self) -> tuple[Result, ...]:
        """Checks that did not pass."""
        return tuple(result for result in self.results if result.status != "passed")

    @property
    def exit_code(self) -> Exit:
        """10 for a regression, else 4 without a baseline, else 6 for prompts that failed, else 0."""
        seen = {result.status for result in self.results}
        if "failed" in seen:
            return Exit.REGRESSION
        if seen & {"no_baseline", "not_comparable"} or self.mismatch or self.missing:
            return Exit.BASELINE
        if "error" in seen:
            return Exit.PARTIAL
        return Exit.REGRESSION if self.strict and self.warnings else Exit.OK

    @property
    def passed(self) -> bool:
        """Whether the exit code is 0."""
        return self.exit_code == Exit.OK

    @property
    def summary(self) -> str:
        """Messages of all that did not pass, one paragraph each, for an assertion."""
        told = [f"{result.check.id}: {one.text}" for result in self.failed for one in result.bad]
        missing = [f"no baseline {self.missing}"] if self.missing else []
        return "\n\n".join([*told, *self.mismatch, *self.warnings, *missing]) or "all checks passed"

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON's own types, infinities as texts."""
        return {
            "file": self.path,
            "model": self.model,
            "passed": self.passed,
            "exit_code": int(self.exit_code),
            "checks": [_result(result) for result in self.results],
            "warnings": list(self.warnings),
            "mismatch": list(self.mismatch),
            "missing": self.missing,
            "updates": list(self.updates),
            "pairs": [{**asdict(one), "moved": [list(move) for move in one.moved]} for one in self.pairs],
            "seconds": round(self.seconds, 3),
        }


def _result(result: Result) -> dict[str, Any]:
    check = result.check
    return {
        "id": check.id,
        "line": result.line,
        "why": check.why,
        "metric": check.metric,
        "status": result.status,
        "n": len(result.findings),
        "n_passed": result.n_passed,
        "mostly": result.mostly,
        "findings": [_finding(one) for one in result.findings],
    }


def _finding(one: Finding) -> dict[str, Any]:
    return {
        "prompt": one.prompt,
        "status": one.status,
        "seen": plain(one.seen),
        "expected": one.expected,
        "baseline": plain(one.baseline),
        "off": plain(one.off),
        "where": one.where,
        "message": one.message,
        "causes": list(one.causes),
        "story": one.story,
    }


def plain(value: Any) -> Any:
    """Convert a value to JSON's own types: infinities to texts, NaN to null, tuples to lists."""
    if isinstance(value, float) and not isfinite(value):
        return {float("inf"): "Infinity", float("-inf"): "-Infinity"}.get(value)
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
