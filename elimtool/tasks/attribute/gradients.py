"""Score spans by gradients: at the prompt, or along a path to it.

Sources: gradient x input, Shrikumar et al. 2016 (arXiv 1605.01713); integrated gradients, Sundararajan et
al. 2017 (arXiv 1703.01365).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from elimtool.model.gradients import InputGradients, Value, refuse_half, target_value
from elimtool.tasks.attribute.found import Found
from elimtool.tasks.attribute.subject import Subject

COMPLETE = 0.01
"""Completeness error, as a share of the difference, at which integration ends."""
NEGLIGIBLE = 1e-3
"""The same in nats, for prompts that hardly differ from their baseline."""
POINTS = 3
"""Gradients per interval, at the nodes of Gauss-Legendre quadrature."""
FIRST = 8
"""Intervals to begin with."""
BATCH_TOKENS = 512
"""Most tokens of one pass with gradients, which holds all activations."""


def gradient_x_input(subject: Subject) -> Found:
    """Score spans by gradient times input of the first block, summed over their tokens."""
    refuse_half(subject.model, "gradient-x-input")
    runs = InputGradients(subject.model, subject.one)
    scores = []
    for value in _values(subject):
        gradient = runs.at(runs.inputs[None], value)[0]
        scores.append(_by_span(subject, (gradient * runs.inputs).sum(-1)))
    tokens = runs.forward * len(subject.one.token_ids)
    return Found({None: torch.stack(scores, 1)}, runs.forward, tokens, [1] * len(scores))


def integrated_gradients(subject: Subject) -> Found:
    """Score spans by integrating the gradient on the straight path from mean embeddings to the prompt's.

    Sinks, the token read and tokens of no span keep the prompt's embeddings all along the path.
    """
    refuse_half(subject.model, "integrated-gradients")
    runs = InputGradients(subject.model, subject.one)
    moving = torch.zeros(len(subject.one.token_ids), 1, dtype=torch.bool, device=runs.inputs.device)
    moving[[token for span in subject.spans for token in span.tokens]] = True
    start = torch.where(moving, runs.neutral(), runs.inputs)
    scores, backward = [], []
    errors: list[float | int | None] = []
    samples: list[float | int | None] = []
    for value in _values(subject):
        before = runs.backward
        way = Way(runs, start, value)
        way.integrate(subject.options.steps)
        scores.append(_by_span(subject, way.total))
        backward.append(runs.backward - before)
        samples.append(way.samples)
        errors.append(None if way.difference == 0 else abs(way.error / way.difference))
    quality: dict[str, list[float | int | None]] = {"completeness_error": errors, "samples": samples}
    tokens = runs.forward * len(subject.one.token_ids)
    return Found({None: torch.stack(scores, 1)}, runs.forward, tokens, backward, quality=quality)


class Way:
    """The straight path from a baseline to a prompt, integrated piece by piece.

    By the fundamental theorem of calculus the gradient's integral over a piece is the value at its end minus
    that at its beginning, so the error of every piece is known, and the worst one is halved until the sum is
    complete.

    Args:
        runs: Computes gradients and values.
        start: The baseline.
        value: The value to attribute.
    """

    def __init__(self, runs: InputGradients, start: Tensor, value: Value) -> None:
        self.runs, self.start, self.value = runs, start, value
        self.step = runs.inputs - start
        self.samples = 0
        self.at: dict[float, float] = {}
        self.pieces: dict[tuple[float, float], Tensor] = {}
        nodes, weights = np.polynomial.legendre.leggauss(POINTS)
        self.nodes, self.weights = (nodes + 1) / 2, weights / 2

    @property
    def total(self) -> Tensor:
        """Attribution of each token: float64 [tokens]."""
        return torch.stack(list(self.pieces.values())).sum(0)

    @property
    def difference(self) -> float:
        """Value of the prompt minus that of the baseline."""
        return self.at[1.0] - self.at[0.0]

    @property
    def error(self) -> float:
        """Sum of all attributions minus the difference."""
        return float(self.total.sum()) - self.difference

    def integrate(self, most: int) -> None:
        """Add pieces until the sum is complete, or ``most`` gradients are taken."""
        borders = [index / FIRST for index in range(FIRST + 1)]
        self._look(borders)
        self._add(list(pairwise(borders)))
        while abs(self.error) > max(COMPLETE * abs(self.difference), NEGLIGIBLE):
            if self.samples + 2 * POINTS > most:
                return
            first, last = max(self.pieces, key=self._missing)
            middle = (first + last) / 2
            del self.pieces[first, last]
            self._look([middle])
            self._add([(first, middle), (middle, last)])

    def _missing(self, piece: tuple[float, float]) -> float:
        return abs(float(self.pieces[piece].sum()) - (self.at[piece[1]] - self.at[piece[0]]))

    def _points(self, where: Sequence[float]) -> list[Tensor]:
        """Interpolate the inputs at some places of the path, as many together as fit into one pass."""
        each = max(1, BATCH_TOKENS // len(self.start))
        shares = torch.tensor(where, dtype=self.start.dtype, device=self.start.device)[:, None, None]
        return [self.start + some * self.step for some in torch.split(shares, each)]

    def _look(self, where: Sequence[float]) -> None:
        values = torch.cat([self.runs.values(some, self.value) for some in self._points(where)])
        self.at.update(zip(where, values.tolist(), strict=True))

    def _add(self, pieces: Sequence[tuple[float, float]]) -> None:
        where = [first + (last - first) * node for first, last in pieces for node in self.nodes]
        slopes = []
        for some in self._points(where):
            gradient = self.runs.at(some, self.value)
            # per token, and float64 before the pieces are added: their errors decide when to stop
            slopes.append((gradient * self.step).sum(-1).double().cpu())
        along = torch.cat(slopes).reshape(len(pieces), POINTS, -1)
        for (first, last), part in zip(pieces, along, strict=True):
            self.pieces[first, last] = (last - first) * (torch.tensor(self.weights)[:, None] * part).sum(0)
        self.samples += len(where)


def _values(subject: Subject) -> list[Value]:
    foils = [foil.token_id for foil in subject.foils]
    return [target_value(target.token_id, foils) for target in subject.targets]


def _by_span(subject: Subject, by_token: Tensor) -> Tensor:
    """Sum attributions of tokens [tokens] over spans: float64 [spans]."""
    known = by_token.double().cpu()
    return torch.stack([known[list(span.tokens)].sum() for span in subject.spans])
