"""Define the exception for everything that a user can fix, and the exit codes of commands."""

from __future__ import annotations

import ast
import reprlib
from collections import ChainMap
from collections.abc import Callable, Collection, Iterable, Mapping
from enum import IntEnum
from functools import wraps
from inspect import Parameter, signature, unwrap
from numbers import Integral, Real
from os import PathLike
from types import FunctionType, GenericAlias, UnionType
from typing import Any, Literal, TypeVar

T = TypeVar("T")


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


def guarded(call: Callable[..., Any], name: str, classes: Collection[str] = ()) -> Callable[..., Any]:
    """Refuse arguments of a public function whose type is not the annotated one, before it does anything.

    Args:
        call: The function; its annotations may name classes that are not imported.
        name: What to call it in messages.
        classes: Names in annotations that are classes, where they are not imported. Names that are not known
            either way are left to the function.
    """
    declared = signature(call)
    wanted = {key: ast.parse(str(one), mode="eval").body for key, one in call.__annotations__.items()}
    known = ChainMap(unwrap(call).__globals__, dict.fromkeys(classes))

    @wraps(call)
    def checked(*arguments: Any, **options: Any) -> Any:
        try:
            given = declared.bind(*arguments, **options).arguments
        except TypeError as error:
            takes = f"it takes: {', '.join(one for one in declared.parameters if one != 'self')}"
            raise ElimError(f"elimtool.{name}: {error}", takes) from error
        for key, value in given.items():
            packed = declared.parameters[key].kind in (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)
            if packed or key not in wanted:
                continue
            if (wrong := _wrong(name, key, value, wanted[key], known)) is not None:
                raise wrong
        return call(*arguments, **options)

    return checked


def checked_fields(made: type[T]) -> type[T]:
    """Refuse fields of a public dataclass whose type is not the annotated one, before they are used."""
    made.__init__ = guarded(made.__init__, made.__name__)  # type: ignore[method-assign]
    setattr(made, "__no_type_check__", True)  # noqa: B010  # by others, which raise errors of their own
    return made


def checked_methods(made: type[T]) -> type[T]:
    """Refuse arguments of a public class's methods whose type is not the annotated one, as its fields are."""
    for name, method in list(vars(made).items()):
        if isinstance(method, FunctionType) and not name.startswith("_"):
            setattr(made, name, guarded(method, f"{made.__name__}.{name}"))
    return made


def _wrong(call: str, key: str, value: Any, wanted: ast.expr, known: Mapping[str, Any]) -> ElimError | None:
    if _fits(value, wanted, known):
        words = _words(wanted, known)
        if not words or value in words:
            return None
        return ElimError(
            f"`{key}` must be {' or '.join(map(repr, words))}, got {value!r}", nearest(value, words)
        )
    annotation = ast.unparse(wanted)
    if isinstance(value, str) and "[str" in annotation and "Mapping" not in annotation:
        return ElimError(f"`{key}` must be a list of strings, got {value!r}", f"give [{value!r}]")
    return ElimError(
        f"`{key}` of elimtool.{call} must be {annotation}, got {type(value).__name__}: {reprlib.repr(value)}",
        f"see help(elimtool.{call})",
    )


_ABSTRACT = {"bool": bool, "int": Integral, "float": Real, "str": str, "Path": PathLike}
_ANYTHING = ("Any", "object")
_Alias = (UnionType, GenericAlias, type(Literal[""]))


def _spelt(alias: Any) -> ast.expr:
    return ast.parse(repr(alias), mode="eval").body


def _words(wanted: ast.expr, known: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the words of a ``Literal``, if it is nothing else."""
    if isinstance(alias := known.get(_name(wanted)), _Alias):
        wanted = _spelt(alias)
    if not isinstance(wanted, ast.Subscript) or _name(wanted.value) != "Literal":
        return ()
    listed = wanted.slice.elts if isinstance(wanted.slice, ast.Tuple) else [wanted.slice]
    return tuple(one.value for one in listed if isinstance(one, ast.Constant) and isinstance(one.value, str))


def _name(wanted: ast.expr) -> str:
    if isinstance(wanted, ast.Attribute):
        return wanted.attr
    return wanted.id if isinstance(wanted, ast.Name) else ""


def _fits(value: Any, wanted: ast.expr, known: Mapping[str, Any]) -> bool:
    """Whether a value is of an annotated type; items of lists and tuples too, but no iterator is used up."""
    if isinstance(wanted, ast.BinOp):
        return _fits(value, wanted.left, known) or _fits(value, wanted.right, known)
    if isinstance(wanted, ast.Constant):
        return value is None
    if isinstance(wanted, ast.Subscript):
        return _generic_fits(value, _name(wanted.value), wanted.slice, known)
    name = _name(wanted)
    if not name or name in _ANYTHING:
        return True
    if (abstract := _ABSTRACT.get(name)) is not None:
        return isinstance(value, abstract) and (abstract is bool or not isinstance(value, bool))
    found = known.get(name)
    if isinstance(found, type):
        return isinstance(value, found)
    if isinstance(found, _Alias):
        return _fits(value, _spelt(found), known)
    return name not in known or name in {base.__name__ for base in type(value).__mro__}


def _generic_fits(value: Any, name: str, of: ast.expr, known: Mapping[str, Any]) -> bool:
    if name == "Callable":
        return callable(value)
    if name in ("Mapping", "dict"):
        return isinstance(value, Mapping)
    if isinstance(value, str):  # not a list of its letters; a wrong word is told elsewhere
        return name == "Literal"
    if name == "tuple" and not isinstance(value, list | tuple | set | frozenset):
        return False  # an iterator would be empty when it is used
    several = isinstance(value, Iterable) and not isinstance(value, bytes)
    return several and name != "Literal" and _items_fit(value, of, known)


def _items_fit(value: Iterable[Any], of: ast.expr, known: Mapping[str, Any]) -> bool:
    if not isinstance(value, list | tuple | set | frozenset):
        return True  # an iterator is used once
    kinds = of.elts if isinstance(of, ast.Tuple) else [of]
    if not isinstance(of, ast.Tuple) or (isinstance(kinds[-1], ast.Constant) and kinds[-1].value is ...):
        kinds = kinds[:1] * len(value)
    return len(value) == len(kinds) and all(
        _fits(one, kind, known) for one, kind in zip(value, kinds, strict=True)
    )
