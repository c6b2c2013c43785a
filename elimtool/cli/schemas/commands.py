"""List the shapes of every command's JSON, and put its schema together.

Consumers must accept keys that they do not know: within a version keys are added, never renamed, dropped or
changed in meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from elimtool.cli.schemas import checks, others, runs
from elimtool.cli.schemas.making import Schema, list_of

JSON_VERSION = 1
"""Goes up when a key of some command's JSON is renamed, dropped or changes its meaning."""
DIALECT = "https://json-schema.org/draft/2020-12/schema"

SHAPES: dict[str, dict[str, Callable[[], Schema]]] = {
    "trace": {"": runs.run},
    "attribute": {"": runs.run},
    "locate": {"": runs.run},
    "compare": {"": runs.comparison},
    "batch": {"": runs.batch, "with `--revisions`": lambda: list_of(runs.batch(), "Each revision's run.")},
    "audit": {"": lambda: runs.analysis("audit")},
    "coverage": {"": lambda: runs.analysis("coverage")},
    "sweep": {"": lambda: runs.analysis("sweep")},
    "map": {"": lambda: runs.analysis("map")},
    "check": {"": checks.check, "with `--noise`": checks.noise},
    "export": {"": others.exported},
    "query": {
        "of a statement": runs.queried,
        "with `--metric`": runs.followed,
        "with `--example`": runs.examples,
    },
    "run status": {"of a run": runs.status, "of a comparison": runs.status_of_comparison},
    "run show": {"without a table": runs.counts, "with a table": runs.rows},
    "lens eval": {"": others.evaluated},
    "lens near": {"of a word": others.near, "of a layer": others.near_reading},
    "lens analogy": {"": others.analogy},
    "lens axis": {"": others.axis},
    "models list": {"": others.models},
    "models verify": {"": others.verified},
    "samplers list": {"": others.samplers},
    "samplers show": {"of a stage": others.stage, "of a chain": others.chain},
    "samplers explain": {"": others.explained},
    "doctor": {"": others.doctor},
}
"""By command: what it prints, by the occasion. A command with ``--json`` has its line here."""


def schema_of(command: str) -> Schema:
    """Return the schema of one command's JSON.

    Args:
        command: Such as ``trace`` or ``run status``.

    Raises:
        KeyError: The command prints no JSON, or nobody has described it.
    """
    parts: Schema = {}
    shapes = [_without_parts(shape(), parts) for shape in SHAPES[command].values()]
    merged: Schema = shapes[0] if len(shapes) == 1 else {"anyOf": shapes}
    name = f"elimtool-json-{JSON_VERSION}/{command.replace(' ', '-')}"
    return {"$schema": DIALECT, "$id": name, **merged, **({"$defs": parts} if parts else {})}


def _without_parts(schema: Any, parts: Schema) -> Any:
    """Move the definitions that a schema refers to from wherever they stand to ``parts``."""
    if isinstance(schema, dict):
        if "$defs" in schema:
            parts.update(_without_parts(schema["$defs"], parts))
        return {key: _without_parts(one, parts) for key, one in schema.items() if key != "$defs"}
    return [_without_parts(one, parts) for one in schema] if isinstance(schema, list) else schema
