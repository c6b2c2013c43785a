"""Falloff: count the output's tokens by distance from the most probable one (table ``falloff``)."""

from __future__ import annotations

from hashlib import sha256
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from elimtool.metrics.columns import place
from elimtool.metrics.metric import Metric, ReadoutView
from elimtool.run.tables.falloff import EDGES, STEPS


class Falloff(Metric):
    """Counts the tokens within each distance of the most probable one, and sums their probabilities."""

    tables: ClassVar[tuple[str, ...]] = ("falloff",)

    def read(self, view: ReadoutView) -> None:
        """Count the tokens of some rows, of texts that are scored those of one row a text."""
        prompt, probe = (index.tolist() for index in view.rows)
        asked = [at for at, row in enumerate(zip(prompt, probe, strict=True)) if self._is_kept(*row)]
        if not asked:
            return
        part = max(1, self.settings.held_numbers // view.output.shape[1])
        counted = [falloff(view.output[asked[at : at + part]]) for at in range(0, len(asked), part)]
        counts, masses = (torch.cat(some).cpu().numpy() for some in zip(*counted, strict=True))
        self.filled["falloff"].append(
            {
                **place(self.batch, view.rows, np.array(asked, dtype=np.intp)),
                "n_within": list(counts.astype("int32")),
                "mass_within": list(masses.astype("float32")),
            }
        )

    def _is_kept(self, prompt: int, probe: int) -> bool:
        one = self.batch.encoded[prompt]
        return one.prompt.scored is None or probe == drawn(one.prompt_id, len(one.positions))


def drawn(name: str, count: int) -> int:
    """Draw one of some places of a text: the same one in every run, whatever stands beside it."""
    return int.from_bytes(sha256(name.encode()).digest()[:8]) % count


def falloff(
    logprobs: Float[Tensor, "rows vocab"],
) -> tuple[Int[Tensor, "rows edges"], Float[Tensor, "rows edges"]]:
    """Count the tokens at most i / ``STEPS`` nats below the largest, and sum their probabilities (float64).

    Args:
        logprobs: Log-probabilities (nats); minus infinity for what is impossible.

    Returns:
        For each row ``EDGES`` values and one of all tokens.
    """
    below = logprobs.max(-1, keepdim=True).values - logprobs
    edge = (below * STEPS).ceil().clamp(max=EDGES).long()
    shape = len(logprobs), EDGES + 1
    counts = torch.zeros(shape, dtype=torch.int64, device=logprobs.device)
    counts.scatter_add_(1, edge, torch.ones_like(edge))
    masses = torch.zeros(shape, dtype=torch.float64, device=logprobs.device)
    masses.scatter_add_(1, edge, logprobs.double().exp())
    return counts.cumsum(1), masses.cumsum(1)
