"""Numbers of attention's layers, reduced over keys, before columns are made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

PROBES = (2, 2, 3, 3, 2)
"""The axis of probes in each of the kinds of ``Reduced``."""

Numbers = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """What is known of a layer beside its numbers.

    Attributes:
        layer: Its index.
        null: Whether it gives attention to no key.
        no_weights: Why it has no attention weights; ``None`` if it has.
        unread: Why what its heads carry cannot be read; ``None`` if it can.
        flaw: Says why its update is not the sum of its parts, see ``Block.flaw``.
    """

    layer: int
    null: bool
    no_weights: str | None
    unread: str | None
    flaw: Callable[[], str | None] | None


@dataclass(frozen=True, slots=True)
class Reduced:
    """Numbers of some layers by column: of spans, whole rows, heads and spans, heads, other parts.

    Axes are layers, batch, (heads,) probes, (spans or more).
    """

    spans: Mapping[str, Any]
    wholes: Mapping[str, Any]
    heads: Mapping[str, Any]
    each: Mapping[str, Any]
    parts: Mapping[str, Any]

    @property
    def kinds(self) -> tuple[Mapping[str, Any], ...]:
        """All five."""
        return self.spans, self.wholes, self.heads, self.each, self.parts

    @classmethod
    def joined(cls, found: Sequence[Reduced]) -> Reduced:
        """Join the tensors of some probes each."""
        if len(found) == 1:
            return found[0]
        kinds = zip(*(one.kinds for one in found), strict=True)
        return cls(
            *(
                {key: torch.cat([one[key] for one in kind], axis) for key in kind[0]}
                for kind, axis in zip(kinds, PROBES, strict=True)
            )
        )

    def named(self) -> dict[tuple[int, str], Any]:
        """Return all by kind and column."""
        return {(at, key): one for at, kind in enumerate(self.kinds) for key, one in kind.items()}

    @classmethod
    def of(cls, found: Mapping[tuple[int, str], Any]) -> Reduced:
        """Undo ``named``."""
        kinds = range(len(PROBES))
        return cls(*({key: one for (at, key), one in found.items() if at == kind} for kind in kinds))

    @classmethod
    def whole(cls, found: Sequence[Reduced]) -> Reduced:
        """Join the tensors of some layers each."""
        if len(found) == 1:
            return found[0]
        kinds = zip(*(one.kinds for one in found), strict=True)
        return cls(*({key: torch.cat([one[key] for one in kind]) for key in kind[0]} for kind in kinds))
