"""What is compiled says so, once: reading compiled code from the cache says nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba")


def test_compiling_says_so_and_what_was_compiled_does_not() -> None:
    from numba import njit

    from elimtool.numerics.kernels.compiling import told
    from elimtool.numerics.kernels.rows import prepare

    added = njit(lambda one: one + 1)
    said: list[str] = []
    with told(said.append):
        assert added(1) == 2
    assert said == ["compiling the kernels, once a machine"]
    with told(said.append):
        assert added(2) == 3
    assert len(said) == 1
    prepare()
    prepare(said.append)
    assert len(said) == 1


MEASURED = """
import hashlib, numpy
from elimtool.numerics.kernels.rows import measured
rows = numpy.random.default_rng(0).normal(size=(400, 8192)) * 3
found = measured(rows, rows.max(1), numpy.zeros((400, 1), dtype=numpy.int64))
print(hashlib.sha256(found.probs.tobytes() + found.entropy.tobytes()).hexdigest())
"""


def test_the_process_that_compiles_rounds_as_those_that_read_its_cache(tmp_path: Path) -> None:
    told = [
        subprocess.run(
            [sys.executable, "-c", MEASURED],
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for _ in range(2)
    ]
    assert any(tmp_path.rglob("*.nbc")) and told[0] == told[1] != ""
