"""Say how far a command is and how long it will take, on a terminal and off it."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elimtool.cli.output import Output
    from elimtool.tasks.batch.run import BatchProgress, Report

SHARE = re.compile(r"(.*?)\b(\d+) %$|(.*?)\b([\d,]+) of ([\d,]+)\b.*")
"""A line that says how much is done: ``fitting: 30 %``, ``attributing: 1 of 3 methods done``."""


class Waiting:
    """What a command waits for, with the time that is left where the line says how much is done.

    Args:
        line: What it waits for first.
        clock: Returns the time in seconds.
    """

    def __init__(self, line: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._line = line
        self._what: str | None = None
        self._began = self._changed = clock()
        self._first = self._share = 0.0

    def tell(self, line: str) -> str:
        """Take a new line, and return it with the time left."""
        what, share = _done(line)
        if what != self._what or share is None:
            self._what, self._began, self._first = what, self._clock(), share or 0.0
        self._line, self._share, self._changed = line, share or 0.0, self._clock()
        return self.now()

    def now(self) -> str:
        """Return the line as it stands, with the time left."""
        gained = self._share - self._first
        if gained <= 0 or self._share >= 1:
            return self._line
        since = self._clock() - self._changed
        left = (1 - self._share) * (self._changed - self._began) / gained - since
        return f"{self._line}, {duration(left)} to go" if left > 0 else self._line


def _done(line: str) -> tuple[str, float | None]:
    """Split a line into what is done and the share of it, 0 .. 1; None where it tells no share."""
    found = SHARE.fullmatch(line)
    if found is None:
        return line, None
    what, percent, noun, done, total = found.groups()
    if percent is not None:
        return what, int(percent) / 100
    share, whole = (int(number.replace(",", "")) for number in (done, total))
    return noun, share / whole if whole else None


@contextmanager
def repeated(seconds: float, call: Callable[[], None]) -> Iterator[None]:
    """Call a function again and again, from another thread, while the block runs."""
    done = threading.Event()

    def repeat() -> None:
        while not done.wait(seconds):
            call()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


class Pace:
    """Prompts and tokens a second since this process began, without what earlier ones did.

    Args:
        nouns: What is measured, in the plural.
    """

    def __init__(self, nouns: str = "prompts") -> None:
        self.nouns = nouns
        self.began: float | None = None
        self.before = (0, 0)

    def line(self, standing: BatchProgress) -> str:
        """Write one line: prompts done, speed, errors."""
        now = time.monotonic()
        if self.began is None:
            self.began, self.before = now, (standing.prompts, standing.tokens)
        seconds = now - self.began
        done, tokens = standing.prompts - self.before[0], standing.tokens - self.before[1]
        total = f" of {standing.total:,}" if standing.total is not None else ""
        parts = [f"{standing.prompts:,}{total} {self.nouns}"]
        if done and seconds > 0:
            parts.append(f"{done / seconds:.1f} {self.nouns}/s, {tokens / seconds:,.0f} tokens/s")
        parts.append(f"{standing.errors:,} error{'' if standing.errors == 1 else 's'}")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """Format seconds as ``45 s``, ``3 min`` or ``2 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


@contextmanager
def batch_progress(output: Output, first: str, nouns: str = "prompts") -> Iterator[tuple[Report, Any]]:
    """Yield a function that reports progress, and one that says what the command waits for before that.

    On a terminal there is a bar, elsewhere the lines of ``Output.progress`` and one when all is done; they
    count ``nouns``.
    """
    pace = Pace(nouns)
    if output.quiet or not output.errors.is_terminal:
        with output.progress(first) as tell:

            def report(standing: BatchProgress) -> None:
                tell(line := pace.line(standing))
                if standing.prompts == standing.total:
                    output.note(line)

            yield report, tell
        return
    from rich.progress import BarColumn, Progress, TextColumn

    columns = BarColumn(20), TextColumn("{task.description}", markup=False)
    with Progress(*columns, console=output.errors) as bar:
        task, waiting = bar.add_task(first, total=None), Waiting(first)

        def show(standing: BatchProgress) -> None:
            line = waiting.tell(pace.line(standing))
            bar.update(task, total=standing.total, completed=standing.prompts, description=line)

        yield show, lambda line: bar.update(task, description=waiting.tell(line))
