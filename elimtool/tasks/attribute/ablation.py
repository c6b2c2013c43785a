"""Score spans by ablating one at a time: remove its tokens, or cut attention to it.

Sources: leave-one-out as in Li et al. 2016 (arXiv 1612.08220); attention knockout by windows of layers, Geva
et al. 2023 (arXiv 2304.14767).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from elimtool.engine.scoring import log_probabilities
from elimtool.model.interventions import Knockout
from elimtool.model.interventions.install import Plan
from elimtool.tasks.attribute.found import Found, Window
from elimtool.tasks.attribute.subject import Subject


def leave_one_out(subject: Subject) -> Found:
    """Score spans by what the value loses when their tokens are removed; later tokens move up."""
    ran = subject.without([frozenset(span.tokens) for span in subject.spans])
    tokens = ran.tokens + len(subject.one.token_ids)
    return Found({None: subject.base - ran.values}, len(subject.spans) + 1, tokens, shared=ran.shared)


def leave_one_out_masked(subject: Subject) -> Found:
    """Score spans by what the value loses when no token outside a span attends to it, in any layer."""
    return _cut(subject, "later", [None])


def knockout(subject: Subject) -> Found:
    """Score spans by what the value loses if the token read does not attend to them, also by window."""
    return _cut(subject, "last", [None, *windows(subject.model.n_layers, subject.options.windows)])


def knockout_later(subject: Subject) -> Found:
    """Score spans as ``knockout`` does, but cut the attention of all later tokens outside the span."""
    return _cut(subject, "later", [None, *windows(subject.model.n_layers, subject.options.windows)])


def windows(n_layers: int, count: int) -> list[tuple[int, int]]:
    """Split layers into at most ``count`` windows of nearly equal size; none if there would be only one."""
    count = min(count, n_layers)
    borders = [round(index * n_layers / count) for index in range(count + 1)]
    return [(start, end - 1) for start, end in pairwise(borders)] if count > 1 else []


def _cut(subject: Subject, origin: str, layers: list[Window]) -> Found:
    has = subject.model.attending  # a window without attention has nothing to cut, which is not a score of 0
    layers = [one for one in layers if one is None or any(one[0] <= layer <= one[1] for layer in has)]
    plans: list[Plan] = [
        (Knockout(span.name, window, origin),) for window in layers for span in subject.spans
    ]
    where = [0] * len(subject.ids)
    found = log_probabilities(subject.model, [subject.one] * len(plans), plans, None, where, subject.ids)
    scores = subject.base - subject.values(found)
    parts: list[Tensor] = list(torch.split(scores, len(subject.spans)))
    runs = len(plans) + 1
    return Found(dict(zip(layers, parts, strict=True)), runs, runs * len(subject.one.token_ids))
