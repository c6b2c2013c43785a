"""Print for all commands: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from elimtool.report.visible import safe

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from elimtool.run import Run
    from elimtool.run.analysis import Analysis
    from elimtool.run.comparison import Comparison

    Result = Run | Comparison | Analysis


MOST_NOTES = 3
"""Remarks on the prompts of a run that are shown; its table has them all."""

STDOUT = 1
"""Number of the open file that is standard output."""


class Output:
    """Print results, notes and progress of one command.

    Args:
        quiet: Whether to leave out progress and notes.
        every: Seconds between two lines of progress where standard error is not a terminal.
    """

    def __init__(self, quiet: bool = False, every: float = 15.0) -> None:
        self.quiet = quiet
        self._every = every

    @property
    def console(self) -> Console:
        """The console of standard output; colour only on a terminal and without ``NO_COLOR``."""
        from elimtool.cli.safe import SafeConsole

        return SafeConsole(highlight=False, soft_wrap=False)

    def line(self, text: str) -> None:
        """Print one line of a result, never wrapped or styled; what would do something is escaped."""
        sys.stdout.write(safe(text) + "\n")
        sys.stdout.flush()

    def text(self, text: str) -> None:
        """Print a result of several lines as it is, for another program."""
        sys.stdout.write(text)
        sys.stdout.flush()

    def wrote(self, path: Path) -> None:
        """Print the path of a file that was written, unless it is standard output itself."""
        from elimtool.files.destination import descriptor

        if descriptor(path) != STDOUT:
            self.line(str(path))

    def folded(self, label: str, text: str) -> None:
        """Print a label and a text, wrapped at the terminal's width and aligned after the label."""
        import shutil
        import textwrap

        width = max(shutil.get_terminal_size((80, 24)).columns, 40)
        indent = min(len(label), 24)
        folded = textwrap.fill(
            text, width, initial_indent=label, subsequent_indent=" " * indent, break_long_words=False
        )
        self.line(folded if text else label.rstrip(": "))

    def json(self, value: Any) -> None:
        """Print a result as strict JSON, in ASCII, so that any stream can carry it."""
        json.dump(value, sys.stdout, allow_nan=False)  # NaN is not JSON: rather fail than print it
        sys.stdout.write("\n")
        sys.stdout.flush()

    def result(
        self, found: Result, out: Path | None, as_json: bool, story: Callable[[Any, Console], None]
    ) -> None:
        """Print a result as JSON or a story; with ``quiet`` and ``out`` only its directory.

        Args:
            found: A run, a comparison or an analysis.
            out: The directory that it was written to, if any.
            as_json: Whether to print JSON.
            story: Function that prints the readable form on a console.
        """
        if as_json:
            self.json(found.to_dict())
        elif self.quiet and out is not None:
            self.line(str(out))
        else:
            story(found, self.console)
        if out is not None:
            rows = sum(found.manifest.counts.values())
            self.note(f"wrote {out}: {len(found.tables):,} tables, {rows:,} rows")

    def notes(self, run: Run) -> None:
        """Note what chat templates read, and control tokens that users wrote; of many prompts the first."""
        from elimtool.report.remarks import run_notes

        found = run_notes(run)
        for line in found[:MOST_NOTES]:
            self.note(line)
        if len(found) > MOST_NOTES:
            self.note(f"{len(found) - MOST_NOTES:,} more remarks: columns clock, control_tokens of prompts")

    def plugins(self, run: Run) -> None:
        """Note which packages filled tables of a run and are not here, or in another version."""
        from elimtool.report.remarks import plugin_notes

        for line in plugin_notes(run.manifest):
            self.note(line)

    def note(self, text: str) -> None:
        """Print a line on stderr that is not part of the result."""
        if not self.quiet:
            self.errors.print(safe(text), markup=False, soft_wrap=True)

    @contextmanager
    def progress(self, first: str) -> Iterator[Any]:
        """Show on stderr what the command is waiting for; yields a function that changes the line.

        On a terminal it is a spinner that disappears; elsewhere a line every 15 seconds, so that a
        command which is soon done prints none. With ``quiet``, nothing is printed.
        """
        from elimtool.cli.progress import Waiting, repeated

        errors = self.errors
        waiting = Waiting(first)
        if self.quiet:
            yield lambda _line: None
        elif errors.is_terminal:
            from rich.markup import escape

            with errors.status(escape(safe(first))) as status:
                yield lambda line: status.update(escape(safe(waiting.tell(line))))
        else:
            with repeated(self._every, lambda: self.note(waiting.now())):
                yield waiting.tell

    @property
    def errors(self) -> Console:
        """The console of standard error."""
        from elimtool.cli.safe import SafeConsole

        return SafeConsole(stderr=True, highlight=False)
