"""The tables of a run by name. Adding one is its definition under ``run/tables`` and one entry here."""

from __future__ import annotations

from elimtool.run.columns import INTERVENTION, Column, Table
from elimtool.run.tables.attention import ATTENTION, ATTENTION_HEADS, ATTENTION_LAYERS
from elimtool.run.tables.attribution import ATTRIBUTION_AGREEMENT, ATTRIBUTION_METHODS, ATTRIBUTIONS
from elimtool.run.tables.components import COMPONENTS
from elimtool.run.tables.controls import CONTROLS
from elimtool.run.tables.copy_suppression import COPY_SUPPRESSION
from elimtool.run.tables.effects import EFFECTS
from elimtool.run.tables.lens import LENS, LENS_LAYERS
from elimtool.run.tables.mechanisms import MECHANISMS
from elimtool.run.tables.prompts import PROMPTS
from elimtool.run.tables.regimes import REGIMES
from elimtool.run.tables.sampling import CHAIN_DIFFERENCES, SAMPLING, SAMPLING_TARGETS
from elimtool.run.tables.survival import SURVIVAL
from elimtool.run.tables.top_tokens import TOP_TOKENS
from elimtool.run.tables.verdicts import VERDICTS
from elimtool.run.tables.walk import WALK, WALK_STAGES

__all__ = ["SCHEMA_VERSION", "TABLES", "Column", "Table"]

SCHEMA_VERSION = 1
"""Grows when a column or a key of run.json is renamed, dropped or changes its meaning."""

ATTRIBUTED = ("attributions", "attribution_methods", "attribution_agreement")
"""Tables of ``elimtool attribute``, which no trace fills."""

ONE_PASS = ("prompts", "effects", "walk", "walk_stages", *ATTRIBUTED)
"""Tables whose rows belong to no pass, or to both; all others say which pass a row is of."""

_TABLES: dict[str, Table] = {
    "prompts": PROMPTS,
    "attention": ATTENTION,
    "attention_heads": ATTENTION_HEADS,
    "attention_layers": ATTENTION_LAYERS,
    "lens": LENS,
    "lens_layers": LENS_LAYERS,
    "top_tokens": TOP_TOKENS,
    "sampling": SAMPLING,
    "sampling_targets": SAMPLING_TARGETS,
    "chain_differences": CHAIN_DIFFERENCES,
    "survival": SURVIVAL,
    "components": COMPONENTS,
    "copy_suppression": COPY_SUPPRESSION,
    "mechanisms": MECHANISMS,
    "controls": CONTROLS,
    "regimes": REGIMES,
    "verdicts": VERDICTS,
    "effects": EFFECTS,
    "walk": WALK,
    "walk_stages": WALK_STAGES,
    "attributions": ATTRIBUTIONS,
    "attribution_methods": ATTRIBUTION_METHODS,
    "attribution_agreement": ATTRIBUTION_AGREEMENT,
}

TABLES: dict[str, Table] = {
    name: table if name in ONE_PASS else table.with_column(INTERVENTION) for name, table in _TABLES.items()
}
