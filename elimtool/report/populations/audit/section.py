"""Tell what an audit found: the final contrast first, then where it arises."""

from __future__ import annotations

from elimtool.report.populations.section import Section
from elimtool.run.analysis import Analysis


def audit_section(found: Analysis) -> Section:
    """Make the section of an audit."""
    count = found.arrow("audit_effects").num_rows
    return Section(f"Audit: {count:,} differences between groups", [], notes=found.manifest.notes)
