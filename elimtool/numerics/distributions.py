"""Pure tensor arithmetic on distributions: log-probabilities in; entropies and divergences out.

Nothing here knows a model, a file or a table. Logits of ``-inf`` mean "removed" and count nowhere.
"""

from __future__ import annotations

from math import exp, log

import torch
from jaxtyping import Float
from torch import Tensor

OverVocab = Float[Tensor, "rows vocab"]


def entropy(logprobs: OverVocab) -> Float[Tensor, "rows"]:
    """Shannon entropy in nats, 0 .. ln(vocab), with ``0 log 0 = 0``.

    Source: Shannon 1948; effective counts exp(H) are the Hill number of order 1.
    """
    return entropy_and_collision(logprobs)[0]


def entropy_and_collision(logprobs: OverVocab) -> tuple[Float[Tensor, "rows"], Float[Tensor, "rows"]]:
    """Shannon entropy, and the chance that two independent draws agree, in one pass.

    Returns:
        ``(entropy, collision)``: nats, 0 .. ln(vocab); and the sum of p^2, 1/vocab .. 1.
    """
    found = [
        _moments(part) for part in torch.split(logprobs, 1 if _is_cpu(logprobs) else max(1, len(logprobs)))
    ]
    negative, collision = (torch.cat(part) for part in zip(*found, strict=True))
    return (-negative).clamp(min=0.0), collision


def _moments(logprobs: OverVocab) -> tuple[Float[Tensor, "rows"], Float[Tensor, "rows"]]:
    """Sums of p ln p and of p^2."""
    probs = _probs(logprobs)
    return _dot(probs, logprobs.clamp(min=_LOWEST)), _dot(probs, probs)


def _probs(logprobs: Tensor) -> Tensor:
    """Probabilities, those too small to count in any sum set to 0: a CPU is slow with subnormal numbers."""
    return torch.threshold_(logprobs.clamp(min=2 * NEGLIGIBLE).exp_(), exp(NEGLIGIBLE), 0.0)


def kl_to_last(logprobs: Float[Tensor, "layers rows vocab"]) -> Float[Tensor, "layers rows"]:
    """KL(last || layer) in nats, from log-probabilities; exactly 0 at the last layer, never negative.

    Tokens that the last layer gives no probability add nothing; a token that it keeps and another layer
    removed (-inf) makes the divergence infinite. Rounding can make a float32 sum slightly negative (about
    -3e-8), hence the clamp. Source: Kullback & Leibler 1951.
    """
    last = _probs(logprobs[-1])
    cross = torch.stack([_dot(last, layer) for layer in _finite(logprobs)])
    removed = cross < _LOWEST * exp(NEGLIGIBLE) / 2  # by the least probability that counts
    return (cross[-1] - cross).clamp(min=0.0).masked_fill(removed, torch.inf)


def jensen_shannon(one: OverVocab, other: OverVocab) -> Float[Tensor, "rows"]:
    """Jensen-Shannon divergence in bits, 0 .. 1, from log-probabilities; which comes first changes no bit.

    Summed in float64 token by token as (p log p + q log q) / 2 - m log m with m = (p + q) / 2, of which no
    term is negative but for its own rounding: equal rows give exactly 0. Row by row, which stays in the
    processor's cache. Source: Lin 1991.
    """
    if not len(one):
        return one.new_zeros(0, dtype=torch.float64)
    rows = zip(torch.split(one, 1), torch.split(other, 1), strict=True)
    return torch.cat([_jensen_shannon(p, q) for p, q in rows])


def _jensen_shannon(one: OverVocab, other: OverVocab) -> Float[Tensor, "rows"]:
    p, q = one.double().exp_(), other.double().exp_()
    mean = (p + q) / 2
    terms = (plogp(p) + plogp(q)) / 2 - plogp(mean)
    bits: Tensor = terms.sum(-1) / log(2)
    return bits.clamp(0.0, 1.0)


def plogp(probs: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Terms of an entropy: p ln p, 0 for 0.

    A probability less than any normal number has the logarithm of the least of these, which no sum shows: a
    CPU takes a logarithm ten times as fast where it need not ask for 0.
    """
    return probs.clamp(min=torch.finfo(probs.dtype).tiny).log_().mul_(probs)


LIKELY = 1e-4
"""The tokens above this probability are few, and mostly hold nearly all of it."""

NEGLIGIBLE = -43.0
"""A token of this log-probability (2e-19) adds nothing that a sum over any vocabulary would show."""

_LOWEST = -1e30
"""Stands in for -inf in products with a probability of 0."""


def _finite(logprobs: Tensor) -> Tensor:
    """Log-probabilities whose product with a probability of 0 is 0; a copy only where one is needed."""
    return logprobs.clamp(min=_LOWEST) if bool(logprobs.amin() == -torch.inf) else logprobs


def _dot(left: OverVocab, right: OverVocab) -> Float[Tensor, "rows"]:
    """Row-wise dot products, without a temporary of the size of the rows on a CPU."""
    if _is_cpu(left) and len(left):
        return torch.stack([one.dot(other) for one, other in zip(left, right, strict=True)])
    return (left * right).sum(-1)


def _is_cpu(values: Tensor) -> bool:
    return values.device.type == "cpu"
