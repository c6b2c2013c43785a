"""Run what the prompts of a pass begin with alike once: their tokens side by side, each of a prefix tree.

Everything that a layer does to a token by itself (projections, norms, MLPs, mixtures of experts) is done once
for all prompts that begin alike up to it. Attention alone sees the prompts one under the other, as without:
queries, keys and values are laid out for it, and its output is taken back. So windows, soft caps and learned
scores are what they are, every position can be probed, and padding costs nothing but there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from elimtool.numerics.transfer import sent

PAYS = 0.9
"""Share of a pass's token slots, padding included, up to which running fewer of them is worth the copies."""


@dataclass(frozen=True)
class Packing:
    """The tokens of a pass that run, and where each token of each prompt is among them.

    Attributes:
        ids: Their ids.
        positions: Their positions in their prompts.
        place: Where each prompt's tokens are among them; padding is anywhere.
        source: For each of them a place in prompts x keys where it is.
    """

    ids: Int[Tensor, "1 run"]
    positions: Int[Tensor, "1 run"]
    place: Int[Tensor, "batch keys"]
    source: Int[Tensor, " run"]

    @classmethod
    def of(cls, texts: Sequence[Sequence[int]], device: torch.device) -> Packing:
        """Put the prefix tree of some texts in a row.

        Args:
            texts: Token ids of each prompt, at least one.
            device: Where the model expects them.
        """
        order, shared = ordered(texts)
        lengths = np.array([len(texts[at]) for at in order])
        keys = np.arange(lengths.max())
        new = (keys >= np.array(shared)[:, None]) & (keys < lengths[:, None])
        number = np.where(new, new.cumsum().reshape(new.shape) - 1, -1)
        place = np.zeros(new.shape, np.int64)
        # what is not new in a text is where it is in the one before
        place[order] = np.maximum.accumulate(number, 0).clip(min=0)
        rows, positions = new.nonzero()
        own = zip(order, shared, strict=True)
        ids = [token for at, begun in own for token in texts[at][begun:]]
        source = np.array(order)[rows] * len(keys) + positions
        made = (torch.tensor([ids]), positions[None], place, source)
        return cls(*(sent(torch.as_tensor(one), device) for one in made))

    def on(self, device: torch.device) -> Packing:
        """Return it with its indices on a device."""
        parts = (self.ids, self.positions, self.place, self.source)
        return Packing(*(one.to(device) for one in parts))

    @property
    def options(self) -> dict[str, Any]:
        """What the model is called with, so that it takes the row for one text with these positions."""
        # a mask of ones: without any, transformers would part the row where positions begin again
        return {"position_ids": self.positions, "attention_mask": torch.ones_like(self.ids)}

    def laid_out(self, heads: Float[Tensor, "1 heads run size"]) -> Float[Tensor, "batch heads keys size"]:
        """Lay out queries, keys or values prompt by prompt."""
        rows = heads[0].transpose(0, 1)
        return rows[self.place].transpose(1, 2)

    def taken_back(
        self, outputs: Float[Tensor, "batch keys heads size"]
    ) -> Float[Tensor, "1 run heads size"]:
        """Take the output of attention back to the tokens that run."""
        return outputs.flatten(0, 1).index_select(0, self.source)[None]


def saves(texts: Sequence[Sequence[int]]) -> int:
    """Count the tokens that packing texts saves.

    Returns:
        0 where that is not worth the copies, and where one of the texts is not known.
    """
    if len(texts) < 2 or not all(texts):
        return 0
    lengths, shared = [len(text) for text in texts], sum(ordered(texts)[1])
    return shared if sum(lengths) - shared <= PAYS * max(lengths) * len(lengths) else 0


def ordered(texts: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
    """Order texts as a prefix tree has them, and count the tokens that each begins with like the one before.

    Returns:
        Indices into ``texts``, and for each in that order the tokens shared with its predecessor, 0 for the
        first. The tokens that are not shared are those of the tree.
    """
    order = sorted(range(len(texts)), key=lambda at: tuple(texts[at]))  # stable: equal texts in input order
    shared = [0]
    for one, two in pairwise(order):
        pairs = zip(texts[one], texts[two], strict=False)
        shared.append(next((at for at, (a, b) in enumerate(pairs) if a != b), len(texts[one])))
    return order, shared
