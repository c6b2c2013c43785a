"""One exception for everything a user can put right: what is wrong, where, and what to do next."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Process exit codes of every command. 1 is never ours: interpreters and shells use it."""

    OK = 0
    USAGE = 2
    """Usage, configuration or input could not be used."""
    BASELINE = 4
    """A baseline is missing or not comparable."""
    NOTHING = 5
    """Nothing was selected."""
    PARTIAL = 6
    """Some prompts or workers failed; the rest is written."""
    REGRESSION = 10
    """A check ran and found a regression, or a verification went past its tolerance."""
    DEFECT = 70
    """A defect of elimtool; the traceback is in a log file."""
    INTERRUPTED = 130
    """Interrupted by the user; what was finished is on disk."""
    BROKEN_PIPE = 141
    """The reader of standard output went away (128 + SIGPIPE, as shells report it)."""


class ElimError(Exception):
    """A problem that the user can put right.

    Args:
        message: One line that says what is wrong and where (option, file, line).
        hint: One line that says what to do next; empty where the message already does.
        exit_code: The exit code of the process when a command ends with this error.
    """

    def __init__(self, message: str, hint: str = "", exit_code: Exit = Exit.USAGE) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code

    def __reduce__(self) -> tuple[type[ElimError], tuple[str, str, Exit]]:
        """Pickled whole: workers of other processes raise it too."""
        return type(self), (self.message, self.hint, self.exit_code)

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


def nearest(word: str, choices: list[str] | tuple[str, ...]) -> str:
    """Say which of ``choices`` the user may have meant by ``word``.

    Returns:
        A sentence for a hint: the nearest valid word if one is near, and all valid words.
    """
    from difflib import get_close_matches

    close = get_close_matches(word, choices, n=1, cutoff=0.5)
    valid = "valid: " + ", ".join(choices)
    return f"did you mean '{close[0]}'? {valid}" if close else valid
