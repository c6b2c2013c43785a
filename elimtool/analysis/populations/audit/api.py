"""Audit a run: differences between groups at each stage, as tables."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from elimtool.analysis.populations.audit.checks import checked
from elimtool.analysis.populations.audit.doubts import at_chance, bounds, shared_tokens
from elimtool.analysis.populations.audit.effects import adjusted, categories, effects, grids
from elimtool.analysis.populations.audit.layers import skewed
from elimtool.analysis.populations.audit.outcomes import CONFIRMATORY, OTHER, RAW_LENS, Outcome, Outcomes
from elimtool.analysis.populations.audit.sentences import PAIR_RULES, SUFFIX, Sentences
from elimtool.analysis.populations.audit.tuples import of_targets, tuple_rows
from elimtool.analysis.populations.columns import RecordTables
from elimtool.analysis.populations.pairs import Pairs
from elimtool.analysis.populations.records import Population
from elimtool.errors import ElimError, Exit, checked_fields, nearest
from elimtool.files.rows import Rows
from elimtool.run.analysis import Analysis
from elimtool.run.reader import Run, as_run
from elimtool.run.tables.findings import FINDINGS

TABLES = ("attention", "lens", "survival", "sampling_targets", "verdicts", "span_surprisal")
"""Tables of a run that an audit reads."""


@checked_fields
@dataclass(frozen=True, slots=True)
class AuditOptions:
    """What is compared with what.

    Attributes:
        reference: Group that all others are set against; ``None`` for the mean of the others.
        match: Largest difference in log-frequency of aligned words, in nats; ``None`` to keep all.
        rule: Score of sentences of published pairs that is tested, one of ``PAIR_RULES``.
    """

    reference: str | None = None
    match: float | None = None
    rule: str = SUFFIX

    def __post_init__(self) -> None:
        if self.rule not in PAIR_RULES:
            said = f"`rule` must be one of {', '.join(PAIR_RULES)}, got '{self.rule}'"
            raise ElimError(said, nearest(self.rule, PAIR_RULES))
        if self.match is not None and not self.match >= 0:
            raise ElimError(f"`match` must be a number of nats from 0, got {self.match}")


def audit(run: Run | str | Path, options: AuditOptions = AuditOptions(), seed: int = 0) -> Analysis:
    """Find differences between groups of records, and where they arise.

    Source of the statistics: docs/statistics.md. What was found is kept by ``Analysis.save``.

    Args:
        run: A run of a suite, or of prompts with ``group`` and ``tuple``; or its directory.
        options: What is compared with what.
        seed: Seed of intervals and p-values.

    Returns:
        The tables of ``FINDINGS["audit"]``.

    Raises:
        ElimError: The run has no two groups of records that differ in the group alone (exit code 5).
    """
    run = as_run(run)
    whole = Population.of(run)
    continued, scored = whole.parted()
    usable = checked(run, continued, options.match)
    population = usable.population
    pairs = _paired(population, options, str(run.path or "the run"))
    tables = RecordTables(run, population)
    strings = of_targets(population)
    outcomes = Outcomes(tables, strings)
    rows: dict[str, Rows] = {"audit_effects": [], "audit_layers": [], "audit_tuples": []}
    clusters: list[tuple[Rows, float]] = []
    for outcome in outcomes.all():
        rows["audit_tuples"] += tuple_rows(outcome, population, usable.flags)
        for pair in pairs:
            made = grids(outcome, pair)
            rows["audit_effects"] += effects(outcome, made, pair, None, seed)
            if _claims(outcome) and (found := skewed(outcome, made, pair, seed)):
                clusters.append(found)
            rows["audit_effects"] += _by_category(outcome, pair, seed)
    sentences = _sentences(run, scored, options)
    for outcome in sentences.outcomes(options.rule) if sentences is not None else ():
        rows["audit_tuples"] += tuple_rows(outcome, scored, {})
        for pair in _paired(scored, options, str(run.path or "the run")):
            rows["audit_effects"] += effects(outcome, grids(outcome, pair), pair, None, seed)
            rows["audit_effects"] += _by_category(outcome, pair, seed)
    rows["audit_pairs"] = [] if sentences is None else sentences.rows()
    for one, value in zip(clusters, adjusted(rows["audit_effects"], [p for _, p in clusters]), strict=True):
        for row in one[0]:
            row["p_adjusted"] = value if row["unit"] == "both" else None
        rows["audit_layers"] += one[0]
    for row in rows["audit_effects"]:
        row["n_duplicates"] = population.n_duplicates + population.n_merged
        row["flags"] = sorted({*row["flags"], *usable.of_all})
    doubts = [*shared_tokens(tables, strings), *at_chance(tables), *bounds(rows["audit_effects"])]
    if sentences is not None:
        doubts += sentences.at_chance(options.rule)
    rows["audit_checks"] = [*usable.rows, *doubts]
    found_tables = {name: table.from_rows(rows[name]) for name, table in FINDINGS["audit"].items()}
    notes = [*whole.left_out(), *usable.notes]
    return Analysis.of("audit", run.manifest, found_tables, asdict(options), seed, notes)


def _claims(outcome: Outcome) -> bool:
    """Return whether runs of layers may be called different by an outcome."""
    return bool(outcome.layers) and outcome.family != OTHER and RAW_LENS not in outcome.flags


def _sentences(run: Run, scored: Population, options: AuditOptions) -> Sentences | None:
    """Score whole sentences; ``None`` where the run has none.

    Raises:
        ElimError: It has none, and a rule was chosen for them.
    """
    if scored.records and "survival" in run.tables:
        return Sentences.of(run, scored)
    if options.rule != SUFFIX:
        raise ElimError(
            f"`rule`: {run.path or 'the run'} scores no whole sentences of pairs",
            "audit the file of CrowS-Pairs, WinoBias or StereoSet itself, or leave `rule` out",
        )
    return None


def _by_category(outcome: Outcome, pair: Pairs, seed: int) -> Rows:
    """Make the rows of single categories, of the outcomes at the end alone."""
    last = outcome
    if outcome.layers:
        if outcome.metric not in ("lens.logit", "lens.logprob"):
            return []
        last = replace(outcome, values=outcome.values[:, -1:], layers=outcome.layers[-1:])
    elif outcome.family != CONFIRMATORY:
        return []
    found: Rows = []
    for category in categories(pair):
        part = pair.within(category)
        found += effects(last, grids(last, part), part, category, seed)
    return found


def _paired(population: Population, options: AuditOptions, where: str) -> list[Pairs]:
    """Pair each group with what it is set against."""
    groups = population.groups
    if len(groups) < 2:
        raise ElimError(
            f"{where} has no two groups to compare",
            "give records `group` and `tuple` (docs/suites.md)",
            Exit.NOTHING,
        )
    if options.reference is not None and options.reference not in groups:
        raise ElimError(
            f"`reference`: there is no group '{options.reference}'", nearest(options.reference, groups)
        )
    against: dict[str, tuple[str, ...]]
    if options.reference is not None:
        against = {one: (options.reference,) for one in groups if one != options.reference}
    elif len(groups) == 2:
        against = {groups[0]: groups[1:]}
    else:
        against = {one: tuple(other for other in groups if other != one) for one in groups}
    found = [Pairs.of(population, one, others) for one, others in against.items()]
    kept = [one for one in found if one.records]
    if not kept:
        raise ElimError(
            f"{where} has no records that differ in the group alone",
            "give those of one tuple the same `tuple` (docs/suites.md)",
            Exit.NOTHING,
        )
    return kept
