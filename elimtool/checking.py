"""``elimtool check`` and ``elimtool.run_checks``: a check file in, the model run once, a report out."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from elimtool.analysis.check.gate import Update, judge_run, with_stories
from elimtool.analysis.check.read import read_checks
from elimtool.errors import ElimError

if TYPE_CHECKING:
    from elimtool.analysis.check.findings import Report
    from elimtool.run import Run


def run_checks(
    checks: str | Path,
    *,
    run: Run | str | Path | None = None,
    only: Collection[str] = (),
    baseline: str | Path | None = None,
    update: Update = "none",
    strict: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Judge a run by a check file.

    Args:
        checks: The check file.
        run: A run or its directory.
        only: Ids of the checks to judge; empty for all.
        baseline: File of the baseline, instead of the check file's.
        update: ``all`` writes the baseline anew, ``new`` adds what it lacks.
        strict: Warnings fail too.
        progress: Called with a line of text when something slow begins.

    Returns:
        A report: ``report.passed``, ``report.summary``, ``report.exit_code``.

    Raises:
        ElimError: The check file or the run cannot be used, or nothing is selected.
    """
    from elimtool.run import open_run

    started = time.monotonic()
    del progress
    if isinstance(only, str):
        only = (only,)
    read = read_checks(checks)
    if run is None:
        raise ElimError("give a run to judge", "--run DIR")
    judged = run if not isinstance(run, (str, Path)) else open_run(run)
    report = judge_run(
        read, judged, only=only, update=update, strict=strict, baseline=Path(baseline) if baseline else None
    ).report
    return replace(with_stories(report, judged), seconds=time.monotonic() - started)
