"""Compare texts with what a check or a condition asks of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from elimtool.analysis.check.spec import Check, Condition


def fits(seen: str, one_of: tuple[str, ...], wanted: Check | Condition) -> Iterator[bool]:
    """Iterate over whether a text is, contains and matches what is asked for, each if it is asked for.

    Blanks at the ends do not count for ``is``: what a model writes begins with one as a rule.
    """
    if one_of:
        yield seen in one_of or seen.strip() in {one.strip() for one in one_of}
    if wanted.contains:
        yield all(one in seen for one in wanted.contains)
    if wanted.matches is not None:
        yield re.search(wanted.matches, seen) is not None


def expected(one_of: tuple[str, ...], wanted: Check | Condition) -> Iterator[str]:
    """Say what ``fits`` looks for, in the same order."""
    if one_of:
        yield either(one_of)
    if wanted.contains:
        yield f"a text that contains {' and '.join(map(repr, wanted.contains))}"
    if wanted.matches is not None:
        yield f"a text that matches {wanted.matches!r}"


def either(texts: tuple[str, ...]) -> str:
    """List texts of which one is enough."""
    return " or ".join(f"'{text}'" for text in texts)
