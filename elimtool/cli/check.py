"""``elimtool check``: judges a model, or a run, by a check file and a baseline."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elimtool.cli import options as shared
from elimtool.cli.output import Output
from elimtool.errors import ElimError

if TYPE_CHECKING:
    from elimtool.analysis.check.findings import Report

BASELINE = "Baseline"


def check(
    checks: Annotated[
        Path | None, typer.Argument(help="The check file.", metavar="CHECKS.yaml", show_default=False)
    ] = None,
    run: Annotated[
        Path | None,
        shared.option(
            "--run", metavar="DIR", help="Judge this run instead of running the model; needs no torch."
        ),
    ] = None,
    only: Annotated[
        list[str] | None, shared.option("--only", metavar="ID", help="Judge only this check; repeatable.")
    ] = None,
    baseline: Annotated[
        Path | None,
        shared.option(
            "--baseline", metavar="FILE", help="Baseline, instead of the check file's.", panel=BASELINE
        ),
    ] = None,
    update: Annotated[
        bool,
        shared.switch("--update", help="Write the baseline anew and print what changed.", panel=BASELINE),
    ] = False,
    update_new: Annotated[
        bool, shared.switch("--update-new", help="Only add what the baseline lacks.", panel=BASELINE)
    ] = False,
    strict: Annotated[
        bool,
        shared.switch("--strict", help="Warnings fail too: stale entries, edited prompts.", panel=BASELINE),
    ] = False,
    junit: Annotated[
        Path | None,
        shared.option("--junit", metavar="FILE", help="Write JUnit XML here.", panel=shared.OUTPUT),
    ] = None,
    schema: Annotated[
        bool, shared.switch("--schema", help="Print the JSON Schema of check files.", panel=shared.OUTPUT)
    ] = False,
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
    config: shared.Config = None,
) -> None:
    """Judge what a model eliminates by a check file; exits with 10 if something regressed."""
    del config  # its values are the other parameters' defaults by now
    output = Output(quiet)
    if schema:
        from elimtool.analysis.check.read import json_schema

        output.json(json_schema())
        return
    if checks is None:
        raise ElimError(
            "give a check file: elimtool check CHECKS.yaml", "an example: configs/checks/capitals.yaml"
        )
    if update and update_new:
        raise ElimError("--update and --update-new were both given", "leave one of the two out")
    from elimtool.checking import run_checks

    with output.progress("checking") as say:
        report = run_checks(
            checks,
            run=run,
            only=only or (),
            baseline=baseline,
            update="all" if update else "new" if update_new else "none",
            strict=strict,
            progress=say,
        )
    _show(output, report, as_json, junit)
    raise typer.Exit(report.exit_code)


def _show(output: Output, report: Report, as_json: bool, junit: Path | None) -> None:
    """Everything that is to be said, files first: a reader that goes away must not cost the reports."""
    if junit is not None:
        from elimtool.report.check.junit import write_junit

        write_junit(report, junit)
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        from elimtool.report.check.github import append_summary

        append_summary(report, Path(summary))
    if os.environ.get("GITHUB_ACTIONS") == "true":
        from elimtool.report.check.github import error_lines

        for line in error_lines(report):
            sys.stderr.write(line.encode("ascii", "backslashreplace").decode() + "\n")
        sys.stderr.flush()
    if as_json:
        output.json(report.to_dict())
    elif not (output.quiet and report.passed):
        from elimtool.report.check.terminal import print_table

        print_table(report, output.console)
