"""Audit a run: differences between groups at each stage, as tables."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from elimtool.analysis.populations.records import Population
from elimtool.errors import ElimError, Exit
from elimtool.run.analysis import Analysis
from elimtool.run.reader import Run
from elimtool.run.tables.findings import FINDINGS

TABLES = ("attention", "lens", "survival", "sampling_targets", "verdicts")
"""Tables of a run that an audit reads."""


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """What is compared with what.

    Attributes:
        reference: Group that all others are set against; ``None`` for the mean of the others.
        match: Largest difference in log-frequency of aligned words, in nats; ``None`` to keep all.
    """

    reference: str | None = None
    match: float | None = None


def audit(run: Run, options: AuditOptions = AuditOptions(), seed: int = 0) -> Analysis:
    """Find differences between groups of records, and where they arise.

    Args:
        run: A run of a suite, or of prompts with ``group`` and ``template`` or ``tuple``.
        options: What is compared with what.
        seed: Seed of intervals and p-values.

    Raises:
        ElimError: The run has no two groups of records that differ in the group alone (exit code 5).
    """
    population = Population.of(run)
    if len(population.groups) < 2:
        raise ElimError(
            f"{run.path or 'the run'} has no two groups to compare",
            "give records `group` and `tuple` (docs/suites.md)",
            Exit.NOTHING,
        )
    tables = {name: table.from_rows([]) for name, table in FINDINGS["audit"].items()}
    return Analysis.of("audit", run.manifest, tables, asdict(options), seed, population.left_out())
