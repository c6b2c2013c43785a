"""Sum what heads carry from each token over spans: weights times values, a few small products a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import frexp

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from elimtool.model.affine import wide
from elimtool.model.view import Batch, Encoded
from elimtool.numerics.transfer import sent
from elimtool.prompts.prompt import REST, SINK


@dataclass(frozen=True)
class SpanParts:
    """The tokens of each prompt's spans, sinks in no span but their own.

    Spans are cut into pieces of about equal length, so that one product serves short and long ones.

    Attributes:
        names: Names of each prompt's spans.
        members: Which tokens they have; prompts with fewer spans have empty ones more.
        keys: Tokens of each piece, padded.
        real: 1 where a piece has a token, 0 for padding.
        span: Index of each piece's span.
        joined: Whether some span has more pieces than one, or spans and pieces are not in the same order.
        alone: Whether each token is a span of its own, in order.
    """

    names: Sequence[Sequence[str]]
    members: Bool[Tensor, "batch spans keys"]
    keys: Int[Tensor, "batch pieces length"]
    real: Float[Tensor, "batch pieces length"]
    span: Int[Tensor, "batch pieces"]
    joined: bool = True
    alone: bool = False

    @classmethod
    def of(cls, batch: Batch) -> SpanParts:
        """Divide the prompts of a batch; tokens in no span are ``<rest>``."""
        device, n_keys = batch.ids.device, batch.ids.shape[1]
        divided = [_divided(one) for one in batch.encoded]
        most = max(len(spans) for spans in divided)
        members = np.zeros((len(divided), most, n_keys), dtype=bool)
        for row, spans in enumerate(divided):
            for index, (_, tokens) in enumerate(spans):
                members[row, index, list(tokens)] = True
        total = max(sum(len(tokens) for _, tokens in spans) for spans in divided)
        length = max(1, -(-total // most))
        pieces = [
            [
                (index, tokens[start : start + length])
                for index, (_, tokens) in enumerate(spans)
                for start in range(0, len(tokens), length)
            ]
            for spans in divided
        ]
        count = max(map(len, pieces))
        keys = np.zeros((len(divided), count, length), dtype=np.int64)
        real, span = np.zeros(keys.shape, dtype=np.float32), np.zeros(keys.shape[:2], dtype=np.int64)
        for row, some in enumerate(pieces):
            for place, (index, tokens) in enumerate(some):
                keys[row, place, : len(tokens)] = tokens
                real[row, place, : len(tokens)] = 1.0
                span[row, place] = index
        there = (sent(torch.from_numpy(one), device) for one in (members, keys, real, span))
        on_device = dict(zip(("members", "keys", "real", "span"), there, strict=True))
        return cls(
            names=[[name for name, _ in spans] for spans in divided],
            joined=most != count or bool((span != np.arange(count)).any()),
            alone=most == n_keys and not bool((members & ~np.eye(n_keys, dtype=bool)).any()),
            **on_device,
        )

    def seen(self, visible: Bool[Tensor, "batch probes keys"]) -> Bool[Tensor, "batch probes spans"]:
        """Tell of which spans each query sees a token."""
        return (visible.float() @ self.members.float().transpose(1, 2)) > 0

    @cached_property
    def _join(self) -> Float[Tensor, "batch spans pieces"] | None:
        """1 where a piece belongs to a span; ``None`` where every piece is a span, in order."""
        if not self.joined:
            return None
        n_spans = self.members.shape[1]
        return torch.nn.functional.one_hot(self.span, n_spans).transpose(1, 2).float()

    def summed(
        self,
        weights: Float[Tensor, "some heads rows keys"],
        values: Float[Tensor, "some groups keys size"],
        prompts: slice,
    ) -> Float[Tensor, "some heads rows spans size"]:
        """Sum weights times values over the tokens of each span.

        Args:
            weights: Attention weights, or others in their place, of any rows of some prompts; of several
                layers one after the other.
            values: What they multiply, one for each group of heads.
            prompts: These prompts.
        """
        some, heads, rows, n_keys = weights.shape
        groups, size = values.shape[1], values.shape[-1]
        layers = some // len(self.keys[prompts])
        keys, real = (one[prompts].repeat(layers, 1, 1) for one in (self.keys, self.real.to(weights.dtype)))
        pieces, length = keys.shape[1:]
        start = torch.arange(some, device=keys.device)[:, None, None] * n_keys
        flat = (start + keys).flatten()
        # rows of tokens are picked whole, which is much faster than single numbers
        picked = weights.permute(0, 3, 1, 2).reshape(some * n_keys, -1)[flat] * real.reshape(-1, 1)
        left = picked.view(some, pieces, length, groups, -1).permute(0, 1, 3, 4, 2)
        read = wide(values.transpose(1, 2).reshape(some * n_keys, -1)[flat]).to(weights.dtype)
        right = read.view(some, pieces, length, groups, size).transpose(2, 3)
        found = (left @ right).view(some, pieces, heads, rows, size)
        if self._join is not None:
            join = self._join[prompts].to(found.dtype).repeat(layers, 1, 1)
            found = (join @ found.flatten(2)).view(some, -1, heads, rows, size)
        return found.permute(0, 2, 3, 1, 4)


class DistanceBins:
    """Spreads weights evenly over the keys outside the sinks at about the same distance from the query.

    Bins are the token itself, then distances 1, 2 and 3, 4 to 7, and so on. The mean weight of a bin is the
    mean over all shuffles of weights inside it.

    Args:
        visible: Keys that each query sees.
        sink: Which keys are sinks, whose weights stay as they are.
        positions: Position of each query.
    """

    def __init__(
        self,
        visible: Bool[Tensor, "batch rows keys"],
        sink: Bool[Tensor, "batch keys"],
        positions: Int[Tensor, "batch rows"],
    ) -> None:
        distance = positions[..., None] - torch.arange(visible.shape[-1], device=visible.device)
        # the exponent of a float is the floor of its logarithm, exactly
        bins = torch.frexp(distance.clamp(min=0).float()).exponent.long()
        inside = visible & ~sink[:, None]
        most = frexp(float(visible.shape[-1]))[1] + 1  # no bin of a visible key is higher
        one = (bins[..., None] == torch.arange(most, device=bins.device)).float()
        self.members = one * inside[..., None]
        self.counts = self.members.sum(2).clamp(min=1)[:, :, None]
        self.kept = (visible & sink[:, None]).float()[:, None]

    def spread(
        self, weights: Float[Tensor, "batch heads rows keys"]
    ) -> Float[Tensor, "batch heads rows keys"]:
        """Return weights with each bin's mean in place of its weights, for layers one after the other."""
        members = self.members.to(weights.dtype)
        each = weights.view(-1, len(members), *weights.shape[1:])
        means = each.transpose(2, 3) @ members / self.counts
        spread = (means @ members.transpose(2, 3)).transpose(2, 3) + each * self.kept
        return spread.reshape(weights.shape)


def _divided(one: Encoded) -> list[tuple[str, tuple[int, ...]]]:
    sinks, taken = set(one.sinks), set(one.sinks)
    found = []
    for span in one.spans:
        own = span.tokens if span.name == SINK else tuple(key for key in span.tokens if key not in sinks)
        found.append((span.name, own))
        taken.update(own)
    if left := tuple(key for key in range(len(one.token_ids)) if key not in taken):
        found.append((REST, left))
    return found
