"""Progress lines: the time that is left, and lines at intervals where there is no terminal."""

from __future__ import annotations

import time

import pytest

from elimtool.cli.output import Output
from elimtool.cli.progress import Waiting


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    "lines",
    [("fitting: 0 %", "fitting: 25 %"), ("attributing: 0 of 8 methods", "attributing: 2 of 8 methods")],
)
def test_the_time_left_follows_from_the_share_done(lines: tuple[str, str]) -> None:
    clock = Clock()
    waiting = Waiting("loading", clock)
    assert waiting.tell(lines[0]) == lines[0]
    clock.now += 30
    assert waiting.tell(lines[1]) == f"{lines[1]}, 2 min to go"  # 3/4 are left, at 1/4 in 30 s: 90 s
    clock.now += 80
    assert waiting.now() == f"{lines[1]}, 10 s to go"
    clock.now += 20
    assert waiting.now() == lines[1]


def test_a_new_task_starts_its_own_estimate() -> None:
    clock = Clock()
    waiting = Waiting("loading", clock)
    waiting.tell("fetching: 0 %")
    clock.now += 1000
    assert waiting.tell("fitting: 10 %") == "fitting: 10 %"
    clock.now += 10
    assert waiting.tell("fitting: 20 %") == "fitting: 20 %, 1 min to go"  # 80 s
    assert waiting.tell("saving") == "saving"


def test_off_a_terminal_a_line_comes_at_intervals(capsys: pytest.CaptureFixture[str]) -> None:
    with Output(every=0.05).progress("loading") as say:
        time.sleep(0.2)
        say("fitting: 0 %")
        time.sleep(0.2)
    told = capsys.readouterr()
    assert {"loading", "fitting: 0 %"} == set(told.err.splitlines()) and told.out == ""
    with Output(quiet=True, every=0.05).progress("loading"):
        time.sleep(0.2)
    assert capsys.readouterr().err == ""


def test_what_is_soon_done_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Output().progress("loading") as say:
        say("tracing")
    assert capsys.readouterr().err == ""
