"""Pure tensor arithmetic on logits and distributions: ranks, masses, entropies, divergences, nuclei.

Nothing here knows a model, a file or a table. Logits of ``-inf`` mean "removed" and count nowhere.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Rows = Float[Tensor, "rows vocab"]


def log_softmax(logits: Rows) -> Rows:
    """Natural-log probabilities, in at least float32.

    Args:
        logits: Scores of any float dtype; ``-inf`` marks a removed token.

    Returns:
        Log-probabilities (nats, <= 0), float64 for float64 input, else float32.
    """
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return torch.log_softmax(wide, dim=-1)


def entropy(logprobs: Rows) -> Float[Tensor, "rows"]:
    """Shannon entropy in nats, 0 .. ln(vocab), with ``0 log 0 = 0``.

    Source: Shannon 1948; effective counts exp(H) are the Hill number of order 1.
    """
    return entropy_and_collision(logprobs)[0]


def collision(logprobs: Rows) -> Float[Tensor, "rows"]:
    """The chance that two independent draws agree: the sum of p^2, 1/vocab .. 1."""
    return entropy_and_collision(logprobs)[1]


def kl(reference: Rows, other: Rows) -> Float[Tensor, "rows"]:
    """KL(reference || other) in nats, >= 0; see ``kl_to_last``."""
    return kl_to_last(torch.stack([other, reference]))[0]


def entropy_and_collision(logprobs: Rows) -> tuple[Float[Tensor, "rows"], Float[Tensor, "rows"]]:
    """Shannon entropy, and the chance that two independent draws agree, in one pass.

    Returns:
        ``(entropy, collision)``: nats, 0 .. ln(vocab); and the sum of p^2, 1/vocab .. 1.
    """
    probs = logprobs.exp()
    return (-_dot(probs, _finite(logprobs))).clamp(min=0.0), _dot(probs, probs)


def kl_to_last(logprobs: Float[Tensor, "layers rows vocab"]) -> Float[Tensor, "layers rows"]:
    """KL(last || layer) in nats, from log-probabilities; exactly 0 at the last layer, never negative.

    Tokens that the last layer gives no probability add nothing; a token that it keeps and another layer
    removed (-inf) makes the divergence infinite. Rounding can make a float32 sum slightly negative (about
    -3e-8), hence the clamp. Source: Kullback & Leibler 1951.
    """
    last = logprobs[-1].exp()
    finite = _finite(logprobs)
    cross = torch.stack([_dot(last, layer) for layer in finite])
    return (cross[-1] - cross).clamp(min=0.0).where(cross > _LOWEST / 1e6, torch.inf)


_LOWEST = -1e30
"""Stands in for -inf in products with a probability of 0."""


def _finite(logprobs: Tensor) -> Tensor:
    """Log-probabilities whose product with a probability of 0 is 0; a copy only where one is needed."""
    return logprobs.clamp(min=_LOWEST) if bool(logprobs.amin() == -torch.inf) else logprobs


def _dot(left: Rows, right: Rows) -> Float[Tensor, "rows"]:
    """Row-wise dot products, without a temporary of the size of the rows."""
    return torch.bmm(left[:, None], right[:, :, None])[:, 0, 0]


def rank(logits: Rows, tokens: Int[Tensor, "rows k"]) -> tuple[Int[Tensor, "rows k"], Int[Tensor, "rows k"]]:
    """Strict rank of given tokens, and the number of other tokens tied with each.

    Args:
        logits: Scores; ``nan`` is not allowed.
        tokens: Vocabulary indices to rank, one row of ``k`` for each row of logits.

    Returns:
        ``(rank, ties)``: rank = 1 + number of strictly larger scores, 1 .. vocab; ties >= 0.
    """
    scores = logits.gather(-1, tokens)
    larger = [_count(logits > scores[:, [i]]) for i in range(tokens.shape[1])]
    equal = [_count(logits == scores[:, [i]]) for i in range(tokens.shape[1])]
    empty = torch.zeros_like(tokens)
    if not larger:
        return empty, empty
    return torch.stack(larger, -1) + 1, torch.stack(equal, -1) - 1


def _count(mask: Bool[Tensor, "rows vocab"]) -> Int[Tensor, "rows"]:
    """How many entries of each row are true; numpy counts bytes ten times faster than torch on a CPU."""
    if mask.device.type != "cpu":
        return mask.sum(-1)
    return torch.from_numpy(np.count_nonzero(mask.numpy(), axis=-1))


def nucleus(
    logprobs: Rows, mass: float = 0.9, width: int = 256
) -> tuple[Int[Tensor, "rows width"], Bool[Tensor, "rows width"]]:
    """The smallest set of most probable tokens that holds ``mass`` of each row.

    A partial sort of ``width`` tokens answers most rows; only the rows that need more are sorted
    further, so the cost follows the size of the answer, not of the vocabulary. The crossing token
    belongs to the set. Source: Holtzman et al. 2020 (arXiv 1904.09751).

    Args:
        logprobs: Normalised log-probabilities.
        mass: Share of the probability to hold, 0 < mass <= 1.
        width: How many tokens to look at first.

    Returns:
        ``(tokens, member)``: candidate token ids by falling probability, and which of them belong. As
        wide as the longest candidate list needed; the nucleus size is ``member.sum(-1)``, at least 1.
    """
    rows, vocab = logprobs.shape
    width = min(width, vocab)
    top, tokens = logprobs.topk(width, dim=-1, sorted=True)
    probs = top.double().exp()
    member = probs.cumsum(-1) - probs < mass
    member[:, 0] = True
    unanswered = member[:, -1]
    if width == vocab or not bool(unanswered.any()):
        return tokens, member
    more_tokens, more_member = nucleus(logprobs[unanswered], mass, width * 16)
    all_tokens = tokens.new_zeros(rows, more_tokens.shape[1])
    all_member = member.new_zeros(rows, more_tokens.shape[1])
    all_tokens[:, :width], all_member[:, :width] = tokens, member
    all_tokens[unanswered], all_member[unanswered] = more_tokens, more_member
    return all_tokens, all_member
