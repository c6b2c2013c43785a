"""A short run of ``scripts/fuzz``: no hostile input makes a command crash, hang or print a traceback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "fuzz"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_hostile_inputs_end_in_errors_that_say_something() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--count", "1"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    inputs, sound, refused, faults = map(int, re.findall(r"\d+", done.stdout.splitlines()[-1]))
    assert faults == 0 and inputs > 12
    assert refused <= sound / 4 and sound > 5  # else they are refused before anything is tried
