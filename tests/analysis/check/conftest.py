"""One small traced run, and check files written around it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import elimtool
from elimtool.analysis.check.gate import judge_run
from elimtool.analysis.check.read import read_checks

TEXTS = {"fr": "The capital of France is", "de": "The capital of Germany is"}


@pytest.fixture(scope="session")
def run(llama: Any) -> Any:
    """Two capitals and a chat, two chains, raw lens."""
    capitals = [
        elimtool.Prompt(text=text, id=name, targets=("Paris",), tags=("capital",), group="geo")
        for name, text in TEXTS.items()
    ]
    messages = (elimtool.Message("system", "Be brief."), elimtool.Message("user", "Which city?"))
    chat = elimtool.Prompt(messages=messages, id="chat", targets=("Paris",), tags=("chat",))
    options = elimtool.TraceOptions(samplers=("llama.cpp", "hf"), lens="raw")
    return elimtool.trace(llama, [*capitals, chat], options=options)


Written = Callable[..., Path]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """``written(*checks, **top)`` -> a check file; checks are YAML flow mappings."""

    def write(*checks: str, name: str = "checks.yaml", **top: str) -> Path:
        head = {"version": "1", "samplers": "[llama.cpp, hf]", **top}
        lines = [f"{key}: {value}" for key, value in head.items()]
        lines += ["checks:", *(f"  - {check}" for check in checks)]
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


@pytest.fixture
def judged(run: Any, written: Written) -> Callable[..., Any]:
    """``judged(*checks, **top)`` -> the report on the small run."""

    def judge(*checks: str, options: dict[str, Any] | None = None, of: Any = None, **top: str) -> Any:
        path = written(*checks, **top)
        return judge_run(read_checks(path), of or run, **(options or {})).report

    return judge
