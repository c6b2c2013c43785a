"""Merge paths into a tree: what they share stands once, and each branch knows where a chain would cut it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import exp

from elimtool.files.rows import Row, Rows

SAMPLED = "sampled"
GIVEN = "given"


@dataclass(frozen=True, slots=True)
class PathCut:
    """Where a chain would cut a path: its first token there that the chain removes."""

    step: int
    token: str
    chain: str
    stage: str


@dataclass(frozen=True, slots=True)
class PathBranch:
    """A piece that some paths share, up to where they part.

    Attributes:
        depth: Pieces before it.
        text: Its text.
        prob: Probability of its first token in the output, where the paths part.
        paths: Names of the paths that go this way, and how many of each.
        cuts: Where chains cut it, each chain once; one that has cut before is not named again.
    """

    depth: int
    text: str
    prob: float
    paths: tuple[tuple[str, int], ...]
    cuts: tuple[PathCut, ...]


@dataclass(frozen=True, slots=True)
class _Known:
    """One path: its name, its tokens with their steps, and where each chain cuts it first."""

    name: str
    steps: Rows
    cuts: dict[int, tuple[PathCut, ...]]


def tree_of(steps: Rows, shown: Callable[[str, int], bool] = lambda *_: True) -> list[PathBranch]:
    """Make the tree of one prompt's paths, depth first, the likelier branch before the others.

    Args:
        steps: Its rows of ``path_steps``.
        shown: Whether a path, by its name and place, is to be in the tree.
    """
    known = [
        _known(name, list(rows))
        for (name, place), rows in groupby(steps, key=lambda row: (row["path"], row["place"]))
        if shown(name, place)
    ]
    return list(_branches(known, 0, 0))


def cuts_of(steps: Rows) -> list[PathCut]:
    """Find where each chain cuts a path first, the earliest cut first; nothing where all allow it."""
    found: dict[str, PathCut] = {}
    for row in sorted(steps, key=lambda row: int(row["step"])):
        if row["alive"] is False and row["chain"] not in found:
            found[row["chain"]] = PathCut(row["step"], row["token"], row["chain"], row["cut_stage"])
    return list(found.values())


def _known(name: str, rows: Rows) -> _Known:
    first = rows[0]["chain"]
    cuts = sorted(cuts_of(rows), key=lambda one: one.step)
    by_step = {step: tuple(some) for step, some in groupby(cuts, key=lambda one: one.step)}
    return _Known(name, [row for row in rows if row["chain"] == first], by_step)


def _branches(paths: Sequence[_Known], begun: int, depth: int) -> Iterator[PathBranch]:
    ways: dict[int, list[_Known]] = {}
    for path in paths:
        if begun < len(path.steps):
            ways.setdefault(path.steps[begun]["token_id"], []).append(path)
    for some in sorted(ways.values(), key=lambda some: -some[0].steps[begun]["logprob"]):
        end = begun + 1
        while len({_at(path, end) for path in some}) == 1 and end < len(some[0].steps):
            end += 1
        piece = some[0].steps[begun:end]
        counts = {
            name: sum(path.name == name for path in some) for name in dict.fromkeys(p.name for p in some)
        }
        yield PathBranch(
            depth,
            "".join(row["token"] for row in piece),
            exp(piece[0]["logprob"]),
            tuple(counts.items()),
            tuple(cut for step in range(begun, end) for cut in some[0].cuts.get(step, ())),
        )
        yield from _branches(some, end, depth + 1)


def _at(path: _Known, step: int) -> Row | None:
    return path.steps[step]["token_id"] if step < len(path.steps) else None
