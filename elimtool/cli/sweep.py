"""``elimtool sweep``: variants of prompts scored on the same items, factors, and how much is chance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elimtool.cli import options as shared
from elimtool.cli.blocks import spread
from elimtool.cli.population import PopulationOptions, is_run, refuse_measuring, run_population
from elimtool.cli.requests import Concepts, Seeds, check_seeds
from elimtool.cli.searching import SearchOptions, search_suite
from elimtool.errors import ElimError
from elimtool.prompts.prompt import WRITTEN

if TYPE_CHECKING:
    from elimtool.analysis.populations.sweep.api import SweepOptions

Given = Annotated[
    list[str],
    typer.Argument(
        help="A suite whose templates have a slot 'item' and others, which is measured; or runs of one, which"
        " are read: with several, or a folder of them, the run is a factor, and --out keeps what is found.",
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
    seeds: Seeds = None,
    generate: Annotated[
        int, shared.option("--generate", metavar="N", help="Tokens of each text of --seeds.")
    ] = 0,
    searched: SearchOptions,
    asked: PopulationOptions,
    printed: shared.CommonOptions,
) -> None:
    """Sweep wordings: which one keeps the answers, what each slot does, how much of the spread is chance."""
    from elimtool.analysis.populations.sweep.api import TABLES, SweepOptions
    from elimtool.analysis.populations.sweep.api import sweep as analyse

    options = SweepOptions(outcome, chain)
    first, *others = given
    searched.check(context, first, not others and not is_run(first), outcome)
    if concept and (others or is_run(first)):
        raise ElimError(
            f"`concept` goes with a suite: {first} is a run, which has those that it was measured with",
            "leave it out, or measure the suite with it",
        )
    _check_seeds(seeds, generate, concept, searched, first)
    if not others and not holds_runs(first):
        tables = (*TABLES, "concepts", "top_tokens") if concept else TABLES
        more: dict[str, Any] = {"concepts": tuple(concept or ())}
        if seeds is not None:
            more |= {"generate": generate, "position": WRITTEN, "seed": asked.seed}
        if searched.budget is not None:
            search_suite(first, asked, printed, tables, options, searched, more)
            return
        run_population(
            *(context, first, asked, printed, tables),
            lambda run: analyse({first: run}, options, asked.seed),
            more,
            {"seeds": seeds},
        )
        return
    sweep_runs(context, given, asked, printed, options)


def _check_seeds(
    seeds: int | None, generate: int, concept: Sequence[str] | None, searched: SearchOptions, first: str
) -> None:
    """Refuse seeds without what they are for, and with what they do not go with."""
    if seeds is None:
        if generate:
            raise ElimError("`generate` says how long the texts of `seeds` are", "give `seeds` too")
        return
    if is_run(first) or holds_runs(first):
        raise ElimError(f"`seeds` goes with a suite: {first} was measured already", "leave it out")
    if searched.budget is not None:
        raise ElimError("`seeds` does not go with `budget`", "leave one of the two out")
    check_seeds(seeds, generate, concept)


def sweep_runs(
    context: typer.Context,
    given: Sequence[str],
    asked: PopulationOptions,
    printed: shared.PrintOptions,
    options: SweepOptions,
) -> None:
    """Sweep several runs, print what was found, and keep it in a folder of its own.

    Args:
        context: Tells which options were given.
        given: Run directories, folders of runs, or patterns.
        asked: The shared options.
        printed: How to print.
        options: What is scored.

    Raises:
        ElimError: A run cannot be used, or ``out`` is one.
    """
    from elimtool.analysis.populations.sweep.api import sweep as analyse
    from elimtool.analysis.query.runs import find_runs
    from elimtool.report.populations.sections import print_analysis
    from elimtool.run.layout import MANIFEST

    refuse_measuring(context, given[0], "out")
    if asked.out is not None and (asked.out / MANIFEST).is_file():
        raise ElimError(
            f"`out` {asked.out} is a run: what is found in several is of none", "name another folder"
        )
    output = printed.output
    with output.progress("analysing"):
        runs = {name: asked.read(run) for name, run in find_runs(given).items()}
        if asked.out is not None and len(runs) == 1:
            raise ElimError(
                f"{next(iter(runs))} is one run, and what is found in it is kept beside it",
                "leave `out` out, or name several runs",
            )
        found = analyse(runs, options, asked.seed)
        path = found.save(asked.out) if asked.out is not None else None
    output.result(found, path, printed.as_json, print_analysis)
    if path is None:
        output.note("what was found in several runs was not kept; with --out DIR it is")


def holds_runs(given: str) -> bool:
    """Return whether a directory is no run, but has runs in it."""
    from elimtool.run.layout import MANIFEST

    path = Path(given)
    return not (path / MANIFEST).is_file() and any(path.glob(f"*/{MANIFEST}"))
