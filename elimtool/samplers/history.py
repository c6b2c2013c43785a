"""What a sampler knows of the past: the tokens of the prompt and those generated since."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Int64
from torch import Tensor

Scope = Literal["all", "generated"]


@dataclass(frozen=True)
class History:
    """Tokens before the one to be sampled.

    Attributes:
        prompt: Token ids of the prompt, first to last.
        generated: Token ids generated since.
    """

    prompt: tuple[int, ...] = ()
    generated: tuple[int, ...] = ()

    def window(self, scope: Scope, last_n: int | None) -> tuple[int, ...]:
        """The last ``last_n`` tokens in scope; all of them for ``None``, none for 0 or less."""
        tokens = self.prompt + self.generated if scope == "all" else self.generated
        if last_n is None:
            return tokens
        return tokens[-last_n:] if last_n > 0 else ()


def occurrences(
    windows: Sequence[Sequence[int]], vocab: int
) -> tuple[Int64[Tensor, "rows seen"], Int64[Tensor, "rows seen"]]:
    """The distinct tokens of each window and how often each occurs.

    Returns:
        ``(tokens, counts)``, padded with token -1 and count 0; ids outside the vocabulary are left out.
    """
    found = [Counter(t for t in window if 0 <= t < vocab) for window in windows]
    longest = max((len(f) for f in found), default=0)
    tokens = torch.full((len(windows), longest), -1, dtype=torch.int64)
    counts = torch.zeros((len(windows), longest), dtype=torch.int64)
    for row, seen in enumerate(found):
        tokens[row, : len(seen)] = torch.tensor(list(seen.keys()), dtype=torch.int64)
        counts[row, : len(seen)] = torch.tensor(list(seen.values()), dtype=torch.int64)
    return tokens, counts
