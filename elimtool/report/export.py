"""Tell in a sentence or two what was exported, and what was left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from elimtool.analysis.export.choose import REASONS

SHOWN = 3
"""Settings that are told one by one."""


def export_sentences(sidecar: Mapping[str, Any]) -> list[str]:
    """Write what a sidecar says: counts first, then what a sampler alone cut."""
    held = sidecar["held_out_templates"]
    units = f" ({len(held):,} template{'' if len(held) == 1 else 's'})" if held else ""
    told = [
        f"{count:,} {REASONS[why]}{units if why == 'held_out' else ''}"
        for why, count in sidecar["left_out"].items()
    ]
    total = sidecar["n_eliminated"]
    said = f"Exported {sidecar['n_exported']:,} of {total:,} eliminated answer{'' if total == 1 else 's'}"
    lines = [f"{said}{': ' if told else ''}{', '.join(told)}."]
    settings = [one for one in sidecar["settings"] if one["needed"]]
    for one in settings[:SHOWN]:
        lines.append(f"{one['chain']} keeps {one['elim_id']} with {one['stage']} at {one['needed']}.")
    if len(settings) > SHOWN:
        lines.append(f"The sidecar has {len(settings) - SHOWN:,} more settings.")
    return lines
