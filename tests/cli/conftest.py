"""Runs the command line in this process through its real entry point."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from elimtool.cli import app
from elimtool.model import loading
from tests.cli.schemas import command_of, faults


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str


Command = Callable[..., Done]


@pytest.fixture(autouse=True)
def _loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load each directory of a model once: loading a tiny one takes longer than most that is asked of it."""
    load = loading.load_model

    def known(name: str, **options: Any) -> Any:
        say = options.pop("progress", None) or (lambda line: None)
        path = Path(name)
        if not path.is_dir() or any(
            options.get(spread) for spread in ("device_map", "n_devices", "quantize")
        ):
            return load(name, **options, progress=say)
        files = sorted(one for one in path.rglob("*") if one.is_file())
        state = tuple((str(one), one.stat().st_mtime_ns, one.stat().st_size) for one in files)
        key = (name, repr(sorted(options.items())), state)
        if key not in _LOADED:
            lines: list[str] = []
            _LOADED[key] = (load(name, **options, progress=lines.append), lines)
        model, lines = _LOADED[key]
        for line in lines:
            say(line)
        return model

    monkeypatch.setattr(loading, "load_model", known)


_OWN = ("device_map", "n_devices", "quantize", "adapters", "base")
"""Options under which other files count too, or what is loaded cannot be shared."""
_LOADED: dict[Any, tuple[Any, list[str]]] = {}


@pytest.fixture
def elimtool(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """``elimtool(*arguments, stdin=b"")`` -> exit code, stdout, stderr; JSON is held against its schema."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("ELIMTOOL_CACHE", str(tmp_path / "cache"))
    for name in ("ELIMTOOL_MODEL", "ELIMTOOL_CONFIG", "ELIMTOOL_SAMPLERS", "ELIMTOOL_LENS", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: str, stdin: bytes = b"") -> Done:
        capfd.readouterr()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as leaving:
            app.main([str(one) for one in arguments])
        found = capfd.readouterr()
        done = Done(int(leaving.value.code or 0), found.out, found.err)
        if "--json" in arguments and done.out and not done.out.lstrip().startswith("Usage"):
            assert faults(command_of(tuple(map(str, arguments))), json.loads(done.out)) == []
        return done

    return call
