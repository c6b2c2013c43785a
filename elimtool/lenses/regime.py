"""Judge the regime of a prediction: strong, balanced, or dysfunctional in one of four ways.

Predictions are compared with a reference set from text declared in distribution. The p-values are conformal:
they assume that the reference and the tested window are exchangeable, and no more (Vovk, Gammerman & Shafer
2005; Bates et al. 2023, arXiv 2104.08279).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from elimtool.numerics.distributions import entropy, entropy_and_collision

REGIMES = (
    "strong",
    "balanced",
    "dysfunctional:OOD-confident",
    "dysfunctional:OOD-diffuse",
    "dysfunctional:resonant",
    "dysfunctional:weak-signal",
)

ABSTAIN = "abstain"
"""Given instead of a regime where none can be told."""

WINDOW = 32
"""Observed tokens whose mean surprisal is tested."""

ALPHA = 0.025
"""Level of each of the two one-sided tests."""

FEWEST = 199
"""Reference windows below which the test abstains. From 39 on a p-value can reach ``ALPHA``, but with so few
the share of ordinary text that one reference flags may be twice the nominal one."""

UNSEEN = 2
"""Tokens at the start of a text that do not count: nothing predicts the first, and the second is predicted
from the residual of the attention sink, which is not a prediction."""

LEAST = 8
"""Counted tokens below which the test abstains: with fewer, shuffled prose passes for prose too often. (On
SmolLM2, shuffled prose is flagged in 64 % of windows with 4 tokens, 74 % with 6, 95 % with 8.)"""

STRONG = 0.5
"""Collision probability from which a prediction is strong: two draws agree at least every other time."""


@dataclass(frozen=True, slots=True)
class ReferenceStatistics:
    """Statistics of a model on text that is declared in distribution.

    Attributes:
        surprisal: Mean surprisal (nats) of windows of ``WINDOW`` observed tokens, from many documents, after
            contexts of many lengths.
        openings: Mean surprisal (nats) of the first 1, 2, .. ``WINDOW`` counted tokens of windows, one a row;
            beginnings of texts, which have less context, are compared with it.
        prior: Logarithm of the mean of the model's output distributions, the context-free guess p_0.
        gain_q05: 5 % quantile of the context gain KL(p || p_0), in nats.
    """

    surprisal: Float[Tensor, "windows"]
    openings: Float[Tensor, "openings window"]
    prior: Float[Tensor, "vocab"]
    gain_q05: float


@dataclass(frozen=True, slots=True)
class Recent:
    """Surprisal of the text before some positions, up to and with the token at each.

    Attributes:
        mean: Mean surprisal (nats, float64) of the last ``WINDOW`` counted tokens, or of as many as there
            are; NaN for none.
        n: Their number, 0 .. ``WINDOW``.
        opening: Whether these are all the counted tokens from the start of the text.
    """

    mean: Float[Tensor, "rows"]
    n: Int[Tensor, "rows"]
    opening: Bool[Tensor, "rows"]

    def at(self, rows: Int[Tensor, "some"]) -> Recent:
        """Select some of the positions."""
        return Recent(self.mean[rows], self.n[rows], self.opening[rows])


@dataclass(frozen=True, slots=True)
class Judgement:
    """The regime of some positions, and the numbers that decided it.

    Attributes:
        regime: One of ``REGIMES``, or ``ABSTAIN``.
        high: Conformal p-value of the recent surprisal being large; NaN where the test abstains.
        low: Conformal p-value of it being small.
        collision: Chance that two draws from the output agree.
        gain: Context gain (nats).
    """

    regime: list[str]
    high: Float[Tensor, "rows"]
    low: Float[Tensor, "rows"]
    collision: Float[Tensor, "rows"]
    gain: Float[Tensor, "rows"]


def conformal(
    reference: Float[Tensor, "windows"], values: Float[Tensor, "rows"]
) -> tuple[Float[Tensor, "rows"], Float[Tensor, "rows"]]:
    """Compute conformal p-values of each value against a reference set, on either side.

    Returns:
        ``(high, low)``: (1 + number of reference values at least, or at most, as large) / (1 + windows),
        float64, 1 / (1 + windows) .. 1. Small ``high``: unusually large.
    """
    ordered = reference.double().sort().values
    wanted = values.to(ordered)
    n = len(ordered)
    below = torch.searchsorted(ordered, wanted.contiguous())
    up_to = torch.searchsorted(ordered, wanted.contiguous(), right=True)
    # 1 +: the tested value counts as one of its reference, so that no p-value is 0
    return (1 + n - below).double() / (1 + n), (1 + up_to).double() / (1 + n)


def context_gain(
    logprobs: Float[Tensor, "rows vocab"], prior: Float[Tensor, "vocab"]
) -> Float[Tensor, "rows"]:
    """Compute how much the context adds: KL(p || p_0) in nats, >= 0."""
    cross: Tensor = -(logprobs.exp() @ prior.to(logprobs))
    return (cross - entropy(logprobs)).clamp(min=0.0)  # rounding may leave it just below 0


def classify(agreement: float, high: float, low: float, gain: float, gain_q05: float) -> str:
    """Choose the one of ``REGIMES`` that a position is in.

    Args:
        agreement: Collision probability of the output at temperature 1, before samplers.
        high: Conformal p-value of the recent surprisal being large.
        low: Conformal p-value of it being small.
        gain: Context gain (nats).
        gain_q05: Its 5 % quantile on the reference.
    """
    # surprisal first: what an out-of-distribution text makes the model believe is not a strong prediction
    if high <= ALPHA:
        return f"dysfunctional:OOD-{'confident' if agreement >= STRONG else 'diffuse'}"
    if low <= ALPHA:
        return "dysfunctional:resonant"
    if agreement >= STRONG:
        return "strong"
    return "dysfunctional:weak-signal" if gain < gain_q05 else "balanced"


def regimes(
    reference: ReferenceStatistics, logprobs: Float[Tensor, "rows vocab"], recent: Recent
) -> Judgement:
    """Judge positions; abstain with fewer than ``LEAST`` counted tokens or ``FEWEST`` reference windows.

    Args:
        reference: From the lens's fit.
        logprobs: The model's own output distributions (nats).
        recent: Surprisal up to each position.

    Returns:
        One row a position.
    """
    high, low = p_values(reference, recent)
    collision, gain = entropy_and_collision(logprobs)[1], context_gain(logprobs, reference.prior)
    rows = zip(*(column.tolist() for column in (high, low, collision, gain)), strict=True)
    found = [
        ABSTAIN if isnan(above) else classify(agreement, above, below, gained, reference.gain_q05)
        for above, below, agreement, gained in rows
    ]
    return Judgement(found, high, low, collision, gain)


def p_values(
    reference: ReferenceStatistics, recent: Recent
) -> tuple[Float[Tensor, "rows"], Float[Tensor, "rows"]]:
    """Compute ``(high, low)`` conformal p-values of recent surprisals; NaN where the test abstains.

    A text's opening is compared with openings of the same length, later tokens with windows after contexts
    of all lengths.
    """
    high = torch.full(recent.mean.shape, torch.nan, dtype=torch.float64)
    low = high.clone()
    means, counts, opening = recent.mean.cpu(), recent.n.cpu(), recent.opening.cpu()
    for n in range(LEAST, WINDOW + 1):
        compared = [(opening & (counts == n), reference.openings[:, n - 1])]
        if n == WINDOW:
            compared.append((~opening, reference.surprisal))
        for rows, values in compared:
            if bool(rows.any()) and len(values) >= FEWEST:
                high[rows], low[rows] = conformal(values, means[rows])
    return high, low


def recent_surprisal(surprisal: Float[Tensor, "tokens"]) -> Recent:
    """Average the last ``WINDOW`` surprisals up to and with each token of a text.

    Args:
        surprisal: Surprisal (nats) of each token of a text, from the first, given those before it. The first
            ``UNSEEN`` are ignored. Others may be NaN, and so is then every mean over them.
    """
    counted = surprisal[UNSEEN:].double()
    place = torch.arange(len(surprisal), device=surprisal.device) - UNSEEN + 1
    mean = torch.full((len(surprisal),), torch.nan, dtype=torch.float64, device=surprisal.device)
    first = counted[:WINDOW]
    mean[UNSEEN : UNSEEN + len(first)] = first.cumsum(0) / place[UNSEEN : UNSEEN + len(first)]
    if len(counted) > WINDOW:
        mean[UNSEEN + WINDOW :] = counted[1:].unfold(0, WINDOW, 1).mean(-1)
    return Recent(mean, place.clamp(0, WINDOW), place <= WINDOW)
