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

WHOLES = ("entropy", "n_eff", "sink_mass", "eliminated_frac", "masked_frac")
"""Columns of whole rows; see ``AttentionSums.wholes``."""


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

    @classmethod
    def of(
        cls,
        weights: Float[Tensor, "layers batch heads probes keys"],
        visible: Bool[Tensor, "layers batch probes keys"],
        members: Float[Tensor, "batch spans keys"],
        sink: Bool[Tensor, "batch keys"],
    ) -> AttentionSums:
        """Sum rows over spans; NaN without a visible token, and in sums without sinks for heads not measured.

        Args:
            weights: Attention weights, float32 or better.
            visible: Which keys each query may see.
            members: 1 for the tokens of each span.
            sink: Which keys are sinks.
        """
        members, seen, sinks = (part.to(weights.dtype) for part in (members, visible, sink))
        everything = torch.ones_like(sinks)
        outside = seen * (1.0 - sinks)[:, None]
        kept = weights * outside[:, :, None]
        whole = _products(weights, members, sinks)
        without = _products(kept, members, everything)
        rest = without[..., -1]
        # sums as matrix products: no copy of the weights per span
        sizes, sizes_no_sink = (_products(keys, members, everything) for keys in (seen, outside))
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
        """Return what each row leaves to no key: 1 minus its weights on sinks and on all other keys."""
        return (1.0 - self.given.double() - self.rest.double()).clamp(min=0.0)

    def wholes(
        self, sink: Bool[Tensor, "batch keys"], positions: Int[Tensor, "batch probes"]
    ) -> dict[str, Tensor]:
        """Reduce whole rows to entropy (nats) and the shares of sinks, eliminated and masked keys.

        Args:
            sink: Which keys are sinks.
            positions: Index of each probed query.

        Returns:
            Numbers by column, [layers, batch, probes].
        """
        entropy = -plogp(self.weights).sum(-1)
        given = self.given.mean(2)
        has_sink = sink.any(-1)[:, None].expand_as(given)
        pairs = self.measured.sum(2) * self.n_outside
        return {
            "entropy": entropy.mean(2),
            "n_eff": entropy.exp().mean(2),
            "sink_mass": given.where(has_sink, torch.nan),
            "eliminated_frac": self._eliminated() / pairs,  # 0 / 0 = NaN: no measured head
            "masked_frac": 1.0 - self.n_keys.double() / (positions + 1),
        }

    def _eliminated(self) -> Float[Tensor, "layers batch probes"]:
        """Count pairs of a measured head and a key outside with a weight under the threshold."""
        threshold = ELIMINATED_BELOW * self.rest / self.n_outside[:, :, None]
        below = torch.empty_like(self.kept)
        torch.lt(self.kept, threshold[..., None], out=below)
        # all other keys are 0 in `kept`, which is under the threshold of a measured head
        others = self.kept.shape[-1] - self.n_outside
        return (below.sum(-1) - others[:, :, None]).where(self.measured, 0.0).sum(2)


def _products(
    rows: Float[Tensor, "layers batch *some keys"],
    members: Float[Tensor, "batch spans keys"],
    last: Float[Tensor, "batch keys"],
) -> Float[Tensor, "layers batch *some columns"]:
    """Sum rows over the tokens of each span, and over ``last``."""
    columns = torch.cat([members, last[:, None]], 1).transpose(1, 2)
    flat = rows.flatten(2, -2) @ columns
    return flat.view(*rows.shape[:-1], columns.shape[-1])
