"""Runs the command line in this process through its real entry point."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from elimtool.cli import app


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str


Command = Callable[..., Done]


@pytest.fixture
def elimtool(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """``elimtool(*arguments, stdin=b"")`` -> exit code, stdout and stderr."""
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
        return Done(int(leaving.value.code or 0), found.out, found.err)

    return call
