"""``elimtool check``: judge a model or a run by a check file and a baseline."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elimtool.cli import options as shared
from elimtool.cli.asked import ChatOptions
from elimtool.cli.blocks import spread
from elimtool.cli.loading import LoadOptions, Revision
from elimtool.cli.measuring import Plugin, plugged
from elimtool.errors import ElimError

if TYPE_CHECKING:
    from elimtool.analysis.check.findings import Report
    from elimtool.cli.output import Output

BASELINE = "Baseline"
PLACED = ("device_map", "n_devices", "quantize", "adapter", "base")
LOADED = ("model", "revision", "dtype", "device", *PLACED, "batch_size", "threads")
ASKED = ("template_var", "tools", "now", "model_sampling", "plugin")


@spread
def check(
    *,
    context: typer.Context,
    checks: Annotated[
        Path | None, typer.Argument(help="The check file.", metavar="CHECKS.yaml", show_default=False)
    ] = None,
    run: Annotated[
        Path | None,
        shared.option(
            "--run",
            metavar="DIR",
            help="Judge this run, or what a command found in several, instead of running the model; needs no"
            " torch.",
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
            "--explain",
            metavar="ID",
            help="Print the whole story of the first prompt that this check fails on.",
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
    templated: ChatOptions,
    model_sampling: Annotated[
        bool | None,
        shared.switch(
            "--model-sampling/--no-model-sampling",
            help="Lay the model's own settings over engines' chains or not, instead of what the file says.",
        ),
    ] = None,
    plugin: Plugin = None,
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
    revision: Revision = None,
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
    loaded: LoadOptions,
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
    keep: Annotated[
        Path | None,
        shared.option(
            "--keep",
            metavar="DIR",
            help="Add the results, a row for each check, to this folder, for elimtool query over years.",
            panel=shared.OUTPUT,
        ),
    ] = None,
    label: shared.Label = None,
    schema: Annotated[
        bool, shared.switch("--schema", help="Print the JSON Schema of check files.", panel=shared.OUTPUT)
    ] = False,
    printed: shared.CommonOptions,
) -> None:
    """Judge what a model eliminates by a check file; exits with 10 if something regressed."""
    output, as_json = printed.output, printed.as_json
    if schema:
        from elimtool.analysis.check.read import json_schema

        output.json(json_schema())
        return
    if checks is None:
        raise ElimError(
            "give a check file: elimtool check CHECKS.yaml", "an example: configs/checks/capitals.yaml"
        )
    given = {"revision": revision, "dtype": dtype, "device": device}
    loading = {key: value for key, value in given.items() if value is not None} | loaded.loading
    # what the environment or a config file sets is a default, and contradicts nothing
    typed = shared.given_from(context, "COMMANDLINE")
    of_model = {name: name in typed for name in (*LOADED, *ASKED)}
    unused = {name: name in typed for name in ("keep", "strict", "junit", "out", "batch_size", "threads")}
    updates = {"update": update, "update_new": update_new}
    _refuse(
        (run, "run", {**of_model, "out": out, "noise": noise}),
        (update, "update", {"update_new": update_new}),
        (noise, "noise", {**updates, "explain": explain, "against": against, **unused}),
        (explain, "explain", {"as_json": as_json}),
    )
    if batch_size < 1 or (threads is not None and threads < 1):
        raise ElimError("--batch-size and --threads must be at least 1")
    if out is not None:
        from elimtool.run.writer import check_directory

        check_directory(out, False)
    chat = templated.made()
    plugged(plugin if run is None else None)
    if junit is not None:
        from elimtool.report.check.junit import check_junit

        check_junit(junit)
    if noise:
        asked: dict[str, Any] = {
            "only": only or (),
            "baseline": baseline,
            "chat": chat,
            "model_sampling": model_sampling,
        }
        _noise(output, checks, as_json, model=model, **asked, **loading)
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
            chat=chat,
            model_sampling=model_sampling,
            progress=say,
            **loading,
        )
    if out is not None:
        found.run.labelled(label).save(out)
    if keep is not None:
        from elimtool.analysis.check.keep import keep_results

        kept = keep_results(found.report, found.run.labelled(label).manifest, keep)
        output.note(f"kept the results in {kept}")
    _show(output, found.report, as_json, junit)
    output.notes(found.run)
    if explain is not None:
        from elimtool.report.trace.story import print_story

        print_story(found.explained(explain), output.console)
    raise typer.Exit(found.report.exit_code)


def _refuse(*rules: tuple[Any, str, dict[str, Any]]) -> None:
    """Refuse options that contradict each other."""
    for given, name, others in rules:
        for other, value in others.items():
            if given and value:
                raise ElimError(f"`{name}` and `{other}` were both given", "leave one of the two out")


def _noise(output: Output, checks: Path, as_json: bool, *, only: Collection[str], **options: Any) -> None:
    """Measure the noise floor and print it, one check a line."""
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


def _show(output: Output, report: Report, as_json: bool, junit: Path | None) -> None:
    """Write and print the reports: files first, as a closed pipe must not lose them."""
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
