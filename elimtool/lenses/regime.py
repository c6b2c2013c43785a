"""Judge the regime of a prediction: strong, balanced, familiar, or dysfunctional in one of four ways.

Predictions are compared with a reference set from text declared in distribution. The p-values are conformal:
they assume that the reference and the tested window are exchangeable, and no more (Vovk, Gammerman & Shafer
2005; Bates et al. 2023, arXiv 2104.08279).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import isnan, nan

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from elimtool.numerics.distributions import entropy, entropy_and_collision
from elimtool.numerics.transfer import arrays, sent

REGIMES = (
    "strong",
    "balanced",
    "familiar",
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

NGRAM = 4
"""Tokens of an n-gram whose repetition is counted, as in seq-rep-4 (Welleck et al., arXiv 1908.04319)."""

REPEATED = 0.5
"""Share of the recent n-grams that have occurred before from which a text that does not surprise is a
repetition. (On SmolLM2 at most 0.28 in 50 functions, and 0.15 in 100 chats; a full window of a loop: 1.)"""

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
        repetition: Share (float64) of the ``NGRAM``-grams ending in these tokens that have occurred before in
            the text; NaN where there is none.
    """

    mean: Float[Tensor, "rows"]
    n: Int[Tensor, "rows"]
    opening: Bool[Tensor, "rows"]
    repetition: Float[Tensor, "rows"]

    def at(self, rows: Int[Tensor, "some"]) -> Recent:
        """Select some of the positions."""
        return Recent(self.mean[rows], self.n[rows], self.opening[rows], self.repetition[rows])


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
    cross: Tensor = -(logprobs.exp() @ sent(prior, logprobs.device).to(logprobs))
    return (cross - entropy(logprobs)).clamp(min=0.0)  # rounding may leave it just below 0


def classify(
    agreement: float, high: float, low: float, gain: float, gain_q05: float, repetition: float
) -> str:
    """Choose the one of ``REGIMES`` that a position is in.

    Args:
        agreement: Collision probability of the output at temperature 1, before samplers.
        high: Conformal p-value of the recent surprisal being large.
        low: Conformal p-value of it being small.
        gain: Context gain (nats).
        gain_q05: Its 5 % quantile on the reference.
        repetition: Share of the recent n-grams that have occurred before; NaN without any.
    """
    # surprisal first: what an out-of-distribution text makes the model believe is not a strong prediction
    if high <= ALPHA:
        return f"dysfunctional:OOD-{'confident' if agreement >= STRONG else 'diffuse'}"
    if low <= ALPHA:
        # code, chats and known phrases surprise less than prose, which is no defect: only repetition is
        return "dysfunctional:resonant" if repetition >= REPEATED else "familiar"
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
    found = arrays(collision_and_gain(reference, logprobs))
    return judged(reference, torch.from_numpy(found["collision"]), torch.from_numpy(found["gain"]), recent)


def collision_and_gain(
    reference: ReferenceStatistics, logprobs: Float[Tensor, "rows vocab"]
) -> dict[str, Float[Tensor, "rows"]]:
    """Compute ``collision`` and context ``gain`` (nats) of output distributions (nats), on their device."""
    gain = context_gain(logprobs, reference.prior)
    return {"collision": entropy_and_collision(logprobs)[1], "gain": gain}


def judged(
    reference: ReferenceStatistics,
    collision: Float[Tensor, "rows"],
    gain: Float[Tensor, "rows"],
    recent: Recent,
) -> Judgement:
    """Judge positions by what ``collision_and_gain`` found; see ``regimes``."""
    high, low = p_values(reference, recent)
    columns = (collision, high, low, gain, recent.repetition)
    found = [
        ABSTAIN if isnan(above) else classify(agreement, above, below, gained, reference.gain_q05, repetition)
        for agreement, above, below, gained, repetition in zip(*(c.tolist() for c in columns), strict=True)
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


def counted(n_tokens: int, templated: Collection[int] = ()) -> Bool[Tensor, "tokens"]:
    """Return which tokens of a text count: all but the first ``UNSEEN`` and those that a template wrote."""
    counts = torch.ones(n_tokens, dtype=torch.bool)
    counts[:UNSEEN] = False
    counts[torch.tensor(sorted(templated), dtype=torch.long)] = False
    return counts


def recent_surprisal(
    ids: Sequence[int], surprisal: Float[Tensor, "tokens"], templated: Collection[int] = ()
) -> Recent:
    """Average the last ``WINDOW`` surprisals up to and with each token of a text, and count repetitions.

    Args:
        ids: Token ids of the text.
        surprisal: Surprisal (nats) of each token, from the first, given those before it. Tokens that do not
            count are ignored. Others may be NaN, and so is then every mean over them.
        templated: Tokens that a chat template wrote: they do not count, nor do n-grams with one of them.
    """
    counts = counted(len(ids), templated)
    place = counts.cumsum(0)
    mean = _mean_of_last(surprisal[counts].double().cpu())[place]
    again = torch.tensor(_repeats(ids, templated), dtype=torch.float64)[counts]
    repetition = _mean_of_last(again, skip=True)[place]
    return Recent(mean, place.clamp(max=WINDOW), place <= WINDOW, repetition)


def _mean_of_last(values: Float[Tensor, "n"], skip: bool = False) -> Float[Tensor, "ends"]:
    """Average the last ``WINDOW`` values, or all if there are fewer, up to each end 0 .. n; NaN for none.

    With ``skip`` NaN is left out, else it makes the mean NaN.
    """
    average = torch.nanmean if skip else torch.mean
    padded = [average(values[max(0, end - WINDOW) : end]) for end in range(min(len(values), WINDOW) + 1)]
    if len(values) > WINDOW:
        return torch.cat([torch.stack(padded), average(values[1:].unfold(0, WINDOW, 1), -1)])
    return torch.stack(padded)


def _repeats(ids: Sequence[int], templated: Collection[int]) -> list[float]:
    """Return for each token whether the n-gram that ends in it occurred before: 1, 0, or NaN without one."""
    seen: set[tuple[int, ...]] = set()
    found = []
    for end in range(1, len(ids) + 1):
        span = range(end - NGRAM, end)
        if span.start < 0 or any(token in templated for token in span):
            found.append(nan)
            continue
        gram = tuple(ids[span.start : end])
        found.append(float(gram in seen))
        seen.add(gram)
    return found
