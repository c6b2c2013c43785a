"""In which regime a prediction is made: strong, balanced, or one of four ways to be dysfunctional.

Takes distributions, surprisals and a reference set from text declared in distribution; gives a word per
position. The p-values are conformal: they assume that the reference and the tested window are
exchangeable, and no more (Vovk, Gammerman & Shafer 2005; Bates et al. 2023, arXiv 2104.08279).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from elimtool.numerics import entropy, entropy_and_collision

REGIMES = (
    "strong",
    "balanced",
    "dysfunctional:OOD-confident",
    "dysfunctional:OOD-diffuse",
    "dysfunctional:resonant",
    "dysfunctional:weak-signal",
    "abstain",
)

WINDOW = 32
"""Observed tokens whose mean surprisal is tested."""

ALPHA = 0.025
"""Level of each of the two one-sided tests."""

FEWEST = 39
"""Reference windows below which no p-value can reach ``ALPHA``: (1 + 0) / (1 + 39)."""

STRONG = 0.5
"""Collision probability from which a prediction is strong: two draws agree at least every other time."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What text that is declared in distribution looks like to the model.

    Attributes:
        surprisal: Mean surprisal (nats) of windows of ``WINDOW`` observed tokens, from many documents.
        prior: Logarithm of the mean of the model's output distributions, the context-free guess p_0.
        gain_q05: 5 % quantile of the context gain KL(p || p_0), in nats.
    """

    surprisal: Float[Tensor, "windows"]
    prior: Float[Tensor, "vocab"]
    gain_q05: float


def conformal(
    reference: Float[Tensor, "windows"], values: Float[Tensor, "rows"]
) -> tuple[Float[Tensor, "rows"], Float[Tensor, "rows"]]:
    """Conformal p-values of each value against a reference set, on either side.

    Returns:
        ``(high, low)``: (1 + number of reference values at least, or at most, as large) / (1 + windows),
        float64, 1 / (1 + windows) .. 1. Small ``high``: unusually large.
    """
    ordered = reference.double().sort().values
    wanted = values.to(ordered)
    n = len(ordered)
    below = torch.searchsorted(ordered, wanted.contiguous())
    up_to = torch.searchsorted(ordered, wanted.contiguous(), right=True)
    return (1 + n - below).double() / (1 + n), (1 + up_to).double() / (1 + n)


def context_gain(
    logprobs: Float[Tensor, "rows vocab"], prior: Float[Tensor, "vocab"]
) -> Float[Tensor, "rows"]:
    """What the context adds: KL(p || p_0) in nats, >= 0."""
    cross: Tensor = -(logprobs.exp() @ prior.to(logprobs))
    return (cross - entropy(logprobs)).clamp(min=0.0)


def classify(agreement: float, high: float, low: float, gain: float, gain_q05: float) -> str:
    """The regime of one position.

    Args:
        agreement: Collision probability of the output at temperature 1, before samplers.
        high: Conformal p-value of the recent surprisal being large.
        low: The same of it being small.
        gain: Context gain (nats).
        gain_q05: Its 5 % quantile on the reference.

    Returns:
        One of ``REGIMES`` other than ``abstain``.
    """
    if high <= ALPHA:
        return f"dysfunctional:OOD-{'confident' if agreement >= STRONG else 'diffuse'}"
    if low <= ALPHA:
        return "dysfunctional:resonant"
    if agreement >= STRONG:
        return "strong"
    return "dysfunctional:weak-signal" if gain < gain_q05 else "balanced"


def regimes(
    reference: Reference | None,
    logprobs: Float[Tensor, "rows vocab"],
    recent: Float[Tensor, "rows"],
) -> list[str]:
    """The regime at each probed position.

    Args:
        reference: From the lens's fit; ``None`` where there is none.
        logprobs: The model's own output distributions (nats).
        recent: Mean surprisal of the last ``WINDOW`` observed tokens, see ``recent_surprisal``; NaN where
            fewer have been observed.

    Returns:
        One of ``REGIMES`` a row; ``abstain`` without a reference of at least ``FEWEST`` windows, and where
        ``recent`` is NaN.
    """
    if reference is None or len(reference.surprisal) < FEWEST:
        return ["abstain"] * len(recent)
    high, low = conformal(reference.surprisal, recent.nan_to_num())
    columns = (entropy_and_collision(logprobs)[1], high, low, context_gain(logprobs, reference.prior))
    known = (~recent.isnan()).tolist()
    rows = zip(known, *(column.tolist() for column in columns), strict=True)
    return [
        classify(agreement, one, other, gain, reference.gain_q05) if there else "abstain"
        for there, agreement, one, other, gain in rows
    ]


def recent_surprisal(surprisal: Float[Tensor, "tokens"]) -> Float[Tensor, "tokens"]:
    """Mean surprisal of the last ``WINDOW`` observed tokens, up to and with each token.

    Args:
        surprisal: Of each token of a prompt given those before it (nats); NaN for the first, which nothing
            predicts.

    Returns:
        float64; NaN where fewer than ``WINDOW`` surprisals are known.
    """
    result = torch.full((len(surprisal),), torch.nan, dtype=torch.float64, device=surprisal.device)
    if len(surprisal) >= WINDOW:
        result[WINDOW - 1 :] = surprisal.double().unfold(0, WINDOW, 1).mean(-1)
    return result
