"""Write docs/json.md from the schemas of every command's JSON; with --check, only compare."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from generated import settle

from elimtool.cli.schemas.commands import JSON_VERSION, SHAPES, schema_of

PAGE = Path(__file__).parent.parent / "docs" / "json.md"
ELSEWHERE = {
    "run": ("trace", "attribute", "locate"),
    "comparison": ("compare",),
    "analysis": ("audit", "coverage", "map", "sweep"),
    "tables": ("trace", "attribute", "locate", "compare", "audit", "coverage", "map", "sweep"),
}
"""Keys whose own keys stand in docs/tables.md, and the commands that have them."""
ANCHORS = {"run": "#runjson", "comparison": "#comparisonjson", "analysis": "#analysisjson", "tables": ""}

PLURALS = {"any value": "values", "object": "objects", "string": "strings", "integer": "integers"}

HEAD = """\
# JSON

<!-- Written by scripts/make_json_docs.py from elimtool/cli/schemas: change it there. -->

With `--json` a command prints one JSON value on standard output, in ASCII, and everything else on standard
error. NaN and infinities, which JSON cannot express, are null. This page describes version {version}: within
a version keys are added, and none is renamed, dropped or changes its meaning, so read the keys that you know
and ignore the others. The columns of tables have a version of their own, `schema_version` in `run.json`. An
exit code other than 0 may come with JSON too (`check` that found a regression, a batch with errors); an error
that left nothing to print is one line on standard error.

The same as JSON Schema (draft 2020-12), for validators and code generators:

```python
import json

from elimtool.cli.schemas.commands import schema_of

print(json.dumps(schema_of("run status"), indent=2)[:300])
```
"""


def page() -> str:
    """The whole page."""
    lines = [HEAD.format(version=JSON_VERSION).rstrip("\n")]
    same: dict[str, str] = {}
    for command in SHAPES:
        schema = schema_of(command)
        shapes = schema.get("anyOf", [schema])
        lines += ["", f"## {command}", ""]
        body: list[str] = []
        for occasion, shape in zip(SHAPES[command], shapes, strict=True):
            parts = schema.get("$defs", {})
            if occasion:
                body += [f"{occasion.capitalize()}:", ""]
            body += [*described(shape, parts, command), ""]
        text = "\n".join(body).replace("\n\n\n", "\n\n").rstrip("\n")
        lines.append(f"As of [{same[text]}](#{same[text].replace(' ', '-')})." if text in same else text)
        same.setdefault(text, command)
    return "\n".join(lines) + "\n"


def described(shape: Any, parts: Any, command: str) -> Iterator[str]:
    """A sentence and a row for each key."""
    listed = shape["items"] if shape.get("type") == "array" else shape
    target = resolved(listed, parts)
    told = (target.get("description") or "").replace("``", "`")
    yield f"A list: {told[0].lower()}{told[1:]}" if listed is not shape else told
    yield ""
    rows = list(keys(target, parts, command, "[]." if listed is not shape else ""))
    if not rows:
        return
    yield "| key | type | meaning |"
    yield "|---|---|---|"
    yield from rows


def keys(shape: Any, parts: Any, command: str, before: str) -> Iterator[str]:
    """The keys of an object and of what is in it, as rows of Markdown."""
    required = set(shape.get("required", ()))
    for name, raw in shape.get("properties", {}).items():
        one = resolved(raw, parts)
        path = f"{before}{name}"
        meaning = (raw.get("description") or one.get("description") or "").split("\n\n")[0].replace("``", "`")
        meaning = meaning.replace("|", "\\|").replace("`None`", "null")
        if name not in required:
            meaning = f"Not always there. {meaning}"
        if command in ELSEWHERE.get(name, ()):
            yield f"| `{path}` | object | {meaning} See [tables.md](tables.md{ANCHORS[name]}). |"
            continue
        yield f"| `{path}` | {type_of(one, parts)} | {meaning} |"
        inner = resolved(one.get("items", one), parts)
        if inner.get("properties"):
            yield from keys(inner, parts, command, f"{path}[]." if "items" in one else f"{path}.")


def resolved(schema: Any, parts: Any) -> Any:
    """What a reference refers to."""
    return parts[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def type_of(schema: Any, parts: Any) -> str:
    """The type of a value, in words."""
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(type_of(resolved(one, parts), parts) for one in schema["anyOf"]))
    kind = schema.get("type", "any value")
    if kind == "array":
        inner = type_of(resolved(schema.get("items", {}), parts), parts)
        return f"list of {PLURALS.get(inner, 'lists')}"
    return " or ".join(kind) if isinstance(kind, list) else kind


def main() -> int:
    """Write the page, or compare it."""
    return settle(PAGE, page())


if __name__ == "__main__":
    sys.exit(main())
