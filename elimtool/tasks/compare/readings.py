"""Store the readings of one model's layers on disk until the model that it is compared with has run.

Neither both models nor the distributions of many prompts need then be in memory at once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from elimtool.metrics.metric import ReadoutView, Settings
from elimtool.model.view import Batch
from elimtool.numerics.ranking import nucleus
from elimtool.numerics.shapes import SURVIVORS
from elimtool.tasks.compare.divergence import Divergence, LastResiduals, Reading, diverge

if TYPE_CHECKING:
    from elimtool.model.model import Model

KEPT_BYTES = 4 * 2**30
"""Most bytes of distributions stored on disk; those of further prompts are not stored."""

PER_TOKEN = 5
"""Bytes per token and layer: a float32 and a bool."""


class Readings:
    """Readings of a model's layers at the last probed position of prompts.

    Args:
        model: The model.
        lens: Name of the lens that reads its layers.
        ids: Ids of the prompts; as many of the first ones as fit are stored.
    """

    def __init__(self, model: Model, lens: str, ids: Sequence[str]) -> None:
        self.lens = lens
        self.layers, self.width, self.vocab = model.n_layers + 1, model.width, model.vocab
        room = max(1, KEPT_BYTES // (self.layers * self.vocab * PER_TOKEN))
        self.places = {prompt_id: place for place, prompt_id in enumerate(ids[:room])}
        self.left_out = max(0, len(ids) - room)
        self.residuals: dict[str, Tensor] = {}
        self._files = [tempfile.TemporaryFile(prefix="elimtool-compare-") for _ in range(2)]  # noqa: SIM115
        shape = len(self.places), self.layers, self.vocab
        if self.places:
            self._logprobs = np.memmap(self._files[0], dtype=np.float32, mode="w+", shape=shape)
            self._nucleus = np.memmap(self._files[1], dtype=np.bool_, mode="w+", shape=shape)

    def reader(self, batch: Batch, _settings: Settings) -> Reader:
        """Make a metric that stores the readings of one pass, for ``extra`` of ``tasks.trace.traced``."""
        return Reader(self, batch)

    def keep(
        self, prompt_id: str, residual: Float[Tensor, "layers width"], logits: Float[Tensor, "layers vocab"]
    ) -> None:
        """Store one prompt's reading, if there is room for it."""
        if (place := self.places.get(prompt_id)) is None:
            return
        logprobs = torch.log_softmax(logits, -1)
        self.residuals[prompt_id] = residual.cpu()
        self._logprobs[place] = logprobs.float().cpu().numpy()
        self._nucleus[place] = nucleus(logprobs, SURVIVORS).cpu().numpy()

    def of(self, prompt_id: str) -> Reading:
        """Load the reading of one prompt."""
        place = self.places[prompt_id]
        logprobs = torch.from_numpy(np.array(self._logprobs[place]))
        nucleus = torch.from_numpy(np.array(self._nucleus[place]))
        return Reading(self.residuals[prompt_id], logprobs[-1], logprobs, nucleus)

    def close(self) -> None:
        """Free the disk space."""
        for file in self._files:
            file.close()


class Reader(LastResiduals):
    """Stores the readings at the last probed position of each prompt in a pass; fills no table."""

    def __init__(self, readings: Readings, batch: Batch) -> None:
        # not -1: shorter rows of the pass are padded
        super().__init__([len(one.positions) - 1 for one in batch.encoded])
        self.readings = readings

    def read(self, view: ReadoutView) -> None:
        """Store the readings of the prompts' last probed positions."""
        for row, (prompt, probe) in enumerate(zip(*(index.tolist() for index in view.rows), strict=True)):
            if probe == self.probes[prompt]:
                residual = torch.stack([layer[prompt] for layer in self.kept])
                self.readings.keep(view.batch.encoded[prompt].prompt_id, residual, view.logits[:, row])


def rows_apart(
    pair_id: str, a: Reading, b: Reading, *, same_vocabulary: bool, same_lens: bool
) -> list[Mapping[str, Any]]:
    """Make rows of the table ``divergence`` for one pair; of the outputs only, if the depths differ.

    Args:
        pair_id: The pair.
        a: Side A.
        b: Side B.
        same_vocabulary: Whether token ids mean the same; if not, ``js`` and ``jaccard`` are null.
        same_lens: Whether the same lens reads both sides; if not, they are null but for the output.
    """
    deep = len(a.residual) == len(b.residual)
    if not deep:
        a, b = (
            replace(one, residual=one.residual[-1:], logprobs=one.logprobs[-1:], nucleus=one.nucleus[-1:])
            for one in (a, b)
        )
    wide = a.residual.shape[-1] == b.residual.shape[-1]
    if not wide:  # a stand-in: the distances of residual streams are left out below
        a, b = (replace(one, residual=torch.zeros(len(one.residual), 1)) for one in (a, b))
    if not same_vocabulary:
        a, b = (_without_tokens(one) for one in (a, b))
    found: Divergence = diverge(a, b)
    last = len(found.js) - 1
    rows: list[Mapping[str, Any]] = []
    for index in range(last + 1):
        readable = same_vocabulary and (same_lens or index == last)
        rows.append(
            {
                "pair_id": pair_id,
                "layer": index - 1 if deep else None,
                "cosine_distance": found.cosine_distance[index] if wide else None,
                "relative_l2": found.relative_l2[index] if wide else None,
                "js": found.js[index] if readable else None,
                "jaccard": found.jaccard[index] if readable else None,
                "band": None,
                "beyond": None,
            }
        )
    return rows


def _without_tokens(one: Reading) -> Reading:
    """Replace the distributions by those of one token: a stand-in where vocabularies cannot be compared."""
    layers = len(one.residual)
    inside = torch.ones(layers, 1, dtype=torch.bool)
    return Reading(one.residual, torch.zeros(1), torch.zeros(layers, 1), inside)
