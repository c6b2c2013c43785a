"""``elimtool audit``: differences between groups of words at each stage, over templates and words."""

from __future__ import annotations

from typing import Annotated

import typer

from elimtool.cli import options as shared
from elimtool.cli.blocks import spread
from elimtool.cli.population import Given, PopulationOptions, run_population


@spread
def audit(
    *,
    context: typer.Context,
    given: Given,
    reference: Annotated[
        str | None,
        shared.option(
            "--reference", metavar="GROUP", help="Group that all others are set against. Without: their mean."
        ),
    ] = None,
    match: Annotated[
        float | None,
        shared.option(
            "--match",
            metavar="NATS",
            help="Keep only pairs of words whose log-frequencies differ by at most this.",
        ),
    ] = None,
    rule: Annotated[
        str,
        shared.option(
            "--rule",
            metavar="NAME",
            help="Score of sentences of CrowS-Pairs, WinoBias or StereoSet to test: what both end with,"
            " after what they differ in (suffix), the words in which they differ (word), or the whole"
            " sentence as the lm-evaluation-harness scores it (lm-eval). All three are kept.",
        ),
    ] = "suffix",
    asked: PopulationOptions,
    printed: shared.CommonOptions,
) -> None:
    """Audit groups: are the words of one treated unlike another's, from which layer on, which stage cuts."""
    from elimtool.analysis.populations.audit.api import TABLES, AuditOptions
    from elimtool.analysis.populations.audit.api import audit as analyse

    options = AuditOptions(reference, match, rule)
    run_population(
        context,
        given,
        asked,
        printed,
        TABLES,
        lambda run: analyse(run, options, asked.seed),
        more={"scores_only": True},
        scoring={"whole": True},
    )
