"""Align two tokenised prompts: which token corresponds to which.

Tokens are matched by the longest blocks that both prompts share (difflib's Ratcliff-Obershelp matching), so
insertions and deletions do not shift the rest. Where the same text was split differently, tokens that end at
the same character are paired: a causal model has read the same text there.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby, takewhile
from typing import Literal

from elimtool.files.rows import Rows

Operation = Literal["equal", "replace", "delete", "insert"]

_UNIT = re.compile(r"\w+|\W")
_ORDER = {"delete": 1, "insert": 2}


@dataclass(frozen=True, slots=True)
class Aligned:
    """A token, or a pair of corresponding tokens.

    Attributes:
        operation: ``equal`` and ``replace`` have both indices, ``delete`` has ``index_a``, ``insert``
            ``index_b``.
        index_a: Token of A, from 0.
        index_b: Token of B, from 0.
    """

    operation: Operation
    index_a: int | None
    index_b: int | None


@dataclass(frozen=True, slots=True)
class Alignment:
    """Which tokens of two prompts correspond.

    Attributes:
        rows: Every token of both prompts once, in order; the last row pairs the two last tokens.
        prefix: Number of leading tokens that are the same in both, 0 .. the shorter length.
    """

    rows: tuple[Aligned, ...]
    prefix: int

    @property
    def matched(self) -> tuple[tuple[int, int], ...]:
        """Indices ``(a, b)`` of equal tokens, rising in both."""
        pairs = [(row.index_a, row.index_b) for row in self.rows if row.operation == "equal"]
        return tuple((a, b) for a, b in pairs if a is not None and b is not None)

    def as_rows(self, pair_id: str, a: Sequence[str], b: Sequence[str]) -> Rows:
        """Make rows of the table ``alignment``.

        Args:
            pair_id: Which pair.
            a: Texts of A's tokens.
            b: Those of B.
        """
        return [
            {
                "pair_id": pair_id,
                "operation": row.operation,
                "index_a": row.index_a,
                "index_b": row.index_b,
                "token_a": None if row.index_a is None else a[row.index_a],
                "token_b": None if row.index_b is None else b[row.index_b],
            }
            for row in self.rows
        ]

    @property
    def edited_a(self) -> tuple[int, ...]:
        """Tokens of A that differ from their counterpart in B or have none."""
        return tuple(r.index_a for r in self.rows if r.operation != "equal" and r.index_a is not None)

    @property
    def edited_b(self) -> tuple[int, ...]:
        """Tokens of B that differ from their counterpart in A or have none."""
        return tuple(r.index_b for r in self.rows if r.operation != "equal" and r.index_b is not None)


def align(
    a: Sequence[str],
    b: Sequence[str],
    ids: tuple[Sequence[int], Sequence[int]] | None = None,
) -> Alignment:
    """Align two prompts token by token.

    Swapping the prompts swaps the indices, and ``delete`` with ``insert``, and nothing else.

    Args:
        a: Texts of A's tokens, at least one.
        b: Texts of B's tokens, at least one.
        ids: Their vocabulary ids if both come from one tokenizer; without, equal texts are equal tokens.

    Raises:
        ValueError: A prompt has no token.
    """
    if not a or not b:
        raise ValueError("a prompt without tokens cannot be aligned")
    keys_a: list[Hashable] = list(a if ids is None else zip(ids[0], a, strict=True))
    keys_b: list[Hashable] = list(b if ids is None else zip(ids[1], b, strict=True))
    same = takewhile(lambda pair: pair[0] == pair[1], zip(keys_a, keys_b, strict=False))
    prefix = sum(1 for _ in same)
    start = min(prefix, len(a) - 1, len(b) - 1)
    # difflib breaks ties by which side comes first: always align in one order, so that a swap changes nothing
    swapped = repr(keys_b) < repr(keys_a)
    inner = _inner(b, a, keys_b, keys_a, start) if swapped else _inner(a, b, keys_a, keys_b, start)
    rows = [_exchanged(row) for row in inner] if swapped else list(inner)
    final: Operation = "equal" if keys_a[-1] == keys_b[-1] else "replace"
    first = (Aligned("equal", k, k) for k in range(start))
    return Alignment((*first, *_in_order(rows), Aligned(final, len(a) - 1, len(b) - 1)), prefix)


def _inner(
    a: Sequence[str],
    b: Sequence[str],
    keys_a: Sequence[Hashable],
    keys_b: Sequence[Hashable],
    start: int,
) -> Iterator[Aligned]:
    """Align all tokens from ``start`` on except the last of each side."""
    matcher = SequenceMatcher(None, keys_a[start:-1], keys_b[start:-1], autojunk=False)
    for operation, *bounds in matcher.get_opcodes():
        a1, a2, b1, b2 = (start + bound for bound in bounds)
        if operation == "equal":
            yield from (Aligned("equal", a1 + k, b1 + k) for k in range(a2 - a1))
        else:
            for i, j in _paired(a[a1:a2], b[b1:b2]):
                yield _row(None if i is None else a1 + i, None if j is None else b1 + j)


def _in_order(rows: Sequence[Aligned]) -> Iterator[Aligned]:
    """Put deletions before insertions in each gap between paired tokens."""
    for _, group in groupby(rows, lambda row: row.operation in ("delete", "insert")):
        yield from sorted(group, key=lambda row: _ORDER.get(row.operation, 0))


def _row(index_a: int | None, index_b: int | None) -> Aligned:
    if index_a is None:
        return Aligned("insert", None, index_b)
    return Aligned("delete" if index_b is None else "replace", index_a, index_b)


def _paired(a: Sequence[str], b: Sequence[str]) -> Iterator[tuple[int | None, int | None]]:
    """Pair the tokens of two stretches without an equal token by the character that they end at."""
    done_a = done_b = 0
    for i, j in [*_same_ends(a, b), (len(a), len(b))]:
        yield from _from_the_right(done_a, i, done_b, j)
        if i < len(a):
            yield i, j
        done_a, done_b = i + 1, j + 1


def _from_the_right(a1: int, a2: int, b1: int, b2: int) -> Iterator[tuple[int | None, int | None]]:
    """Pair tokens between two anchors from the right; those left over at the front have no counterpart."""
    both = min(a2 - a1, b2 - b1)
    yield from ((i, None) for i in range(a1, a2 - both))
    yield from ((None, j) for j in range(b1, b2 - both))
    yield from ((a2 - both + k, b2 - both + k) for k in range(both))


def _same_ends(a: Sequence[str], b: Sequence[str]) -> list[tuple[int, int]]:
    """Find pairs of tokens that end at the same character of text that both stretches share."""
    if not a or not b:
        return []
    units_a, units_b = _units(a), _units(b)
    ends_b = _ends(b)
    same: dict[int, int] = {}
    matcher = SequenceMatcher(None, [u for u, _ in units_a], [u for u, _ in units_b], autojunk=False)
    for block in matcher.get_matching_blocks():
        for k in range(block.size):
            text, start_a = units_a[block.a + k]
            start_b = units_b[block.b + k][1]
            same.update((start_a + n, start_b + n) for n in range(len(text)))
    pairs = ((i, ends_b.get(same.get(end, -1))) for end, i in _ends(a).items())
    return [(i, j) for i, j in pairs if j is not None]


def _units(tokens: Sequence[str]) -> list[tuple[str, int]]:
    """Split a stretch into words and single other characters, with the index where each begins."""
    return [(found[0], found.start()) for found in _UNIT.finditer("".join(tokens))]


def _ends(tokens: Sequence[str]) -> dict[int, int]:
    """Map the index of each token's last character within the stretch to the token."""
    ends: dict[int, int] = {}
    at = 0
    for index, token in enumerate(tokens):
        at += len(token)
        if token:
            ends[at - 1] = index
    return ends


def _exchanged(row: Aligned) -> Aligned:
    found = _row(row.index_b, row.index_a)
    return Aligned("equal", found.index_a, found.index_b) if row.operation == "equal" else found
