"""Judge what a draft model proposes, by the rules with which engines accept or reject a drafted token.

``p`` is what the target's sampler chain leaves of the target's output, ``q`` what the draft's chain leaves of
the draft's. A rule accepts the drafted token with some probability, or else draws from a residual.

Sources: Leviathan et al. 2023 (2211.17192) for ``standard``, Sun et al. 2024 (2403.10444) for ``block``;
transformers ``generation/utils.py`` ``_speculative_sampling`` (5.23) for ``ensemble``; SGLang's target-only
acceptance of EAGLE trees for ``siblings``; llama.cpp, KoboldCpp and vLLM's default drafts for ``match``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from elimtool.errors import ElimError

SIBLINGS = 4
"""Tokens that a draft tree offers at one position, best first, as SGLang's EAGLE drafts by default."""

RULES = ("standard", "match", "greedy", "siblings", "ensemble", "block")
"""Names of the rules, in the order of tables."""

Probs = Float64[Tensor, "vocab"]


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What a rule does with one drafted token.

    Attributes:
        rule: Name of the rule.
        accept: Probability that it accepts the drafted token, 0 .. 1.
        alpha: Probability that it accepts a token drawn from the draft, 0 .. 1.
        residual: What is drawn from where it rejects the drafted token; all zero if it never does.
        bias: Total variation between what it emits and ``p``, 0 .. 1; 0 for a lossless rule.
    """

    rule: str
    accept: float
    alpha: float
    residual: Probs
    bias: float


def judge(p: Probs, q: Probs, token: int, leaders: Sequence[int], weight: float) -> list[Acceptance]:
    """Judge one drafted token by every rule that looks at one position: all but ``block``.

    Args:
        p: What the target's chain leaves, summing to 1.
        q: What the draft's chain leaves, summing to 1.
        token: The drafted token, ``q[token] > 0``.
        leaders: The draft's most probable tokens, best first: the siblings of a tree.
        weight: The weight of the target in ``ensemble``, in (0, 1]; 1 is ``standard``.

    Raises:
        ElimError: The draft cannot propose the token, or the weight is out of range.
    """
    if not 0 < weight <= 1:
        raise ElimError(f"`weight` must be above 0 and at most 1, got {weight}")
    if not float(q[token]) > 0:
        raise ElimError(f"the draft cannot propose token {token}: its probability is 0")
    ratio = p / q.clamp(min=torch.finfo(q.dtype).tiny)
    standard = ratio.clamp(max=1.0)
    relaxed = (1 - weight + weight * ratio).clamp(max=1.0)
    rest = residual(p, q)
    best = torch.zeros_like(p)
    best[p.argmax()] = 1.0
    offered = list(dict.fromkeys(leaders))[:SIBLINGS]
    return [
        _by_ratio("standard", p, q, token, standard, rest),
        Acceptance("match", float(p[token]), float((p * q).sum()), _without(p, [token]), 0.0),
        Acceptance("greedy", float(best[token]), float((best * q).sum()), best, _apart(best, p)),
        Acceptance("siblings", float(p[token]), float(p[offered].sum()), _without(p, offered), 0.0),
        _by_ratio("ensemble", p, q, token, relaxed, rest),
    ]


def residual(p: Probs, q: Probs, scale: float = 1.0) -> Probs:
    """Return the positive part of ``scale * p - q``, summing to 1; ``p`` itself where nothing is left."""
    above = (scale * p - q).clamp(min=0.0)
    total = above.sum()
    return above / total if float(total) > 0 else p


def judge_block(ps: Sequence[Probs], qs: Sequence[Probs], tokens: Sequence[int]) -> list[Acceptance]:
    """Judge a block of drafted tokens together, which on average accepts at least as many as ``standard``.

    The longest prefix of which a coin is below its ``accept`` is accepted, so that ``accept`` of a position
    is the probability that the prefix up to it passes by itself, whatever later coins say.

    Args:
        ps: What the target's chain leaves at each position.
        qs: What the draft's chain leaves there.
        tokens: The drafted tokens.
    """
    found = []
    kept = 1.0
    for place, (p, q, token) in enumerate(zip(ps, qs, tokens, strict=True)):
        kept = min(1.0, kept * float(p[token]) / float(q[token]))
        passes = kept
        if place + 1 < len(tokens):
            left = float((kept * ps[place + 1] - qs[place + 1]).clamp(min=0.0).sum())
            passes = left / (left + 1 - kept) if left + 1 - kept > 0 else 1.0
        alpha = float(torch.minimum(p, q).sum())
        found.append(Acceptance("block", passes, alpha, residual(p, q), 0.0))
    return found


def reached(judged: Sequence[Acceptance]) -> list[float]:
    """Compute the probability that at least so many of the first tokens are accepted, for one rule."""
    found, chance = [], 1.0
    if judged and judged[0].rule == "block":
        for one in reversed(judged):  # a prefix counts if it, or any longer one, passes
            chance *= 1 - one.accept
            found.append(1 - chance)
        return found[::-1]
    for one in judged:
        chance *= one.accept
        found.append(chance)
    return found


def _by_ratio(rule: str, p: Probs, q: Probs, token: int, accept: Probs, rest: Probs) -> Acceptance:
    """A rule that accepts by p over q, and else draws from the residual of p and q."""
    alpha = float((accept * q).sum().clamp(max=1.0))
    emitted = accept * q + (1 - alpha) * rest
    return Acceptance(rule, float(accept[token]), alpha, rest, _apart(emitted, p))


def _without(p: Probs, tokens: Sequence[int]) -> Probs:
    """Leave tokens out, summing to 1; all zero where nothing else had any probability."""
    left = p.index_fill(0, torch.tensor(tokens), 0.0)
    total = left.sum()
    return left / total if float(total) > 0 else left


def _apart(one: Probs, other: Probs) -> float:
    """Total variation distance, 0 .. 1; differences of rounding are 0."""
    apart = float((one - other).abs().sum() / 2)
    return apart if apart > 1e-12 else 0.0
