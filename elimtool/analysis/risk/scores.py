"""Compute the risk scores of one answer. They measure uncertainty, not truth."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

ALPHA, ALPHA_CHAT = 0.2, 0.5
"""How much RAUQ weighs a token's own probability: of a text, and of a chat."""
REGULAR = 0.001
"""What is added to the diagonal of a covariance of samples."""


def lookback(prompt: Values, written: Values) -> Values:
    """Compute how much each head looks back at the prompt while it writes, of all that it looks at.

    The mean weight of a prompt's token over that and the mean weight of a written token, averaged over
    written tokens. Source: Chuang et al. 2024, "Lookback Lens" (2407.07071), ``step01_extract_attns.py``;
    the paper trains a classifier on the values of all heads.

    Args:
        prompt: [..., heads, tokens] mean attention that the position which predicts each written token, at
            least one, gives to a token of the prompt: to those before what cues the answer.
        written: The same to one of the tokens since then.

    Returns:
        [..., heads] in 0 .. 1.
    """
    found: Values = (prompt / np.maximum(prompt + written, np.finfo(float).tiny)).mean(-1)
    return found


def rauq(probs: Values, previous: Sequence[Values], alpha: float) -> float | None:
    """Compute RAUQ: doubt that attention to the token before hands on, in the layer with most of it.

    Source: Vazhentsev et al. 2025, "Uncertainty-aware attention heads" (2505.20045), ``estimators/rauq.py``,
    whose value is 1 more.

    Args:
        probs: [tokens] probability of each written token.
        previous: For each of the middle layers [heads, tokens - 1], the attention that each token after the
            first gives to the one before it.
        alpha: Weight of a token's own probability.

    Returns:
        Nats, 0 or more; ``None`` without tokens or layers.
    """
    if not len(probs) or not previous:
        return None
    tiny = np.finfo(float).tiny
    worst = []
    for layer in previous:
        confidence = [float(probs[0])]
        head = int(layer.mean(1).argmax()) if layer.shape[1] else 0
        for place in range(1, len(probs)):
            handed = float(layer[head, place - 1]) * confidence[-1]
            confidence.append(alpha * float(probs[place]) + (1 - alpha) * handed)
        worst.append(-float(np.mean(np.log(np.maximum(confidence, tiny)))))
    return max(worst)


def eigenscore(states: Values) -> float | None:
    """Compute the EigenScore: how far samples differ in a middle layer, as mean log eigenvalue.

    Source: Chen et al. 2024, "INSIDE" (2402.03744), ``eigenscore.py``. The channel that is largest in some
    sample is left out: where a channel is massive it would decide alone.

    Args:
        states: [samples, channels] residual of each sample's last token.

    Returns:
        Nats; ``None`` for fewer than two samples.
    """
    if len(states) < 2:
        return None
    kept = np.delete(states.astype(float), np.unique(np.abs(states).argmax(1)), axis=1)
    centred = kept - kept.mean(1, keepdims=True)
    covariance = centred @ centred.T + REGULAR * np.eye(len(states))
    return float(np.log(np.linalg.eigvalsh(covariance)).mean())


def semantic_entropy(clusters: Sequence[int]) -> float | None:
    """Compute the entropy of the shares of clusters of samples (nats).

    Source: Kuhn et al. 2023, "Semantic uncertainty" (2302.09664); of counts, not likelihoods. Paraphrases
    that are not found to be the same make it larger: an upper bound.

    Args:
        clusters: Cluster of each sample.

    Returns:
        From 0 to ln(samples); ``None`` without samples.
    """
    if not len(clusters):
        return None
    shares = [clusters.count(one) / len(clusters) for one in set(clusters)]
    return max(0.0, -sum(share * log(share) for share in sorted(shares)))
