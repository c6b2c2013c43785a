"""What is compiled says so, once: reading compiled code from the cache says nothing."""

from __future__ import annotations

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
