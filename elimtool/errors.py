"""Define the exception for everything that a user can fix, and the exit codes of commands."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of all commands. 1 is not used: it is that of interpreters and shells."""

    OK = 0
    USAGE = 2
    """Arguments, configuration or input are not valid."""
    BASELINE = 4
    """A baseline is missing or not comparable."""
    NOTHING = 5
    """Nothing was selected."""
    PARTIAL = 6
    """Some prompts or workers failed; the rest is written."""
    REGRESSION = 10
    """A check found a regression, or a verification exceeded its tolerance."""
    DEFECT = 70
    """A defect of elimtool; the traceback is in a log file."""
    INTERRUPTED = 130
    """Interrupted by the user; finished work is on disk."""
    BROKEN_PIPE = 141
    """The reader of standard output closed it (128 + SIGPIPE, as shells report it)."""


class ElimError(Exception):
    """A problem that the user can fix.

    Args:
        message: One line: what is wrong, and where (parameter, file, line).
        hint: What to do, in one line; empty if the message says it. Lines below it are a table.
        exit_code: Exit code of a command that ends with this error.
    """

    def __init__(self, message: str, hint: str = "", exit_code: Exit = Exit.USAGE) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code

    def __reduce__(self) -> tuple[type[ElimError], tuple[str, str, Exit]]:
        """Pickle with all arguments: worker processes raise it too."""
        return type(self), (self.message, self.hint, self.exit_code)

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


def nearest(word: str, choices: list[str] | tuple[str, ...]) -> str:
    """Make a hint with the one of ``choices`` closest to ``word``, if any is close, and all of them."""
    from difflib import get_close_matches

    close = get_close_matches(word, choices, n=1, cutoff=0.5)
    valid = "valid: " + ", ".join(choices)
    return f"did you mean '{close[0]}'? {valid}" if close else valid
