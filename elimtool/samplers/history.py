"""What a sampler knows of the past: the tokens of the prompt and those generated since."""

from __future__ import annotations

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


def counts(windows: Sequence[Sequence[int]], vocab: int, device: torch.device) -> Int64[Tensor, "rows vocab"]:
    """How often each token occurs in each window; ids outside the vocabulary are ignored."""
    longest = max((len(w) for w in windows), default=0)
    padded = torch.full((len(windows), longest), vocab, dtype=torch.int64)
    for row, window in enumerate(windows):
        padded[row, : len(window)] = torch.tensor(window, dtype=torch.int64)
    padded = padded.masked_fill((padded < 0) | (padded > vocab), vocab).to(device)
    table = torch.zeros((len(windows), vocab + 1), dtype=torch.int64, device=device)
    return table.scatter_add_(1, padded, torch.ones_like(padded))[:, :vocab]
