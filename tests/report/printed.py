"""A story as a stream would get it."""

from __future__ import annotations

import io
import re
from typing import Any

from rich.cells import cell_len
from rich.console import Console

from elimtool.report.trace.story import print_story
from elimtool.run.reader import Run

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def printed(run: Run, width: int = 80, encoding: str = "utf-8", colour: bool = False, **options: Any) -> str:
    """The text that a console of this width and encoding writes, styles taken out if there were any.

    Every line is checked to fit, whatever the test is about.
    """
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    system = "truecolor" if colour else None
    console = Console(
        file=stream, width=width, force_terminal=colour, color_system=system, legacy_windows=False
    )
    print_story(run, console, **options)
    stream.flush()
    raw = stream.buffer.getvalue().decode(encoding)
    assert colour or "\x1b" not in raw
    text = ANSI.sub("", raw)
    for line in text.splitlines():
        assert cell_len(line) <= width, (cell_len(line), line)
    return text


def detailed(*given: Any, **options: Any) -> str:
    """The story with every detail, as ``printed`` gets it."""
    return printed(*given, verbose=True, **options)


def flat(text: str) -> str:
    """The text on one line: for facts that may be broken over two."""
    return " ".join(text.split())


def section(text: str, start: str) -> list[str]:
    """The lines from the one that begins with ``start`` up to the next empty one."""
    lines = text.splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith(start))
    end = next((index for index in range(first, len(lines)) if not lines[index].strip()), len(lines))
    return lines[first:end]
