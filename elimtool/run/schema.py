"""List the tables of a run by name; a new one needs a definition under ``run/tables`` and an entry here."""

from __future__ import annotations

from typing import Any

from elimtool.run.columns import INTERVENTION, Column, Table
from elimtool.run.tables.ablations import ABLATIONS
from elimtool.run.tables.along import ANSWERS_ALONG
from elimtool.run.tables.associations import ASSOCIATIONS
from elimtool.run.tables.attention import (
    ATTENTION,
    ATTENTION_HEADS,
    ATTENTION_LAYERS,
    ATTENTION_WEIGHTS,
)
from elimtool.run.tables.attribution import ATTRIBUTION_AGREEMENT, ATTRIBUTION_METHODS, ATTRIBUTIONS
from elimtool.run.tables.beams import BEAM_STEPS, BEAM_TARGETS, BEAMS
from elimtool.run.tables.checks import CHECKS
from elimtool.run.tables.components import COMPONENTS
from elimtool.run.tables.concepts import CONCEPTS
from elimtool.run.tables.contrasts import CONTRAST_COMPONENTS, CONTRAST_LAYERS, CONTRAST_STAGES, CONTRASTS
from elimtool.run.tables.contributions import CONTRIBUTIONS, HEAD_CONTEXT, RECOVERY, ROLLOUT
from elimtool.run.tables.controls import CONTROLS
from elimtool.run.tables.copy_suppression import COPY_SUPPRESSION
from elimtool.run.tables.effects import EFFECTS
from elimtool.run.tables.encoding_walk import ENCODING_STEPS, ENCODING_WALK
from elimtool.run.tables.experts import EXPERT_COMPONENTS, EXPERTS
from elimtool.run.tables.falloff import FALLOFF
from elimtool.run.tables.grammar import (
    GRAMMAR,
    GRAMMAR_TARGETS,
    GRAMMAR_TEXTS,
    GRAMMAR_WHOLE,
    WALK_GRAMMAR,
)
from elimtool.run.tables.grammar_passes import GRAMMAR_PASS_TARGETS, GRAMMAR_PASSES
from elimtool.run.tables.lens import LENS, LENS_LAYERS
from elimtool.run.tables.locations import LOCATION_PAIRS, LOCATIONS
from elimtool.run.tables.map_sums import MAP_SUMS
from elimtool.run.tables.mechanisms import MECHANISMS
from elimtool.run.tables.patchscope import PATCHSCOPE
from elimtool.run.tables.paths import PATH_STEPS, PATHS
from elimtool.run.tables.prompts import PROMPTS
from elimtool.run.tables.regimes import REGIMES, SPAN_SURPRISAL
from elimtool.run.tables.resonance import RESONANCE
from elimtool.run.tables.risk import RISK
from elimtool.run.tables.sampling import CHAIN_DIFFERENCES, SAMPLING, SAMPLING_TARGETS
from elimtool.run.tables.sequences import SEQUENCE_STAGES, SEQUENCE_STEPS, SEQUENCES
from elimtool.run.tables.sources import CONTRAST_SOURCES, SOURCE_SPANS, SOURCES
from elimtool.run.tables.stops import STOP_STAGES, STOP_TOKENS, STOPS
from elimtool.run.tables.survival import SURVIVAL
from elimtool.run.tables.survivors import SURVIVOR_PAIRS, SURVIVOR_SETS, SURVIVORS
from elimtool.run.tables.top_tokens import TOP_TOKENS
from elimtool.run.tables.verdicts import VERDICTS
from elimtool.run.tables.walk import WALK, WALK_REWINDS, WALK_STAGES
from elimtool.run.tables.written import WRITTEN, WRITTEN_TEXTS

__all__ = ["SCHEMA_VERSION", "TABLES", "Column", "Table", "definition"]

SCHEMA_VERSION = 2
"""Goes up when a column or a key of run.json is renamed, dropped or changes its meaning."""

