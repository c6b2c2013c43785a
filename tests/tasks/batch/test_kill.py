"""A batch killed with SIGKILL and resumed ends as one left alone: a small ``scripts/kill_batch.py``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "kill_batch.py"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_three_kills_cost_nothing() -> None:
    command = [sys.executable, str(SCRIPT), "--prompts", "60", "--kills", "3", "--shard-size", "4"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "killed 3 times" in done.stdout
    assert "once and in order: True; parts readable and equal: True" in done.stdout
