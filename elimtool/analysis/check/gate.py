"""Judge a run by a check file, make the report, and write baselines on request."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from elimtool.analysis.check import baseline as stored
from elimtool.analysis.check import identity
from elimtool.analysis.check.baseline import Baseline
from elimtool.analysis.check.causes import causes, edited
from elimtool.analysis.check.changes import difference
from elimtool.analysis.check.findings import Finding, Report, Result
from elimtool.analysis.check.judge import Judge
from elimtool.analysis.check.noise import Noise, noise_path, read_noise
from elimtool.analysis.check.paired import pair
from elimtool.analysis.check.read import Checks
from elimtool.analysis.check.rows import RunTables
from elimtool.analysis.check.select_prompts import chosen_prompts
from elimtool.analysis.check.sentence import story_of
from elimtool.analysis.check.spec import Check
from elimtool.analysis.check.values import CheckedValue, read
from elimtool.analysis.check.words import ceil_to_two_digits
from elimtool.errors import ElimError, Exit, nearest

if TYPE_CHECKING:
    from elimtool.run import Run

MOST_STORIES = 8
"""Prompts whose failure gets a story; more would take longer than the checks."""

Update = Literal["none", "all", "new"]


@dataclass(frozen=True, slots=True)
class Judged:
    """A judged run.

    Attributes:
        report: What was found.
        now: The baseline that the run would make.
    """

    report: Report
    now: Baseline


def select_checks(checks: Checks, only: Collection[str]) -> tuple[Check, ...]:
    """Return the checks with these ids, or all if none are given.

    Raises:
        ElimError: An id is unknown (exit code 5).
    """
    known = tuple(check.id for check in checks.file.checks)
    for name in only:
        if name not in known:
            raise ElimError(f"{checks.path} has no check '{name}'", nearest(name, known), Exit.NOTHING)
    return tuple(check for check in checks.file.checks if not only or check.id in only)


def judge_run(
    checks: Checks,
    run: Run,
    *,
    only: Collection[str] = (),
    update: Update = "none",
    strict: bool = False,
    baseline: Path | None = None,
    against: Run | None = None,
) -> Judged:
    """Judge a run by a check file.

    Args:
        checks: From ``read_checks``.
        run: The run; it needs the tables that the checks read.
        only: Ids of the checks to judge; empty for all.
        update: ``all`` rewrites the baseline, ``new`` adds what it lacks.
        strict: Let warnings fail too.
        baseline: File of the baseline, instead of the check file's.
        against: Another run to compare with, prompt by prompt.

    Raises:
        ElimError: Nothing is selected, a run lacks something that a check reads, the baseline is damaged, a
            tolerance is below the noise floor, or schema versions do not go together.
    """
    wanted = select_checks(checks, only)
    path = baseline or checks.baseline
    source = RunTables(run)
    readings = {check.id: _readings(checks, check, source) for check in wanted}
    if against is not None:
        identity.refuse_other_schema(run.manifest, against.manifest)
    before = readings_of(checks, against, wanted) if against is not None else {}
    now = _baseline(checks, run, source, wanted, readings)
    old = stored.read_baseline(path) if path else None
    updates: list[str] = []
    if update != "none":
        old, updates = _updated(path, old, now, update == "new", only, checks.file.across)
    differs = identity.mismatch(old.identity, now.identity, checks.file.across) if old else []
    judges = {
        check.id: Judge(check, checks.metrics[check.id], checks.file.defaults, old, not differs)
        for check in wanted
    }
    noise = read_noise(noise_path(path)) if path else None
    noisy = _refuse_noise(checks, list(judges.values()), noise, now)
    results = tuple(_result(checks, judges[check.id], readings[check.id], old, now) for check in wanted)
    warnings = [*noisy, *_stale(old, now, path, bool(only)), *(_edits(old, now, results) if old else [])]
    report = Report(
        str(checks.path),
        run.manifest.model,
        results,
        tuple(warnings),
        tuple(differs),
        strict,
        tuple(updates),
        missing=str(path) if path and old is None else "",
        pairs=tuple(found for name, old in before.items() if (found := pair(name, old, readings[name]))),
    )
    return Judged(report, now)


def failing_prompts(report: Report) -> list[str]:
    """Choose the prompts whose failure gets a story, at most ``MOST_STORIES``."""
    found = dict.fromkeys(
        one.prompt
        for result in report.failed
        for one in result.bad
        if one.status == "failed" and one.prompt is not None
    )
    return list(found)[:MOST_STORIES]


def with_stories(report: Report, run: Run, prompts: Collection[str]) -> Report:
    """Add to some failing prompts what became of their target, as far as a run says."""

    def told(one: Finding) -> Finding:
        if one.status != "failed" or one.prompt is None or one.prompt not in prompts:
            return one
        return replace(one, story=story_of(run, one.prompt, one.position, one.target))

    results = (replace(one, findings=tuple(map(told, one.findings))) for one in report.results)
    return replace(report, results=tuple(results))


def readings_of(checks: Checks, run: Run, wanted: Collection[Check]) -> dict[str, list[CheckedValue]]:
    """Read the values of some checks on a run, by check.

    Raises:
        ElimError: Nothing is selected, or the run lacks something that a check reads.
    """
    source = RunTables(run)
    return {check.id: _readings(checks, check, source) for check in wanted}


def _refuse_noise(checks: Checks, judges: Collection[Judge], noise: Noise | None, now: Baseline) -> list[str]:
    """Refuse tolerances that harmless changes exceed.

    Returns:
        A warning if the floor was measured on another model.

    Raises:
        ElimError: A tolerance is below the floor; the message names it.
    """
    if noise is None:
        return []
    if identity.mismatch(noise.identity, now.identity, ()):
        return ["the noise floor was measured on another model or by another elimtool: measure it again"]
    for judge in judges:
        floor, least = noise.floors.get(judge.check.id), judge.least_tolerance()
        if floor is not None and least is not None and least < floor.floor:
            where = f"{checks.path}:{checks.line(judge.check)}"
            seen = f"prompt '{floor.prompt or '(all)'}', {floor.variation}"
            raise ElimError(
                f"{where}: the tolerance of check '{judge.check.id}' is {least:.3g}, below its noise floor of"
                f" {floor.floor:.3g} ({seen})",
                f"give atol: {ceil_to_two_digits(floor.floor)} or more",
            )
    return []


def _readings(checks: Checks, check: Check, source: RunTables) -> list[CheckedValue]:
    position = checks.file.defaults.position if check.position is None else check.position
    try:
        metric = checks.metrics[check.id]
        identity.refuse_old_meaning(source.run.manifest, metric)
        if metric.command is None:
            source.table(metric.table)  # what is not there is said before prompts are looked for
        prompts = [] if metric.command else chosen_prompts(check, source.prompts)
        return read(source, check, metric, prompts, position)
    except ElimError as error:
        where = f"{checks.path}:{checks.line(check)}"
        raise ElimError(f"{where}: {error.message}", error.hint, error.exit_code) from error


def _baseline(
    checks: Checks,
    run: Run,
    source: RunTables,
    wanted: Collection[Check],
    readings: dict[str, list[CheckedValue]],
) -> Baseline:
    """Make the baseline that the run would give."""
    compared = [check for check in wanted if check.baseline or checks.metrics[check.id].kind == "tokens"]
    entries = {
        check.id: stored.entry_of(check, checks.file.defaults, readings[check.id]) for check in compared
    }
    used = {one.prompt for found in readings.values() for one in found}
    rows = {name: row for name, row in source.prompts.items() if name in used or None in used}
    facts = identity.identity_of(run.manifest, checks.file.target_space)
    return Baseline(facts, identity.context_of(run.manifest), identity.prompts_of(rows), entries)


def _updated(
    path: Path | None,
    old: Baseline | None,
    now: Baseline,
    only_new: bool,
    only: Collection[str],
    across: Collection[str],
) -> tuple[Baseline, list[str]]:
    """Write the baseline and list what changed."""
    if path is None:
        raise ElimError("the check file names no baseline to update", "add baseline: FILE at its top")
    if old is not None and (only_new or only):
        differs = identity.mismatch(old.identity, now.identity, across)
        if differs:
            raise ElimError(
                f"{path} was made with another model: {differs[0]}",
                "write all of it anew with `update='all'`",
                Exit.BASELINE,
            )
    new = stored.merged(old, now, only_new)
    if only and old is not None and not only_new:
        new = replace(new, prompts={**old.prompts, **now.prompts}, checks={**old.checks, **now.checks})
    lines = difference(old, new)
    stored.write_baseline(path, new)
    return new, lines


def _result(
    checks: Checks, judge: Judge, readings: list[CheckedValue], old: Baseline | None, now: Baseline
) -> Result:
    mostly = checks.file.defaults.mostly if judge.check.mostly is None else judge.check.mostly
    findings = [judge.finding(reading) for reading in readings]
    if old is not None:
        findings = [
            replace(one, causes=causes(old, now, one.prompt)) if one.status == "failed" else one
            for one in findings
        ]
    return Result(judge.check, checks.line(judge.check), mostly, tuple(findings))


def _stale(old: Baseline | None, now: Baseline, path: Path | None, partial: bool) -> list[str]:
    """Warn of entries of the baseline that no check reads any more."""
    if old is None or partial:
        return []
    told = []
    for name, entry in sorted(old.checks.items()):
        if name not in now.checks:
            told.append(
                f"{path}: stale: no check '{name}' compares with a baseline any more; an update drops it"
            )
        elif gone := sorted(set(entry.values) - set(now.checks[name].values)):
            more = f" and {len(gone) - 1:,} more" if len(gone) > 1 else ""
            told.append(
                f"{path}: stale: check '{name}' has no prompt '{gone[0]}'{more} any more; an update drops it"
            )
    return told


def _edits(old: Baseline, now: Baseline, results: Collection[Result]) -> list[str]:
    """Warn of prompts that were edited and still pass."""
    failing = {one.prompt for result in results for one in result.findings if one.status == "failed"}
    found = ((name, edited(old, now, name)) for name in sorted(now.prompts) if name not in failing)
    return [
        f"prompt '{name}' passes but was edited since the baseline: {edit}" for name, edit in found if edit
    ]
