"""Hold the tokens that a sampler looks back on: the prompt's, and those generated since."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Int64
from torch import Tensor

Scope = Literal["all", "generated"]
Part = Literal["all", "generated", "prompt"]
Window = Literal["off", "all", "all_at_zero"]
WINDOWS: tuple[str, ...] = ("off", "all", "all_at_zero")
"""What a window of no positive length means: none, all of the text if negative, or if 0 too."""


@dataclass(frozen=True)
class History:
    """The tokens before the one to be sampled.

    Attributes:
        prompt: Token ids of the prompt, first to last.
        generated: Token ids generated since.
        rows: Other logits at this place, for stages that combine: ``against``, after a second prompt,
            [vocab]; ``layers``, read out after every layer, [layers, vocab].
    """

    prompt: tuple[int, ...] = ()
    generated: tuple[int, ...] = ()
    rows: Mapping[str, Tensor] = field(default_factory=dict, compare=False, repr=False)

    def window(self, scope: Part, last_n: int | None) -> tuple[int, ...]:
        """Return the last ``last_n`` tokens in scope; all for ``None``, none for 0 or less."""
        parts = {"all": self.prompt + self.generated, "generated": self.generated, "prompt": self.prompt}
        tokens = parts[scope]
        if last_n is None:
            return tokens
        return tokens[-last_n:] if last_n > 0 else ()


def window_length(last_n: int | None, negative: Window) -> int | None:
    """Return the length of a window, ``None`` for all tokens; engines differ in what one under 1 means."""
    least = {"off": float("-inf"), "all": 0, "all_at_zero": 1}[negative]
    return None if last_n is not None and last_n < least else last_n


def occurrences(
    windows: Sequence[Sequence[int]], vocab: int
) -> tuple[Int64[Tensor, "rows seen"], Int64[Tensor, "rows seen"]]:
    """Count the distinct tokens of each window.

    Returns:
        ``(tokens, counts)``, padded with token -1 and count 0; ids outside the vocabulary are left out.
    """
    counters = [Counter(t for t in window if 0 <= t < vocab) for window in windows]
    longest = max(map(len, counters), default=0)
    tokens = torch.full((len(windows), longest), -1, dtype=torch.int64)
    counts = torch.zeros((len(windows), longest), dtype=torch.int64)
    for row, seen in enumerate(counters):
        tokens[row, : len(seen)] = torch.tensor(list(seen.keys()), dtype=torch.int64)
        counts[row, : len(seen)] = torch.tensor(list(seen.values()), dtype=torch.int64)
    return tokens, counts
