"""Sweep a suite with few prompts: the options of a search, and what ``elimtool sweep --budget`` does."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elimtool.cli import options as shared
from elimtool.cli.batching import WorkOptions, opened
from elimtool.cli.blocks import names_of
from elimtool.errors import ElimError

if TYPE_CHECKING:
    from elimtool.analysis.populations.sweep.api import SweepOptions
    from elimtool.cli.population import PopulationOptions
    from elimtool.prompts.prompt import Prompt

SEARCH = "Search: when all variants are too many"


@dataclass(frozen=True)
class SearchOptions:
    """How many outcomes are measured, and which."""

    budget: Annotated[
        int | None,
        shared.option(
            "--budget",
            metavar="N",
            help="Measure at most N outcomes of a suite (a variant on an item), and search the best and the"
            " worst variant with them. With --out, the same command goes on where it was stopped.",
            panel=SEARCH,
        ),
    ] = None
    search: Annotated[
        str,
        shared.option(
            "--search",
            metavar="NAME",
            help="How: halving (half of the variants is dropped in each round) or thompson (FormatSpread's"
            " sampling, for survives alone).",
            panel=SEARCH,
        ),
    ] = "halving"

    def check(self, context: typer.Context, given: str, alone: bool, outcome: str) -> None:
        """Refuse what a search cannot be asked for, before a model is loaded.

        Args:
            context: Tells which options were given.
            given: The suite or run.
            alone: Whether it is one suite.
            outcome: What is scored.

        Raises:
            ElimError: An option does not go with a search, or a search not with what is given.
        """
        from elimtool.analysis.populations.sweep.search import check_search

        named = shared.given_from(context, "COMMANDLINE")
        if self.budget is None:
            if "search" in named:
                raise ElimError("`search` says how a `budget` is spent", "give `budget` too")
            return
        if not alone:
            raise ElimError(f"`budget` goes with a suite: {given} was measured already", "leave it out")
        if wrong := sorted(named & set(names_of(WorkOptions)) - {"batch_size"}):
            raise ElimError(
                f"`{wrong[0]}` does not go with `budget`: a search has no shards",
                "leave it out",
            )
        check_search(self.search, outcome)


def search_suite(
    given: str,
    asked: PopulationOptions,
    printed: shared.PrintOptions,
    tables: tuple[str, ...],
    options: SweepOptions,
    how: SearchOptions,
    more: Mapping[str, Any],
) -> None:
    """Search a suite, keep what was measured and found, and print it.

    Args:
        given: The suite.
        asked: The shared options.
        printed: How to print.
        tables: Tables that are measured.
        options: What is scored.
        how: The search.
        more: Further options of the trace.

    Raises:
        ElimError: As measuring and searching do.
    """
    from elimtool.report.populations.sections import print_analysis
    from elimtool.tasks.searched import KeptPieces
    from elimtool.tasks.sweep import search_sweep

    assert how.budget is not None
    output = printed.output
    keep = None if asked.out is None else KeptPieces(asked.out, asked.overwrite)
    wanted = asked.wanted(tables, errors="raise", batch_size=asked.work.batch_size or 32, **more)
    with opened(given, asked.format_, output) as file:
        prompts = [asked.told(_prompt(one.prompt)) for one in file.records()]
    with output.progress(f"loading {asked.model.source.name}") as say, keep.held() if keep else nullcontext():
        run, found = search_sweep(
            asked.model.source.load(say),
            prompts,
            wanted,
            options,
            kind=how.search,
            budget=how.budget,
            seed=asked.seed,
            say=say,
            keep=keep,
        )
    path = None
    if keep is not None:
        keep.finish(run.labelled(asked.label))
        path = found.save(keep.directory)
        if keep.reused:
            output.note(f"went on where a search was stopped: {keep.reused:,} of its pieces were there")
    output.result(found, path, printed.as_json, print_analysis)
    if path is None:
        output.note("the run was not kept; with --out DIR it is, and so is what was found")


def _prompt(one: Prompt | ElimError) -> Prompt:
    if isinstance(one, ElimError):
        raise one
    return one
