"""``elimtool check``: judges a model, or a run, by a check file and a baseline."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elimtool.cli import options as shared
from elimtool.cli.output import Output
from elimtool.errors import ElimError, nearest

if TYPE_CHECKING:
    from elimtool.analysis.check.findings import Report
    from elimtool.tasks.check.api import Gated

BASELINE = "Baseline"


def check(
    context: typer.Context,
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
    against: Annotated[
        Path | None,
        shared.option("--against", metavar="DIR", help="Also compare with this run, prompt by prompt."),
    ] = None,
    explain: Annotated[
        str | None,
        shared.option(
            "--explain", metavar="ID", help="Tell the whole story of the prompt that this check fails on."
        ),
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
    noise: Annotated[
        bool,
        shared.switch(
            "--noise",
            help="Measure the drift over batch sizes, threads and padding; write it beside the baseline.",
            panel=BASELINE,
        ),
    ] = False,
    model: Annotated[
        str | None,
        shared.option(
            "-m",
            "--model",
            metavar="NAME",
            help="Model, instead of the check file's.",
            panel=shared.MODEL,
            env="MODEL",
        ),
    ] = None,
    revision: shared.Revision = None,
    dtype: Annotated[
        str | None,
        shared.option(
            "--dtype",
            metavar="TYPE",
            help="Number type, instead of the file's.",
            panel=shared.MODEL,
            env="DTYPE",
        ),
    ] = None,
    device: Annotated[
        str | None,
        shared.option(
            "--device",
            metavar="NAME",
            help="Device, instead of the file's.",
            panel=shared.MODEL,
            env="DEVICE",
        ),
    ] = None,
    trust_remote_code: shared.TrustRemoteCode = False,
    batch_size: Annotated[
        int,
        shared.option("--batch-size", metavar="N", help="Prompts in one forward pass.", panel=shared.MODEL),
    ] = 8,
    threads: Annotated[
        int | None,
        shared.option("--threads", metavar="N", help="Threads to compute with.", panel=shared.MODEL),
    ] = None,
    junit: Annotated[
        Path | None,
        shared.option("--junit", metavar="FILE", help="Write JUnit XML here.", panel=shared.OUTPUT),
    ] = None,
    out: Annotated[
        Path | None,
        shared.option(
            "-o",
            "--out",
            metavar="DIR",
            help="Also write the run to this new directory.",
            panel=shared.OUTPUT,
        ),
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
    given = {
        "revision": revision,
        "dtype": dtype,
        "device": device,
        "trust_remote_code": trust_remote_code or None,
    }
    loading = {key: value for key, value in given.items() if value is not None}
    typed = _typed(context, "model", "revision", "dtype", "device", "batch_size", "threads")
    unused = _typed(context, "strict", "junit", "out", "batch_size", "threads")
    elsewhere = {"--explain": explain, "--against": against, **unused}
    _refuse(
        (run, "--run", {**typed, "-o": out, "--noise": noise}),
        (update, "--update", {"--update-new": update_new}),
        (noise, "--noise", {"--update": update, "--update-new": update_new, **elsewhere}),
        (explain, "--explain", {"--json": as_json}),
    )
    if batch_size < 1 or (threads is not None and threads < 1):
        raise ElimError("--batch-size and --threads are at least 1", "give a positive number")
    if out is not None:
        from elimtool.run.writer import check_directory

        check_directory(out, False)
    if noise:
        _noise(output, checks, as_json, model=model, only=only or (), baseline=baseline, **loading)
        return
    from elimtool.tasks.check.api import gate

    with output.progress("checking") as say:
        found = gate(
            checks,
            model=None if run is not None else model,
            run=run,
            only=only or (),
            baseline=baseline,
            update="all" if update else "new" if update_new else "none",
            strict=strict,
            against=against,
            batch_size=batch_size,
            threads=threads,
            progress=say,
            **loading,
        )
    if out is not None:
        found.run.save(out)
    _show(output, found.report, as_json, junit)
    if explain is not None:
        _explain(output, found, explain)
    raise typer.Exit(found.report.exit_code)


def _typed(context: typer.Context, *names: str) -> dict[str, Any]:
    """Options that were given on the command line itself, by their flag; those of the environment are not."""
    sources = {name: context.get_parameter_source(name) for name in names}
    return {
        f"--{name.replace('_', '-')}": True
        for name, source in sources.items()
        if source and source.name == "COMMANDLINE"
    }


def _refuse(*rules: tuple[Any, str, dict[str, Any]]) -> None:
    """Refuse options that contradict one that is given."""
    for given, name, others in rules:
        for other, value in others.items():
            if given and value:
                raise ElimError(f"{name} and {other} were both given", "leave one of the two out")


def _noise(output: Output, checks: Path, as_json: bool, *, only: Collection[str], **options: Any) -> None:
    """Measure the noise floor and print it, a check a line."""
    from elimtool.tasks.check.noise import measure_noise

    with output.progress("measuring drift") as say:
        path, noise = measure_noise(checks, only=only, progress=say, **options)
    if as_json:
        import json

        output.json({"file": str(path), **json.loads(noise.to_json())})
        return
    for name, floor in noise.floors.items():
        where = f" (prompt {floor.prompt or '(all)'}, {floor.variation})" if floor.floor else ""
        unstable = f", {floor.unstable} values changed" if floor.unstable else ""
        output.line(f"{name}: {floor.floor:.3g}{where}{unstable}")
    output.line(str(path))


def _explain(output: Output, found: Gated, name: str) -> None:
    """Tell the story of the first prompt that a check fails on, or of its first prompt."""
    known = {result.check.id: result for result in found.report.results}
    if name not in known:
        raise ElimError(f"--explain: there is no check '{name}'", nearest(name, tuple(known)))
    prompts = [one.prompt for one in (*known[name].bad, *known[name].findings) if one.prompt is not None]
    if not prompts:
        raise ElimError("--explain tells a story of one prompt", "name a check of prompts")
    from elimtool.report.terminal import print_story

    print_story(found.retrace(prompts[:1], None), output.console)


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
