"""Empty inputs of all commands: each is refused as input, with exit code 2 and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

LINES: dict[str, tuple[str, ...]] = {
    "compare": ("{jsonl}", "{jsonl}"),
    "compare, one side": ("{jsonl}", "-m", "smollm2", "-m", "smollm2"),
    "compare, a saved comparison": ("{json}",),
    "batch": ("{jsonl}", "-o", "new"),
    "batch, blank lines": ("{blank}", "-o", "new"),
    "batch, a suite": ("{yaml}", "-o", "new"),
    "batch, a table": ("{csv}", "-o", "new"),
    "check": ("{yaml}",),
    "audit": ("{yaml}",),
    "audit, lines": ("{jsonl}",),
    "sweep": ("{yaml}",),
    "coverage": ("{jsonl}",),
    "attribute": ("-f", "{text}", "-t", "a"),
    "attribute, a file": ("--prompts", "{jsonl}", "-t", "a"),
    "trace": ("-f", "{text}"),
    "locate": ("-f", "{text}", "--corrupt", "a", "-t", "b"),
    "report": ("{json}",),
    "run status": ("{json}",),
    "run show": ("{json}",),
    "run merge": ("{json}", "{json}", "-o", "new"),
    "query": ("select 1", "{json}"),
    "export": ("{json}", "--format", "sft", "-o", "new.jsonl"),
    "samplers show": ("{yaml}",),
    "samplers explain": ("{yaml}",),
    "models verify": ("{json}",),
    "map": ("{json}", "-o", "new"),
}


@pytest.mark.parametrize("name", LINES)
def test_an_empty_input_is_refused_as_one(name: str, elimtool: Any, tmp_path: Path) -> None:
    made = {kind: tmp_path / f"empty.{kind}" for kind in ("jsonl", "json", "yaml", "csv", "text", "blank")}
    for path in made.values():
        path.write_text("\n\n" if path.suffix == ".blank" else "", encoding="utf-8")
    made["blank"] = made["blank"].rename(tmp_path / "blank.jsonl")
    words = [str(tmp_path / word) if word.startswith("new") else word.format(**made) for word in LINES[name]]
    done = elimtool(*name.partition(",")[0].split(), *words)
    assert done.code == 2, (done.code, done.err)
    assert "error:" in done.err and "Traceback" not in done.err
