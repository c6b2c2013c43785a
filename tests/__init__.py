"""The run-time type checker of the tests: shapes and types as annotated, an int where a float is asked."""

from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype

Function = Callable[..., Any]

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
_local: dict[Any, Function] = {}


def checker(function: Function) -> Function:
    """Make the check of a signature, which jaxtyping gives as a function without a body.

    A function inside another is made anew at each call of that one; its check is the same, and made once.
    """
    if "<locals>" not in function.__qualname__ or function.__defaults__ or function.__kwdefaults__:
        return check(function)
    names = function.__code__.co_varnames
    hints = tuple((name, repr(hint)) for name, hint in function.__annotations__.items())
    key = (function.__module__, function.__qualname__, names, hints)
    if key not in _local:
        _local[key] = check(function)
    return _local[key]
