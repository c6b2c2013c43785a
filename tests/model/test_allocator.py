"""When large freed blocks go back to the system: for long prompts alone, and never for good."""

from __future__ import annotations

import ctypes
import sys
from types import SimpleNamespace

import pytest

from elimtool.model import memory

LARGE = (memory.M_MMAP_THRESHOLD, memory.MAPPED)
USUAL = (memory.M_MMAP_THRESHOLD, memory.MOST_MAPPED)
TRIM = (memory.M_TRIM_THRESHOLD, memory.KEPT)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    made: list[tuple[int, int]] = []
    glibc = SimpleNamespace(gnu_get_libc_version=None, mallopt=lambda *given: made.append(given))
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: glibc)
    return made


def test_short_prompts_leave_the_allocator_alone(calls: list[tuple[int, int]]) -> None:
    with memory.returning_large(memory.LONG - 1):
        pass
    assert calls == []


def test_a_long_prompt_gives_the_usual_threshold_back_whatever_happens(calls: list[tuple[int, int]]) -> None:
    with pytest.raises(KeyError), memory.returning_large(memory.LONG):
        assert calls == [LARGE, TRIM]
        raise KeyError
    assert calls == [LARGE, TRIM, USUAL]


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    assert memory.mallopt() is None
    with memory.returning_large(memory.LONG):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is Linux's")
def test_glibc_takes_the_parameters() -> None:
    change = memory.mallopt()
    if change is None:
        pytest.skip("another C library than glibc")
    assert [change(*LARGE), change(*TRIM), change(*USUAL)] == [1, 1, 1]
