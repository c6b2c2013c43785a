"""Runs the command line in this process through its real entry point."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from elimtool.cli import app
from tests.cli.schemas import command_of, faults


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str


Command = Callable[..., Done]


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
