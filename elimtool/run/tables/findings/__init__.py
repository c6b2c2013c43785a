"""List the tables of analyses by command; a new one needs a definition in this folder and an entry here."""

from __future__ import annotations

from elimtool.run.columns import Table
from elimtool.run.tables.findings.audit import (
    AUDIT_CHECKS,
    AUDIT_EFFECTS,
    AUDIT_LAYERS,
    AUDIT_TUPLES,
)
from elimtool.run.tables.findings.coverage import ANSWERS, COVERAGE, COVERAGE_ITEMS
from elimtool.run.tables.findings.map import PART_TABLES
from elimtool.run.tables.findings.sentences import AUDIT_PAIRS
from elimtool.run.tables.findings.sweep import STABILITY, SWEEP_EFFECTS, SWEEP_SPREAD, SWEEP_VARIANTS
from elimtool.run.tables.findings.uncertainty import ABSTENTION, CALIBRATION, CALIBRATION_BINS, CONFORMAL

FINDINGS: dict[str, dict[str, Table]] = {
    command: {table.name: table for table in tables}
    for command, tables in {
        "audit": (AUDIT_EFFECTS, AUDIT_LAYERS, AUDIT_TUPLES, AUDIT_PAIRS, AUDIT_CHECKS),
        "sweep": (SWEEP_VARIANTS, SWEEP_EFFECTS, SWEEP_SPREAD, STABILITY),
        "coverage": (COVERAGE, COVERAGE_ITEMS, ANSWERS, CONFORMAL, CALIBRATION, CALIBRATION_BINS, ABSTENTION),
        "map": tuple(table for tables in PART_TABLES.values() for table in tables),
    }.items()
}
"""Command -> the tables that it writes, by name."""

FINDING_TABLES: dict[str, Table] = {
    name: table for tables in FINDINGS.values() for name, table in tables.items()
}
COMMAND_OF: dict[str, str] = {name: command for command, tables in FINDINGS.items() for name in tables}
"""Table -> the command that writes it."""