CHANGED = {
    (table, column): 2
    for table, columns in {
        "verdicts": ("outcome", "regime", "evidence"),
        "effects": ("outcome_before", "outcome_after"),
        "regimes": ("regime", "n_recent", "recent_surprisal", "p_high", "p_low"),
    }.items()
    for column in columns
}
"""(table, column) -> the version in which the column got the meaning that it has now."""

UNTRACED = {
    "attributions": "attribute",
    "attribution_methods": "attribute",
    "attribution_agreement": "attribute",
    "location_pairs": "locate",
    "locations": "locate",
    "written": "check",
    "written_texts": "check",
    "checks": "check",
    "map_sums": "map",
}
"""Tables that a trace does not fill, and the command that does."""

TABLES: dict[str, Table] = {
    table.name: table if table.of_prompt or table.name in UNTRACED else table.with_column(INTERVENTION)
    for table in (
        PROMPTS,
        ATTENTION,
        ATTENTION_HEADS,
        ATTENTION_LAYERS,
        ATTENTION_WEIGHTS,
        HEAD_CONTEXT,
        CONTRIBUTIONS,
        RECOVERY,
        ROLLOUT,
        LENS,
        LENS_LAYERS,
        TOP_TOKENS,
        FALLOFF,
        CONCEPTS,
        ASSOCIATIONS,
        SAMPLING,
        SAMPLING_TARGETS,
        CHAIN_DIFFERENCES,
        SURVIVAL,
        GRAMMAR,
        GRAMMAR_TARGETS,
        GRAMMAR_PASSES,
        GRAMMAR_PASS_TARGETS,
        COMPONENTS,
        SOURCE_SPANS,
        SOURCES,
        EXPERTS,
        EXPERT_COMPONENTS,
        COPY_SUPPRESSION,
        MECHANISMS,
        ENCODING_WALK,
        ENCODING_STEPS,
        CONTROLS,
        REGIMES,
        SPAN_SURPRISAL,
        VERDICTS,
        CONTRASTS,
        CONTRAST_LAYERS,
        CONTRAST_COMPONENTS,
        CONTRAST_SOURCES,
        CONTRAST_STAGES,
        EFFECTS,
        ABLATIONS,
        WALK,
        WALK_STAGES,
        WALK_REWINDS,
        WALK_GRAMMAR,
        GRAMMAR_WHOLE,
        GRAMMAR_TEXTS,
        BEAMS,
        BEAM_STEPS,
        BEAM_TARGETS,
        RISK,
        SEQUENCES,
        SEQUENCE_STEPS,
        SEQUENCE_STAGES,
        RESONANCE,
        ANSWERS_ALONG,
        PATCHSCOPE,
        SURVIVORS,
        SURVIVOR_PAIRS,
        SURVIVOR_SETS,
        PATHS,
        PATH_STEPS,
        STOPS,
        STOP_TOKENS,
        STOP_STAGES,
        ATTRIBUTIONS,
        ATTRIBUTION_METHODS,
        ATTRIBUTION_AGREEMENT,
        LOCATION_PAIRS,
        LOCATIONS,
        WRITTEN,
        WRITTEN_TEXTS,
        CHECKS,
        MAP_SUMS,
    )
}

ONE_PASS = frozenset(name for name, table in TABLES.items() if table.of_prompt or name in UNTRACED)
"""Tables whose rows belong to no pass, or to both; all others have the column ``intervention``."""


def definition(name: str, table: Any) -> Table:
    """Return the definition of a table: elimtool's own, or the one that a plugin's table carries.

    Args:
        name: Its name.
        table: The ``pyarrow.Table``, or its schema.

    Raises:
        ValueError: It is neither.
    """
    if name in TABLES:
        return TABLES[name]
    found = Table.of_schema(name, getattr(table, "schema", table))
    if not found.plugin:
        raise ValueError(f"no such table: '{name}'")
    return found
