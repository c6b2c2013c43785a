"""Sum the attention rows of some layers over spans, and summarise whole rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from elimtool.numerics.distributions import plogp

LEAST_OUTSIDE_SINK = 0.01
"""Least weight on non-sink keys for which a head's distribution over them is measured."""

ELIMINATED_BELOW = 0.25
"""A key is eliminated if its weight without sinks is below this share of the uniform weight."""

CONTEXT = 0.9
"""Share of the weight on non-sink keys that the nearest of them hold together, for ``context_90``."""

SAME = 1e-6
"""Share of a row's range of scores under which two of them count as equal."""


@dataclass(frozen=True, slots=True)
class AttentionSums:
    """Attention rows of some layers, and their sums over spans.

    Keys "outside" are visible and not sinks, ``kept`` are the weights on them, ``rest`` is the sum of these,
    ``given`` that of the weights on sinks, and ``measured`` says where ``rest`` is at least
    ``LEAST_OUTSIDE_SINK``.
    """

    weights: Float[Tensor, "layers batch heads probes keys"]
    kept: Float[Tensor, "layers batch heads probes keys"]
    rest: Float[Tensor, "layers batch heads probes"]
    given: Float[Tensor, "layers batch heads probes"]
    measured: Bool[Tensor, "layers batch heads probes"]
    n_keys: Float[Tensor, "layers batch probes"]
    n_outside: Float[Tensor, "layers batch probes"]
    sizes: Float[Tensor, "layers batch probes spans"]
    sizes_no_sink: Float[Tensor, "layers batch probes spans"]
    mass: Float[Tensor, "layers batch heads probes spans"]
    mass_no_sink: Float[Tensor, "layers batch heads probes spans"]
    visible: Bool[Tensor, "layers batch probes keys"]
    outside: Bool[Tensor, "layers batch probes keys"]
    scores: Float[Tensor, "layers batch heads probes keys"] | None
    given_to_none: Float[Tensor, "layers batch heads probes"] | None

    @classmethod
    def of(
        cls,
        weights: Float[Tensor, "layers batch heads probes keys"],
        visible: Bool[Tensor, "layers batch probes keys"],
        members: Float[Tensor, "batch spans keys"],
        sink: Bool[Tensor, "batch keys"],
        scores: Float[Tensor, "layers batch heads probes keys"] | None = None,
        null: Float[Tensor, "layers batch heads probes"] | None = None,
    ) -> AttentionSums:
        """Sum rows over spans; NaN without a visible token, and in sums without sinks for heads not measured.

        Args:
            weights: Attention weights, float32 or better.
            visible: Which keys each query may see.
            members: 1 for the tokens of each span.
            sink: Which keys are sinks.
            scores: What the softmax was taken of, where that is known.
            null: Weight that a learned score without a key took, where that is known.
        """
        members, seen, sinks = (part.to(weights.dtype) for part in (members, visible, sink))
        everything = torch.ones_like(sinks)
        outside = seen * (1.0 - sinks)[:, None]
        kept = weights * outside[:, :, None]
        whole = products(weights, members, sinks)
        without = products(kept, members, everything)
        rest = without[..., -1]
        # sums as matrix products: no copy of the weights per span
        sizes, sizes_no_sink = (products(keys, members, everything) for keys in (seen, outside))
        measured = rest >= LEAST_OUTSIDE_SINK
        known = measured[..., None] & (sizes_no_sink[..., :-1] > 0)[:, :, None]
        return cls(
            weights=weights,
            kept=kept,
            rest=rest,
            given=whole[..., -1],
            measured=measured,
            n_keys=sizes[..., -1],
            n_outside=sizes_no_sink[..., -1],
            sizes=sizes[..., :-1],
            sizes_no_sink=sizes_no_sink[..., :-1],
            mass=whole[..., :-1].where((sizes[..., :-1] > 0)[:, :, None], torch.nan),
            mass_no_sink=(without[..., :-1] / rest[..., None]).where(known, torch.nan),
            visible=visible,
            outside=visible & ~sink[:, None],
            scores=scores,
            given_to_none=null,
        )

    def spans(self) -> dict[str, Tensor]:
        """Reduce the heads' masses of each span to means, the largest head and lifts over uniform.

        Returns:
            Numbers by column, [layers, batch, probes, spans] or without the last axis.
        """
        mean = self.mass.mean(2)
        largest, head = self.mass.nan_to_num(nan=-1.0).max(2)  # NaN would win every maximum
        no_sink = self.mass_no_sink.nanmean(2)
        return {
            "span_size": self.sizes,
            "n_keys": self.n_keys,
            "mass": mean,
            "mass_max": largest.where(self.sizes > 0, torch.nan),
            "mass_max_head": head,
            "lift": mean * self.n_keys[..., None] / self.sizes,
            "mass_no_sink": no_sink,
            "lift_no_sink": no_sink * self.n_outside[..., None] / self.sizes_no_sink,
        }

    def null(self) -> Float[Tensor, "layers batch heads probes"]:
        """Return what each row leaves to no key.

        Where only weights are known, that is 1 minus the weights on sinks and on all other keys.
        """
        if self.given_to_none is not None:
            return self.given_to_none.double()
        return (1.0 - self.given.double() - self.rest.double()).clamp(min=0.0)

    def wholes(
        self, sink: Bool[Tensor, "batch keys"], positions: Int[Tensor, "batch probes"], null: bool
    ) -> dict[str, Tensor]:
        """Reduce whole rows to entropy (nats), shares of sinks, eliminated and masked keys, and reach.

        Args:
            sink: Which keys are sinks.
            positions: Index of each probed query.
            null: Whether some of the layers give weight to no key.

        Returns:
            Numbers by column, [layers, batch, probes].
        """
        entropy = -plogp(self.weights).sum(-1)
        if null:  # of the row divided by its sum
            total = self.given + self.rest
            entropy = entropy / total + total.log()
        given = self.given.mean(2)
        has_sink = sink.any(-1)[:, None].expand_as(given)
        heads = self.measured.sum(2)
        shares = (self.kept / self.rest[..., None]).where(self.measured[..., None], 0.0).sum(2)
        return {
            "entropy": entropy.mean(2),
            "n_eff": entropy.exp().mean(2),
            "sink_mass": given.where(has_sink, torch.nan),
            "eliminated_frac": self._eliminated() / (heads * self.n_outside),  # 0 / 0 = NaN: no measured head
            "masked_frac": 1.0 - self.n_keys.double() / (positions + 1),
            "context_90": nearest(shares, self.outside, heads.to(shares.dtype)).where(heads > 0, torch.nan),
            "context_90_even": (CONTEXT * self.n_outside.double() - SAME).ceil().where(heads > 0, torch.nan),
            "null_mass": self.null().mean(2),
        }

    def contexts(self) -> Float[Tensor, "layers batch heads probes"]:
        """Return how many nearest non-sink keys hold 0.9 of each head's weight on such keys; NaN without."""
        found = nearest(self.kept, self.outside[:, :, None], self.rest)
        return found.where(self.measured, torch.nan)

    def negatives(self) -> dict[str, Tensor]:
        """Return shares and weights of keys with low scores, [layers, batch, heads, probes].

        NaN where the scores are not known, or a visible key has none.
        """
        if self.scores is None:
            unknown = torch.full_like(self.rest, torch.nan)
            return dict.fromkeys(("negative_frac", "negative_mass", "below_mean_mass"), unknown)
        visible = self.visible[:, :, None].expand_as(self.scores)
        scores, count = self.scores, self.n_keys[:, :, None]
        least = scores.masked_fill(~visible, torch.inf).amin(-1)
        above = (scores - least[..., None]).masked_fill(~visible, 0.0)  # of equal scores, 0 exactly
        edge = above.sum(-1, dtype=torch.float64) / count - SAME * above.amax(-1)
        negative, below = (
            (visible & (one < most)).to(self.weights.dtype)
            for one, most in ((scores, 0.0), (above, edge[..., None]))
        )
        found = {
            "negative_frac": negative.sum(-1) / count,
            "negative_mass": (negative * self.weights).sum(-1),
            "below_mean_mass": (below * self.weights).sum(-1),
        }
        return {name: one.where(least.isfinite(), torch.nan) for name, one in found.items()}

    def _eliminated(self) -> Float[Tensor, "layers batch probes"]:
        """Count pairs of a measured head and a key outside with a weight under the threshold."""
        threshold = ELIMINATED_BELOW * self.rest / self.n_outside[:, :, None]
        below = torch.empty_like(self.kept)
        torch.lt(self.kept, threshold[..., None], out=below)
        # all other keys are 0 in `kept`, which is under the threshold of a measured head
        others = self.kept.shape[-1] - self.n_outside
        return (below.sum(-1) - others[:, :, None]).where(self.measured, 0.0).sum(2)


def nearest(
    weights: Float[Tensor, "layers batch *some keys"],
    keys: Bool[Tensor, "layers batch *more keys"],
    total: Float[Tensor, "layers batch *some"],
) -> Float[Tensor, "layers batch *some"]:
    """Count the nearest of some keys that together hold ``CONTEXT`` of the weight on all of them.

    Args:
        weights: Weights, 0 but on these keys.
        keys: Which keys count.
        total: Sum of the weights.
    """
    held = weights.flip(-1).cumsum(-1, dtype=torch.float64)
    # rounding must not ask for one key more where weights are equal
    short = held < (CONTEXT * (1.0 - SAME)) * total[..., None]
    return (short & keys.flip(-1)).sum(-1).to(weights.dtype) + 1.0


def products(
    rows: Float[Tensor, "layers batch *some keys"],
    members: Float[Tensor, "batch spans keys"],
    last: Float[Tensor, "batch keys"],
) -> Float[Tensor, "layers batch *some columns"]:
    """Sum rows over the tokens of each span, and over ``last``."""
    columns = torch.cat([members, last[:, None]], 1).transpose(1, 2)
    flat = rows.flatten(2, -2) @ columns
    return flat.view(*rows.shape[:-1], columns.shape[-1])
