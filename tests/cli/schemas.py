"""Hold what a command printed with ``--json`` against its schema, with no key that the schema lacks."""

from __future__ import annotations

from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from elimtool.cli.schemas.commands import SHAPES, schema_of


def command_of(arguments: tuple[str, ...]) -> str:
    """The command of a line: ``trace``, or ``run status``."""
    two = " ".join(arguments[:2])
    return two if two in SHAPES else arguments[0]


@cache
def validator(command: str) -> Draft202012Validator:
    schema = schema_of(command)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(closed(schema))


def closed(schema: Any) -> Any:
    """The schema with objects that have no keys but those that it names."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(one) for key, one in schema.items()}
    named = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    return {"additionalProperties": False, **inner} if named else inner


def faults(command: str, value: Any) -> list[str]:
    """What is wrong with some JSON of a command, the first few."""
    errors = sorted(validator(command).iter_errors(value), key=lambda one: list(map(str, one.path)))
    return [f"{command}: {error.json_path}: {error.message[:300]}" for error in errors[:5]]
