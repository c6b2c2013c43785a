"""Define the exception for everything that a user can fix, and the exit codes of commands."""

from __future__ import annotations

import ast
import reprlib
from collections import abc
from collections.abc import Callable, Collection, Iterable, Mapping
from enum import IntEnum
from functools import wraps
from inspect import Parameter, signature, unwrap
from numbers import Integral, Real
from os import PathLike
from typing import Any, get_origin


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


def guarded(call: Callable[..., Any], name: str, classes: Collection[str]) -> Callable[..., Any]:
    """Refuse arguments of a public function whose type is not the annotated one, before it does anything.

    Args:
        call: The function; its annotations may name classes that are not imported.
        name: What to call it in messages.
        classes: Names in annotations that are classes. Of others, aliases of callables are known where the
            function is defined, and anything else is left to the function.
    """
    declared = signature(call)
    wanted = {key: ast.parse(str(one), mode="eval").body for key, one in call.__annotations__.items()}
    named = unwrap(call).__globals__.items()
    known: dict[str, Any] = {key: key for key in classes}
    known |= {key: abc.Callable for key, one in named if get_origin(one) is abc.Callable}

    @wraps(call)
    def checked(*arguments: Any, **options: Any) -> Any:
        try:
            given = declared.bind(*arguments, **options).arguments
        except TypeError as error:
            takes = f"it takes: {', '.join(declared.parameters)}"
            raise ElimError(f"elimtool.{name}: {error}", takes) from error
        for key, value in given.items():
            packed = declared.parameters[key].kind in (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)
            if not packed and key in wanted and not _fits(value, wanted[key], known):
                raise ElimError(
                    f"`{key}` of elimtool.{name} must be {call.__annotations__[key]},"
                    f" got {type(value).__name__}: {reprlib.repr(value)}",
                    f"see help(elimtool.{name})",
                )
        return call(*arguments, **options)

    return checked


_ABSTRACT = {"bool": bool, "int": Integral, "float": Real, "str": str, "Path": PathLike}


def _fits(value: Any, wanted: ast.expr, known: Mapping[str, Any]) -> bool:
    """Whether a value is of an annotated type; items of lists and tuples too, but no iterator is used up."""
    if isinstance(wanted, ast.BinOp):
        return _fits(value, wanted.left, known) or _fits(value, wanted.right, known)
    if isinstance(wanted, ast.Constant):
        return value is None
    if isinstance(wanted, ast.Subscript) and isinstance(wanted.value, ast.Name):
        if wanted.value.id == "Callable":
            return callable(value)
        if wanted.value.id in ("Mapping", "dict"):
            return isinstance(value, Mapping)
        if isinstance(value, str) or wanted.value.id == "Literal":
            return True  # a string for a list of them: the function says how to write it
        listed = isinstance(value, list | tuple | set | frozenset)
        several = not isinstance(wanted.slice, ast.Tuple) and listed
        return isinstance(value, Iterable) and (
            not several or all(_fits(one, wanted.slice, known) for one in value)
        )
    if not isinstance(wanted, ast.Name):
        return True
    if (abstract := _ABSTRACT.get(wanted.id)) is not None:
        return isinstance(value, abstract) and (abstract is bool or not isinstance(value, bool))
    if known.get(wanted.id) is abc.Callable:
        return callable(value)
    return wanted.id not in known or wanted.id in {base.__name__ for base in type(value).__mro__}
