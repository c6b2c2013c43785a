"""``elimtool coverage``: what is right by category, what chains cut of it, and how calibrated both are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elimtool.cli import options as shared
from elimtool.cli.blocks import spread
from elimtool.cli.population import Given, PopulationOptions, is_run, run_population
from elimtool.errors import ElimError

if TYPE_CHECKING:
    from elimtool.prompts.file import PromptFile


@spread
def coverage(
    *,
    context: typer.Context,
    given: Given,
    rule: Annotated[
        str,
        shared.option(
            "--rule",
            metavar="NAME",
            help="Score sentences of minimal pairs whole, after BOS or else EOS (lm-eval, as the"
            " lm-evaluation-harness) or from their second token on (no-prefix); or score what follows the"
            " words that both begin with (continuation), which is quicker and says nothing of layers.",
        ),
    ] = "lm-eval",
    taxonomy: Annotated[
        str | None,
        shared.option(
            "--taxonomy",
            metavar="FILE",
            help="YAML of categories with the items and the accuracy that each needs (docs/coverage.md).",
        ),
    ] = None,
    abstain: Annotated[
        str | None,
        shared.option(
            "--abstain",
            metavar="FILE|shipped",
            help="Ask each prompt also for phrases that say that it is not known, one a line: how"
            " probable they are, and how much more so where groups and tuples say that there is no answer.",
        ),
    ] = None,
    asked: PopulationOptions,
    printed: shared.CommonOptions,
) -> None:
    """Cover a suite: what is right, where that is decided, what chains cut of it, how calibrated both are."""
    from elimtool.analysis.populations.coverage.api import TABLES, CoverageOptions
    from elimtool.analysis.populations.coverage.api import coverage as analyse
    from elimtool.analysis.populations.coverage.taxonomy import read_taxonomy

    for name in sorted({"rule", "abstain"} & shared.given_from(context, "COMMANDLINE")):
        if is_run(given):
            raise ElimError(f"`{name}` goes with a suite: {given} was measured already", "leave it out")
    options = CoverageOptions(taxonomy)

    def refuse(file: PromptFile) -> None:
        if taxonomy is not None:
            found = (one.prompt for one in file.records() if not isinstance(one.prompt, ElimError))
            read_taxonomy(Path(taxonomy)).refuse_unplaced(found, bool(asked.target))

    run_population(
        context,
        given,
        asked,
        printed,
        TABLES,
        lambda run: analyse(run, options, asked.seed),
        scoring={"rule": rule, "abstain": abstain},
        refuse=refuse,
    )
