"""Show the progress of a batch on stderr: a bar on a terminal, elsewhere a line every ten seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from elimtool.tasks.batch.run import BatchProgress, Report

EVERY = 10.0
"""Seconds between two plain lines."""


class Pace:
    """Prompts and tokens a second since this process began, without what earlier ones did."""

    def __init__(self) -> None:
        self.began: float | None = None
        self.before = (0, 0)

    def line(self, standing: BatchProgress) -> str:
        """Write one line: prompts done, speed, errors, time left."""
        now = time.monotonic()
        if self.began is None:
            self.began, self.before = now, (standing.prompts, standing.tokens)
        seconds = now - self.began
        done, tokens = standing.prompts - self.before[0], standing.tokens - self.before[1]
        total = f" of {standing.total:,}" if standing.total is not None else ""
        parts = [f"{standing.prompts:,}{total} prompts"]
        if done and seconds > 0:
            parts.append(f"{done / seconds:.1f} prompts/s, {tokens / seconds:,.0f} tokens/s")
        parts.append(f"{standing.errors:,} error{'' if standing.errors == 1 else 's'}")
        if done and standing.total is not None and standing.total > standing.prompts:
            parts.append(f"{duration((standing.total - standing.prompts) * seconds / done)} to go")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """Format seconds as ``45 s``, ``3 min`` or ``2 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


@contextmanager
def batch_progress(errors: Console, quiet: bool) -> Iterator[tuple[Report, Any]]:
    """Yield a function that reports progress, and one that says what the command waits for before that."""
    pace = Pace()
    if quiet:
        yield (lambda _standing: None), (lambda _line: None)
    elif errors.is_terminal:
        from rich.progress import BarColumn, Progress, TextColumn

        with Progress(BarColumn(20), TextColumn("{task.description}", markup=False), console=errors) as bar:
            task = bar.add_task("", total=None)

            def show(standing: BatchProgress) -> None:
                bar.update(
                    task, total=standing.total, completed=standing.prompts, description=pace.line(standing)
                )

            yield show, lambda line: bar.update(task, description=line)
    else:
        last = -EVERY  # the first line comes at once

        def say(standing: BatchProgress) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= EVERY or standing.prompts == standing.total:
                last = now
                errors.print(pace.line(standing), markup=False, soft_wrap=True)

        yield say, lambda _line: None
