"""``elimtool sweep``: variants of prompts scored on the same items, factors, and how much is chance."""

from __future__ import annotations

from typing import Annotated

import typer

from elimtool.cli import options as shared
from elimtool.cli.blocks import spread
from elimtool.cli.measuring import Concepts
from elimtool.cli.population import PopulationOptions, is_run, refuse_measuring, run_population
from elimtool.errors import ElimError

Given = Annotated[
    list[str],
    typer.Argument(
        help="A suite whose templates have a slot 'item' and others, which is measured; or runs of one, which"
        " are read: with several, the run is a factor.",
        metavar="SUITE|RUN...",
        show_default=False,
    ),
]


@spread
def sweep(
    *,
    context: typer.Context,
    given: Given,
    outcome: Annotated[
        str,
        shared.option(
            "--outcome",
            metavar="NAME",
            help="What is scored: survives, logprob, rank, or margin:STAGE such as margin:min_p.",
        ),
    ] = "survives",
    chain: Annotated[
        str | None,
        shared.option(
            "--chain", metavar="NAME", help="Sampler chain of survives and margin. Without: the first."
        ),
    ] = None,
    concept: Concepts = None,
    asked: PopulationOptions,
    printed: shared.CommonOptions,
) -> None:
    """Sweep wordings: which one keeps the answers, what each slot does, how much of the spread is chance."""
    from elimtool.analysis.populations.sweep.api import TABLES, SweepOptions
    from elimtool.analysis.populations.sweep.api import sweep as analyse

    options = SweepOptions(outcome, chain)
    first, *others = given
    if concept and (others or is_run(first)):
        raise ElimError(
            f"`concept` goes with a suite: {first} is a run, which has those that it was measured with",
            "leave it out, or measure the suite with it",
        )
    if not others:
        tables = (*TABLES, "concepts", "top_tokens") if concept else TABLES
        more = {"concepts": tuple(concept or ())}
        run_population(
            *(context, first, asked, printed, tables),
            lambda run: analyse({first: run}, options, asked.seed),
            more,
        )
        return
    from elimtool.analysis.query.runs import find_runs
    from elimtool.report.populations.sections import print_analysis

    refuse_measuring(context, first)
    output = printed.output
    with output.progress("analysing"):
        runs = {name: asked.read(run) for name, run in find_runs(given).items()}
        found = analyse(runs, options, asked.seed)
    output.result(found, None, printed.as_json, print_analysis)
    output.note("what is found in several runs is not kept: --json prints all of it")
