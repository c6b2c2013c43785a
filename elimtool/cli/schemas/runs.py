"""What commands print of runs, comparisons and batches."""

from __future__ import annotations

from collections.abc import Mapping

from elimtool.cli.schemas.making import (
    Schema,
    list_of,
    made_from,
    object_of,
    or_null,
    row_schema,
    value,
    with_keys,
)
from elimtool.run.columns import Table

FINGERPRINT = value("string", "SHA-256 over what the run depends on.")


def _manifest(of_a_side: bool = False) -> Schema:
    from elimtool.run.manifest import NOT_FINGERPRINTED, WHERE_KNOWN, Manifest

    schema = with_keys(made_from(Manifest), fingerprint=FINGERPRINT)
    dropped = {*WHERE_KNOWN, *(NOT_FINGERPRINTED[1:] if of_a_side else ())}
    return {**schema, "required": [name for name in schema["required"] if name not in dropped]}


def _tables(tables: Mapping[str, Table]) -> Schema:
    listed = {name: list_of(row_schema(table), table.purpose) for name, table in tables.items()}
    more = {"type": "array", "items": {"type": "object"}, "description": "A plugin's table."}
    return {
        **object_of(listed, "Rows by table; those that the options ask for.", optional=listed),
        "additionalProperties": more,
    }


def run() -> Schema:
    """Describe a run."""
    from elimtool.run.schema import TABLES

    return object_of({"run": _manifest(), "tables": _tables(TABLES)}, "A run: what made it, and its tables.")


def comparison() -> Schema:
    """Describe a comparison."""
    from elimtool.run.comparison import ComparisonManifest
    from elimtool.run.tables.comparison import COMPARISON_TABLES

    manifest = dict(with_keys(made_from(ComparisonManifest), fingerprint=FINGERPRINT))
    sides = {side: _manifest(of_a_side=True) for side in "ab"}
    manifest["properties"] = {**manifest["properties"], **sides}
    return object_of(
        {"comparison": manifest, "tables": _tables(COMPARISON_TABLES)},
        "A comparison: B minus A, and its tables.",
    )


def analysis(command: str) -> Schema:
    """Describe what a command on populations found."""
    from elimtool.run.analysis import AnalysisManifest
    from elimtool.run.tables.findings import FINDINGS

    manifest = dict(with_keys(made_from(AnalysisManifest), fingerprint=FINGERPRINT))
    manifest["required"] = [name for name in manifest["required"] if name != "together"]
    tables = {name: list_of(row_schema(table), table.purpose) for name, table in FINDINGS[command].items()}
    found = {"analysis": manifest, "tables": object_of(tables, "Rows by table.")}
    return object_of(found, "What was found in a run, and its tables.")


def batch() -> Schema:
    """Describe what a batch says at its end."""
    first_error = {
        "prompt_id": value("string", "The prompt."),
        "error_message": or_null("string", "Why it failed."),
    }
    found = {
        "outcomes": value("object", "Verdicts by outcome, the most frequent first."),
        "first_errors": list_of(
            object_of(first_error, "A prompt that failed."), "The first prompts that failed."
        ),
        "left_out": object_of(
            {
                "prompts": value("integer", "Prompts that lack tables which others have."),
                "first": list_of(
                    {"type": "object"}, "The first of them: `prompt_id`, and `reasons`, a list of texts."
                ),
            },
            "Tables that single prompts cannot have; only where there are such prompts.",
        ),
        "worst": list_of(
            {"type": "object"}, "Rows of `verdicts` of the prompts that came out worst, and their text."
        ),
        "experts": list_of({"type": "object"}, "Experts by layer; only for mixtures of experts."),
        "risk": value("object", "Risk scores of the answers; only with `--risk`."),
        "recovery": list_of(
            {"type": "object"},
            "Whether late layers come back to tokens that early layers starved: a summary of table `recovery`"
            " by kind of share, with intervals over prompts; only where it has rows.",
        ),
        "next": value("string", "The command that shows more."),
    }
    keys = {
        "run": value("string", "Directory of the run."),
        "prompts": value("integer", "Prompts done, those that failed among them."),
        "errors": value("integer", "Prompts that failed."),
        "tokens": value("integer", "Tokens of all prompts."),
        "padding": value("number", "Share of token slots that were padding."),
        "rows": value("object", "Rows written, by table."),
        "bytes": value("object", "Bytes written, by table."),
        **found,
    }
    return object_of(keys, "What a batch wrote and found.", optional=found)


def status() -> Schema:
    """Describe how far a run is."""
    keys = {
        "run": value("string", "Directory of the run."),
        "state": {
            "enum": ["running", "interrupted", "finished", "damaged"],
            "description": "`damaged`: finished, and lacks what it had.",
        },
        "damaged": list_of({"type": "string"}, "What is wrong, a line for each shard."),
        "replaces": or_null("string", "Directory of the run that it replaces until it is finished."),
        "model": or_null("string", "The model; null until it is loaded."),
        "input": or_null("string", "The prompt file, as it was named."),
        "slice": {"description": "Which slice of the file it is; null for all of it."},
        "started": or_null("string", "When it began (UTC)."),
        "finished": or_null("string", "When it was complete (UTC)."),
        "prompts": value("integer", "Prompts done."),
        "total": or_null("integer", "Prompts of the file; null until they are counted."),
        "errors": value("integer", "Prompts that failed."),
        "tokens": value("integer", "Tokens of all prompts."),
        "shards": value("integer", "Shards done."),
        "seconds": value("number", "Work in shards."),
        "bytes": value("integer", "Size of the tables."),
    }
    of_batches = ("damaged", "replaces", "input", "slice", "tokens", "shards", "seconds", "bytes")
    return object_of(keys, "How far a run is. A run of `trace` has fewer keys.", optional=of_batches)


def status_of_comparison() -> Schema:
    """Describe the state of a comparison."""
    keys = {
        "comparison": value("string", "Directory of the comparison."),
        "state": value("string", "Always `finished`."),
        "kind": value("string", "What was compared: prompts, models, runs or chains."),
        "a": value("string", "Model of side A."),
        "b": value("string", "Model of side B."),
        "started": or_null("string", "When it began (UTC)."),
        "finished": or_null("string", "When it was complete (UTC)."),
        "pairs": value("integer", "Pairs of prompts."),
        "errors": value("integer", "Pairs that could not be compared."),
    }
    return object_of(keys, "A comparison.")


def counts() -> Schema:
    """Describe the tables of a run."""
    return {
        "type": "object",
        "description": "Rows by table.",
        "additionalProperties": {"type": "integer"},
        "propertyNames": {"pattern": "^[a-z_]+$"},
    }


def queried() -> Schema:
    """Describe what a query found."""
    return list_of(value("object", "A row, with the columns that the SELECT names."))


def followed() -> Schema:
    """Describe the history of a number."""
    from elimtool.run.tables.history import HISTORY

    return list_of(row_schema(HISTORY))


def examples() -> Schema:
    """Describe the examples of queries."""
    keys = {"tells": value("string", "What it tells."), "sql": value("string", "The SELECT statement.")}
    return list_of(object_of(keys, "A query."))


def rows() -> Schema:
    """Describe rows of a table."""
    keys = {
        "rows": list_of(
            {"type": "object"}, "Rows, with the columns of [the table](tables.md) that were asked for."
        ),
        "n_selected": value("integer", "Rows that the conditions hold for."),
        "n_rows": value("integer", "Rows of the table."),
    }
    return object_of(keys, "Rows of a table.")
