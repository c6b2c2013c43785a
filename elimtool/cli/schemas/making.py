"""Make JSON Schema from the types that commands print: columns, dataclasses and manifests."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from functools import cache
from typing import Any, get_args, get_type_hints

from elimtool.run.columns import Column, Table

Schema = dict[str, Any]
_SCALARS = {
    "string": "string",
    "int32": "integer",
    "int64": "integer",
    "double": "number",
    "float": "number",
    "bool": "boolean",
}


def object_of(properties: Mapping[str, Schema], description: str, optional: Iterable[str] = ()) -> Schema:
    """Describe an object whose keys are all there, but for the optional ones."""
    required = [name for name in properties if name not in set(optional)]
    told = {"description": description} if description else {}
    return {"type": "object", **told, "properties": dict(properties), "required": required}


def list_of(items: Schema, description: str = "") -> Schema:
    """Describe an array."""
    return {"type": "array", "items": items, **({"description": description} if description else {})}


def value(kind: str | list[str], description: str) -> Schema:
    """Describe a value of a JSON type."""
    return {"type": kind, "description": description}


def or_null(kind: str, description: str) -> Schema:
    """Describe a value that may be null."""
    return value([kind, "null"], description)


def with_keys(schema: Schema, **more: Schema) -> Schema:
    """Add keys to the schema of an object."""
    return {
        **schema,
        "properties": {**more, **schema["properties"]},
        "required": [*more, *schema["required"]],
    }


def row_schema(table: Table) -> Schema:
    """Describe a row of a table; floats are also null where they are not finite."""
    return object_of({column.name: _column(column) for column in table.columns}, table.row)


def _column(column: Column) -> Schema:
    schema = _arrow(column.type)
    if column.nullable or schema.get("type") == "number":
        schema = {"anyOf": [schema, {"type": "null"}]}
    told = [column.description, f"Unit: {column.unit}." if column.unit else ""]
    told += [f"Null: {column.null_when}." if column.null_when else ""]
    return {**schema, "description": " ".join(filter(None, told))}


def _arrow(kind: Any) -> Schema:
    from pyarrow import types

    if types.is_list(kind):
        return {"type": "array", "items": _may_be_null(kind.value_type)}
    if types.is_struct(kind):
        return object_of({field.name: _may_be_null(field.type) for field in kind}, "")
    return {"type": _SCALARS[str(kind)]}


def _may_be_null(kind: Any) -> Schema:
    return {"anyOf": [_arrow(kind), {"type": "null"}]}


@cache
def made_from(kind: Any) -> Schema:
    """Make the schema of a dataclass, a list of them, or a manifest; every field is there."""
    from pydantic import BaseModel, TypeAdapter

    schema = TypeAdapter(kind).json_schema(mode="serialization")
    classes = {one.__name__: one for one in _classes(kind)}
    for name, part in ((schema.get("title"), schema), *schema.get("$defs", {}).items()):
        owner = classes.get(str(name))
        if "properties" in part:
            part["required"] = list(part["properties"])
        if owner is not None and not issubclass(owner, BaseModel):
            for field, meaning in _meanings(owner).items():
                part["properties"].get(field, {})["description"] = meaning
            part["description"] = (inspect.getdoc(owner) or "").split("\n")[0]
    _drop_titles(schema)
    return schema


def _classes(kind: Any) -> set[type]:
    found: set[type] = set()
    pending = [kind]
    while pending:
        one = pending.pop()
        pending += get_args(one)
        if isinstance(one, type) and is_dataclass(one) and one not in found:
            found.add(one)
            pending += get_type_hints(one).values()
    return found


def _meanings(owner: type) -> dict[str, str]:
    """Read what the docstring of a dataclass says about its attributes."""
    found: dict[str, str] = {}
    _, _, listed = (inspect.getdoc(owner) or "").partition("Attributes:\n")
    name = ""
    for line in inspect.cleandoc(listed).split("\n"):
        if line.startswith(" "):
            found[name] += f" {line.strip()}"
        elif ": " in line:
            name, _, found[name] = line.partition(": ")
    return found


def _drop_titles(schema: Any) -> None:
    if isinstance(schema, dict):
        if isinstance(schema.get("title"), str):
            del schema["title"]
        for part in schema.values():
            _drop_titles(part)
    elif isinstance(schema, list):
        for part in schema:
            _drop_titles(part)
