"""Keep what checks found of a run as a small run of its own, so that years of them can be queried."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from elimtool.analysis.check.findings import Report, Result
from elimtool.files.rows import Row
from elimtool.run import Run
from elimtool.run.tables.checks import CHECKS

if TYPE_CHECKING:
    from elimtool.run.manifest import Manifest


def keep_results(report: Report, manifest: Manifest, folder: Path) -> Path:
    """Write the results of checks as a run with the one table ``checks``.

    Args:
        report: What was found.
        manifest: Of the run that was judged: it says what was measured, when and with which label.
        folder: Folder of such runs, which ``elimtool query`` takes; made if need be.

    Returns:
        The directory written, named by time and fingerprint.

    Raises:
        ElimError: It cannot be written.
    """
    run = Run.from_tables(
        manifest, {CHECKS.name: CHECKS.from_rows([_row(report, one) for one in report.results])}
    )
    time = (manifest.started or "undated").replace(":", "").replace("-", "")
    name = f"{time}-{manifest.fingerprint[:8]}"
    path, number = folder / name, 1
    while path.exists():  # the same run, judged again
        number += 1
        path = folder / f"{name}-{number}"
    run.save(path)
    return path


def _row(report: Report, result: Result) -> Row:
    seen = [one.seen for one in result.findings if isinstance(one.seen, int | float) and isfinite(one.seen)]
    off = [one.off for one in result.findings if one.off is not None and one.status != "passed"]
    bad = [one for one in result.findings if one.status != "passed"]
    return {
        "file": report.path,
        "check_id": result.check.id,
        "metric": result.check.metric,
        "status": result.status,
        "n_prompts": len(result.findings),
        "n_passed": result.n_passed,
        "value": fmean(seen) if seen else None,
        "off": max(off) if off else None,
        "message": bad[0].message or None if bad else None,
    }
