"""Compute entropies and divergences of distributions from log-probabilities; ``-inf`` is a removed token."""

from __future__ import annotations

from math import exp, log

import torch
from jaxtyping import Float
from torch import Tensor

OverVocab = Float[Tensor, "rows vocab"]


def entropy(logprobs: OverVocab) -> Float[Tensor, "rows"]:
    """Return the Shannon entropy in nats, 0 .. ln(vocab), with ``0 log 0 = 0``.

    Source: Shannon 1948; exp(H), an effective number of tokens, is the Hill number of order 1.
    """
    return entropy_and_collision(logprobs)[0]


def entropy_and_collision(logprobs: OverVocab) -> tuple[Float[Tensor, "rows"], Float[Tensor, "rows"]]:
    """Return the Shannon entropy, and the chance that two independent draws agree, in one pass.

    Returns:
        ``(entropy, collision)``: nats, 0 .. ln(vocab); and the sum of p^2, 1/vocab .. 1.
    """
    together = 1 if logprobs.is_cpu else max(1, len(logprobs))  # one row at a time stays in a CPU's cache
    moments = [_moments(part) for part in torch.split(logprobs, together)]
    negative, collision = (torch.cat(part) for part in zip(*moments, strict=True))
    return (-negative).clamp(min=0.0), collision


def _moments(logprobs: OverVocab) -> tuple[Float[Tensor, "rows"], Float[Tensor, "rows"]]:
    """Return the sums of p ln p and of p^2."""
    probs = _probs(logprobs)
    return _dot(probs, logprobs.clamp(min=_LOWEST)), _dot(probs, probs)


def _probs(logprobs: Tensor) -> Tensor:
    """Return probabilities, with 0 for those too small to count: a CPU is slow with subnormal numbers."""
    return torch.threshold_(logprobs.clamp(min=2 * NEGLIGIBLE).exp_(), exp(NEGLIGIBLE), 0.0)


def kl_to_last(logprobs: Float[Tensor, "layers rows vocab"]) -> Float[Tensor, "layers rows"]:
    """Return KL(last || layer) in nats, from log-probabilities; exactly 0 at the last layer, never negative.

    Tokens without probability at the last layer add nothing; a token that it keeps and another layer
    removed (-inf) makes the divergence infinite. Source: Kullback & Leibler 1951.
    """
    last = _probs(logprobs[-1])
    cross = torch.stack([_dot(last, layer) for layer in _finite(logprobs)])
    removed = cross < _LOWEST * exp(NEGLIGIBLE) / 2  # a removed token adds at least this much
    # rounding makes some float32 differences slightly negative, by about 3e-8
    return (cross[-1] - cross).clamp(min=0.0).masked_fill(removed, torch.inf)


def jensen_shannon(one: OverVocab, other: OverVocab) -> Float[Tensor, "rows"]:
    """Return the Jensen-Shannon divergence in bits, 0 .. 1, from log-probabilities; exactly symmetric.

    Summed in float64 token by token as (p log p + q log q) / 2 - m log m with m = (p + q) / 2: equal rows
    give exactly 0, and terms are negative only by rounding. Source: Lin 1991.
    """
    if not len(one):
        return one.new_zeros(0, dtype=torch.float64)
    rows = zip(torch.split(one, 1), torch.split(other, 1), strict=True)  # single rows stay in the cache
    return torch.cat([_jensen_shannon(p, q) for p, q in rows])


def _jensen_shannon(one: OverVocab, other: OverVocab) -> Float[Tensor, "rows"]:
    p, q = one.double().exp(), other.double().exp()  # not in place: of float64 ``double`` makes no copy
    mean = (p + q) / 2
    terms = (plogp(p) + plogp(q)) / 2 - plogp(mean)
    bits: Tensor = terms.sum(-1) / log(2)
    return bits.clamp(0.0, 1.0)


def plogp(probs: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Return p ln p, the terms of an entropy; 0 for p = 0."""
    # subnormal p get the logarithm of the least normal number, which no sum shows: without zeros
    # a CPU takes logarithms ten times as fast
    return probs.clamp(min=torch.finfo(probs.dtype).tiny).log_().mul_(probs)


LIKELY = 1e-4
"""Few tokens are above this probability, and they mostly hold nearly all of the mass."""

NEGLIGIBLE = -43.0
"""Log-probability (2e-19) of a token too small to show in a sum over any vocabulary."""

_LOWEST = -1e30
"""Replaces -inf in products with a probability of 0, which would be NaN."""


def _finite(logprobs: Tensor) -> Tensor:
    """Replace -inf, so that its product with a probability of 0 is 0; copy only where there is one."""
    # only a CPU's answer is at hand, others would have to be waited for
    clean = logprobs.is_cpu and not bool(logprobs.amin() == -torch.inf)
    return logprobs if clean else logprobs.clamp(min=_LOWEST)


def _dot(left: OverVocab, right: OverVocab) -> Float[Tensor, "rows"]:
    """Return row-wise dot products, on a CPU without a temporary of the size of the rows."""
    if left.is_cpu and len(left):
        return torch.stack([one.dot(other) for one, other in zip(left, right, strict=True)])
    return (left * right).sum(-1)
