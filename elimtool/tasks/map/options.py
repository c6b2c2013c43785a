"""Options of a map: which parts, and how much text they are measured on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from elimtool.analysis.map.named import WRITTEN
from elimtool.errors import ElimError, nearest

PARTS = ("roles", "categories", "distances", "redundancy", "neurons", "layers", "examples")
"""The parts of ``run.tables.findings.map.PART_TABLES``, without importing it: ``--help`` is to be quick."""
FEWEST_PASSAGES = 12
"""Passages without which no interval over them is worth printing."""
SHORTEST = 48
"""Fewest tokens of a passage: queries from 32 on, that have a past, are to be in it."""


@dataclass(frozen=True)
class MapOptions:
    """What is mapped, and on how much text.

    Attributes:
        only: Parts, in the order of ``PARTS``.
        passages: Most passages of the corpus that are read.
        tokens: Tokens of each passage, from its beginning; shorter passages are left out.
        categories: What tokens are labelled with, see ``elimtool.tasks.map.labels.Labels``.
    """

    only: tuple[str, ...] = PARTS
    passages: int = 32
    tokens: int = 128
    categories: tuple[str, ...] = WRITTEN

    def __post_init__(self) -> None:
        for one in self.only:
            if one not in PARTS:
                raise ElimError(f"`only`: there is no part '{one}' of a map", nearest(one, PARTS))
        if not self.only:
            raise ElimError("`only` names no part of a map", f"such as {PARTS[0]}")
        if self.passages < FEWEST_PASSAGES:
            raise ElimError(f"`passages` must be at least {FEWEST_PASSAGES}, got {self.passages}")
        if self.tokens < SHORTEST:
            raise ElimError(f"`tokens` must be at least {SHORTEST}, got {self.tokens}")

    @classmethod
    def of(cls, only: Iterable[str] | None = None, **others: Any) -> MapOptions:
        """Make options with the parts in the order of ``PARTS``, each once; ``None`` for all.

        Raises:
            ElimError: A value cannot be used.
        """
        named = tuple(dict.fromkeys(PARTS if only is None else only))
        return cls(tuple(sorted(named, key=lambda one: (one in PARTS and PARTS.index(one), one))), **others)

    @property
    def brought(self) -> dict[str, Any]:
        """Metrics of plugins: a map has none, as ``elimtool.tasks.batch.work.give_up`` is told."""
        return {}
