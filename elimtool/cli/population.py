"""Share among commands on populations: measure a suite or open a run, analyse, keep the findings, print.

A command's own file declares its options, hands over a function from a run to an ``Analysis``, and names the
tables that this function reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elimtool.cli import options as shared
from elimtool.cli.asked import ChatOptions
from elimtool.cli.batching import WorkOptions, opened, work_through
from elimtool.cli.blocks import names_of
from elimtool.cli.interventions import InterventionOptions
from elimtool.cli.loading import ModelOptions
from elimtool.cli.measuring import ReadOptions
from elimtool.errors import ElimError, Exit

if TYPE_CHECKING:
    from elimtool.cli.output import Output
    from elimtool.engine.options import TraceOptions
    from elimtool.prompts.file import PromptFile
    from elimtool.prompts.prompt import Prompt
    from elimtool.run import Run
    from elimtool.run.analysis import Analysis

Given = Annotated[
    str,
    typer.Argument(
        help="Run directory, which is read; or a suite (docs/suites.md), also by name, or a prompt file,"
        " which is measured first.",
        metavar="SUITE|RUN",
        show_default=False,
    ),
]
EPILOG = (
    "Findings are kept beside the run, in DIR/analysis: elimtool report DIR draws them, elimtool query and"
    " checks read them. The same command goes on where it was stopped."
)


@dataclass(frozen=True)
class PopulationOptions:
    """Where a suite is measured, how, and what of a run is analysed."""

    measured: ReadOptions
    templated: ChatOptions
    changed: InterventionOptions
    work: WorkOptions
    model: ModelOptions
    out: Annotated[
        Path | None,
        shared.option(
            "-o",
            "--out",
            metavar="DIR",
            help="Directory for the run of a suite, new or to go on with. Without: it is not kept.",
            panel=shared.OUTPUT,
        ),
    ] = None
    overwrite: shared.Overwrite = False
    label: shared.Label = None
    format_: Annotated[
        str | None,
        shared.option(
            "--format", metavar="NAME", help="jsonl, csv, tsv, parquet or text. Without: by the file's name."
        ),
    ] = None
    target: shared.Target = None
    foil: shared.Foil = None
    intervened: Annotated[
        bool,
        shared.switch(
            "--intervened",
            help="Analyse a run under its interventions. Without: the model's own pass, unless a suite is"
            " measured with --ablate or its like.",
        ),
    ] = False
    seed: Annotated[
        int,
        shared.option(
            "--seed", metavar="N", env="SEED", help="Seed of intervals and p-values, and resample."
        ),
    ] = 0

    def wanted(self, tables: tuple[str, ...], errors: str, **more: Any) -> TraceOptions:
        """Make the options of the trace that a suite is measured with.

        Args:
            tables: Tables that are measured.
            errors: What becomes of a prompt that cannot be used: ``row`` or ``raise``.
            more: Further options of the trace.

        Raises:
            ElimError: A value cannot be used.
        """
        changes = self.changed.made(self.seed)
        return self.measured.made(tables=tables, heads=False, interventions=changes, errors=errors, **more)

    def told(self, prompt: Prompt) -> Prompt:
        """Give a prompt of a suite the targets, foils and chat settings that the options name."""
        from elimtool.engine.intake import with_defaults

        chat = self.templated.made(of_file=True)
        return with_defaults(prompt, tuple(self.target or ()), tuple(self.foil or ()), chat)

    def read(self, run: Run) -> Run:
        """Return the pass of a run that is analysed.

        Raises:
            ElimError: ``intervened`` was asked of a run without interventions.
        """
        if self.intervened and run.interventions is None:
            raise ElimError(f"{run.path} has no interventions", "leave `intervened` out")
        changed = self.intervened or self.changed != InterventionOptions()
        return run.under(run.interventions if changed else None)


ANALYSED = ("intervened", "seed")
"""Options that go with a run too; all others say how a suite is measured."""


def run_population(
    context: typer.Context,
    given: str,
    asked: PopulationOptions,
    printed: shared.PrintOptions,
    tables: tuple[str, ...],
    analyse: Callable[[Run], Analysis],
    more: Mapping[str, Any] | None = None,
    scoring: Mapping[str, Any] | None = None,
    refuse: Callable[[PromptFile], None] | None = None,
) -> None:
    """Do what a command on populations does: measure or open, analyse, keep, print.

    Args:
        context: Tells which options were given.
        given: A suite or a run.
        asked: The shared options.
        printed: How to print.
        tables: Tables of a run that are measured for it.
        analyse: Makes the findings of a run; imports no torch.
        more: Further options of the trace that a suite is measured with.
        scoring: How the sentences of a suite are scored: arguments of ``open_prompts``.
        refuse: Raises an error for a suite that cannot be analysed as asked, before it is measured.

    Raises:
        ElimError: As measuring and analysing do.
        typer.Exit: Some prompts failed while they were measured.
    """
    output = printed.output
    with measured_or_opened(context, given, asked, output, tables, more or {}, scoring or {}, refuse) as (
        run,
        errors,
    ):
        with output.progress("analysing"):
            found = analyse(run)
        keep = asked.out if asked.out is not None else Path(given) if is_run(given) else None
        path = found.save(keep) if keep is not None else None
    from elimtool.report.populations.sections import print_analysis

    output.result(found, path, printed.as_json, print_analysis)
    if path is None:
        output.note("the run was not kept; with --out DIR it is, and so is what was found")
    if errors:
        output.note(f"{errors:,} prompts failed and were left out; table prompts says why")
        raise typer.Exit(Exit.PARTIAL)


def is_run(given: str) -> bool:
    """Tell a run directory from a suite; a suite that ships has its name before any folder without a run."""
    from elimtool.run.layout import MANIFEST
    from elimtool.suites.read import shipped_suites

    path = Path(given)
    return (path / MANIFEST).is_file() or (path.is_dir() and given not in shipped_suites())


def refuse_measuring(context: typer.Context, run: str, *kept: str) -> None:
    """Refuse options that say how a suite is measured, where a run is given.

    Args:
        context: Tells which options were given.
        run: The run.
        kept: Options that go with it all the same.

    Raises:
        ElimError: One was given.
    """
    named = shared.given_from(context, "COMMANDLINE") & set(names_of(PopulationOptions))
    if wrong := sorted(named - {*ANALYSED, *kept}):
        where = f"{run} is a run, which was measured already"
        raise ElimError(f"`{wrong[0].rstrip('_')}` goes with a suite: {where}", "leave it out")


@contextmanager
def measured_or_opened(
    context: typer.Context,
    given: str,
    asked: PopulationOptions,
    output: Output,
    tables: tuple[str, ...],
    more: Mapping[str, Any],
    scoring: Mapping[str, Any],
    refuse: Callable[[PromptFile], None] | None = None,
) -> Iterator[tuple[Run, int]]:
    """Yield a run to analyse, measured first if it is a suite, and how many prompts failed in that.

    Raises:
        ElimError: The suite or the run cannot be used, or an option does not go with a run.
    """
    from elimtool.run import open_run
    from elimtool.run.damage import refuse_damaged

    if is_run(given):
        refuse_measuring(context, given)
        run = open_run(given)
        refuse_damaged(Path(given))
        yield asked.read(run), 0
        return
    wanted = asked.wanted(tables, errors="row", **more)
    options = asked.work.made(
        label=asked.label,
        targets=tuple(asked.target or ()),
        foils=tuple(asked.foil or ()),
        chat=asked.templated.made(of_file=True),
    )
    with TemporaryDirectory(prefix="elimtool-") as temporary:
        out = asked.out if asked.out is not None else Path(temporary) / "run"
        with opened(given, asked.format_, output, scoring) as file:
            if refuse is not None:
                refuse(file)
            source = asked.model.source
            standing = work_through(output, file, out, (source, wanted, options), asked.overwrite)
        yield asked.read(open_run(out)), standing.errors
