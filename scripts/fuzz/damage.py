"""Damage a file in one place: a value, a column, some bytes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from words import DEEP, SCALARS, TEMPLATES, WORDS, YAMLS


def spoiled(value: Any, chance: random.Random) -> Any:
    """Change nested JSON in one place: a value replaced, dropped, renamed, repeated, nested or added."""
    places: list[tuple[Any, Any]] = []
    value = json.loads(json.dumps(value)) if isinstance(value, dict | list) else value
    pending = [value]
    while pending:
        one = pending.pop()
        keys = list(one) if isinstance(one, dict) else list(range(len(one))) if isinstance(one, list) else []
        places += [(one, key) for key in keys]
        pending += [one[key] for key in keys]
    if not places:
        return chance.choice(SCALARS)
    # A name is drawn first, then one of its places: a file of a thousand weights has other keys too.
    named = chance.choice(sorted({str(key) for _, key in places}))
    inside, key = chance.choice([place for place in places if str(place[1]) == named])
    way = chance.randrange(6)
    if way == 0:
        del inside[key]
    elif way == 1 and isinstance(inside, dict):
        inside[chance.choice(WORDS)] = inside.pop(key)
    elif way == 2:
        inside[key] = [inside[key]]
    elif way == 3 and isinstance(inside, list):
        inside.insert(key, inside[key])
    else:
        inside[key] = chance.choice(SCALARS)
    return value


def retabled(table: pa.Table, chance: random.Random) -> pa.Table:
    """Drop a column of a table, retype it, make it null, repeat it; or drop, repeat or shuffle rows."""
    at, length = chance.randrange(table.num_columns), table.num_rows
    name = table.column_names[at]
    others = (
        pa.nulls(length),
        pa.nulls(length, table.schema.types[at]),
        pa.array(["x"] * length),
        pa.array([1.5] * length),
        pa.array([-1] * length),
        pa.array([[1]] * length),
        pa.array([float("inf")] * length),
    )
    rows = list(range(length))
    chance.shuffle(rows)
    ways: tuple[Callable[[], pa.Table], ...] = (
        lambda: table.drop_columns([name]),
        lambda: table.set_column(at, name, chance.choice(others)),
        lambda: table.set_column(at, name, chance.choice(others)),
        lambda: table.append_column(name, table.column(at)),
        lambda: table.append_column("more", pa.array([1] * length)),
        lambda: table.slice(0, 0),
        lambda: table.slice(0, length // 2),
        lambda: pa.concat_tables([table, table]),
        lambda: table.take(pa.array(rows, pa.int64())),
    )
    return chance.choice(ways)()


def damage(path: Path, chance: random.Random) -> None:
    """Damage a file in one place; of a directory one of its files."""
    if path.is_dir():
        files = sorted(one for one in path.rglob("*") if one.is_file())
        path = chance.choice(files)
        if chance.random() < 0.1:
            path.unlink()
            chance.choice((lambda: None, path.mkdir, lambda: path.symlink_to("nowhere")))()
            return
    if path.suffix == ".parquet" and chance.random() < 0.8:
        pq.write_table(retabled(pq.read_table(path), chance), path)
    elif path.suffix in (".json", ".yaml", ".jsonl") and chance.random() < 0.75:
        path.write_bytes(respelled(path, chance))
    elif path.suffix == ".jinja":
        path.write_text(chance.choice(TEMPLATES))
    else:
        path.write_bytes(garbled(path.read_bytes(), chance))


def respelled(path: Path, chance: random.Random) -> bytes:
    """Change what a file of JSON or YAML says in one place; garble one that is damaged already."""
    content = path.read_bytes()
    try:
        text = content.decode()
        if path.suffix == ".json":
            return json.dumps(spoiled(json.loads(text), chance)).encode()
        if path.suffix == ".jsonl":
            lines = text.splitlines()
            at = chance.randrange(len(lines))
            lines[at] = json.dumps(spoiled(json.loads(lines[at]), chance))
            return "\n".join(lines).encode()
        if chance.random() < 0.2:
            return (chance.choice((text, "")) + chance.choice(YAMLS)).encode()
        return yaml.safe_dump(spoiled(yaml.safe_load(text), chance)).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError, yaml.YAMLError):
        return garbled(content, chance)


def garbled(content: bytes, chance: random.Random) -> bytes:
    """Damage bytes: cut, flipped, repeated, empty, nested deeply, encoded otherwise."""
    at = chance.randrange(len(content) + 1)
    flipped = content[:at] + bytes([chance.randrange(256)]) + content[at + 1 :]
    ways: Sequence[Callable[[], bytes]] = (
        lambda: content[:at],
        lambda: flipped,
        lambda: flipped,
        lambda: content[:at] + content[: chance.randrange(1, 50)] * 3 + content[at:],
        lambda: b"",
        lambda: b"[" * DEEP,
        lambda: b'{"a":' * DEEP,
        lambda: content.decode("utf-8", "replace").encode("utf-16-le"),
        lambda: bytes(chance.randrange(256) for _ in range(64)),
        lambda: b"null",
        lambda: b"[1, 2]",
        lambda: b'{"a": NaN}',
    )
    return chance.choice(ways)()
