"""Read what a model predicts after several endings of one text; its beginning is run once if it can be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float64
from torch import Tensor

from elimtool.model.prefix import Ending, Keys, Prefix, window
from elimtool.model.view import NOBODY, Batch, LayerView

if TYPE_CHECKING:
    from elimtool.model.model import Model

MOST_TOKENS = 4096
"""Most tokens of one pass over whole texts, padding included, unless one text alone has more."""


class Endings:
    """One text and what a model predicts after beginnings of it that end otherwise.

    Args:
        model: The model, without interventions.
        ids: The text, at least one token.
        kept: Its keys and values, if another pass has kept them.
    """

    def __init__(self, model: Model, ids: Sequence[int], kept: Keys | None = None) -> None:
        self.model = model
        self.ids = tuple(ids)
        self._kept = kept

    @cached_property
    def _prefix(self) -> Prefix | None:
        if not continues(self.model, len(self.ids)):
            return None
        return Prefix(self.model, self.ids) if self._kept is None else Prefix.of(self.model, self._kept)

    def after(self, endings: Sequence[Ending]) -> Float64[Tensor, "endings vocab"]:
        """Compute log-probabilities (nats) of the whole vocabulary after each ending.

        Args:
            endings: How many of the text's tokens to keep, and the tokens behind them, at least one.
        """
        if not endings:
            return torch.zeros(0, self.model.vocab, dtype=torch.float64)
        if self._prefix is not None:
            return self._prefix.log_probabilities(endings, range(self.model.vocab))
        return after_each(self.model, [self.ids[:kept] + tuple(own) for kept, own in endings])


def continues(model: Model, length: int) -> bool:
    """Tell whether other endings of a text of so many tokens can go on from its keys and values."""
    shortest = window(model)
    # keys that a window has dropped are not there for a shorter beginning
    return model.shares_prefixes and (shortest is None or shortest >= length)


def after_each(model: Model, texts: Sequence[Sequence[int]]) -> Float64[Tensor, "texts vocab"]:
    """Compute log-probabilities (nats) of the whole vocabulary after each of some texts, each run whole."""
    order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
    found: dict[int, Tensor] = {}
    while order:
        count = 1
        while count < len(order) and (count + 1) * len(texts[order[count]]) <= MOST_TOKENS:
            count += 1
        some, order = order[:count], order[count:]
        found |= zip(some, _together(model, [texts[at] for at in some]), strict=True)
    return torch.stack([found[at] for at in range(len(texts))])


def _together(model: Model, texts: Sequence[Sequence[int]]) -> Float64[Tensor, "texts vocab"]:
    encoded = [replace(NOBODY, token_ids=tuple(ids), positions=(len(ids) - 1,)) for ids in texts]
    batch = Batch.of(encoded, model.device)
    last: list[Tensor] = []

    def keep(view: LayerView) -> None:
        last[:] = [view.residual[:, 0]]

    model.stream(batch, (), keep)
    return torch.log_softmax(model.readout(last[0]).double(), -1).cpu()
