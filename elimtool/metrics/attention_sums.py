"""Sums over attention rows of some layers: weights, visible keys and spans in; numbers of both out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

LEAST_OUTSIDE_SINK = 0.01
"""A head that gives the non-sink keys less than this has no measurable distribution over them."""

ELIMINATED_BELOW = 0.25
"""A key is eliminated if its sink-excluded weight is below this share of the uniform weight."""


@dataclass(frozen=True, slots=True)
class AttentionSums:
    """Some layers' attention rows, what each may see, and their sums over spans.

    ``outside`` are the visible keys that are no sink, ``rest`` the weight they hold in each head, and
    ``measured`` the heads where that is enough to speak of a distribution over them.
    """

    weights: Float[Tensor, "layers batch heads probes keys"]
    outside: Float[Tensor, "layers batch probes keys"]
    rest: Float[Tensor, "layers batch heads probes"]
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
        """Sum rows over spans; what no visible token or no measurable head gives is NaN."""
        members = members.to(weights.dtype)
        seen = visible.to(weights.dtype)
        outside = seen * (~sink)[:, None]
        rest = torch.einsum("lbhpk,lbpk->lbhp", weights, outside)
        measured = rest >= LEAST_OUTSIDE_SINK
        sizes = torch.einsum("lbpk,bsk->lbps", seen, members)
        sizes_no_sink = torch.einsum("lbpk,bsk->lbps", outside, members)
        mass = torch.einsum("lbhpk,bsk->lbhps", weights, members)
        kept = torch.einsum("lbhpk,bsk->lbhps", weights * outside[:, :, None], members) / rest[..., None]
        known = measured[..., None] & (sizes_no_sink > 0)[:, :, None]
        return cls(
            weights=weights,
            outside=outside,
            rest=rest,
            measured=measured,
            n_keys=seen.sum(-1),
            n_outside=outside.sum(-1),
            sizes=sizes,
            sizes_no_sink=sizes_no_sink,
            mass=mass.where((sizes > 0)[:, :, None], torch.nan),
            mass_no_sink=kept.where(known, torch.nan),
        )

    def spans(self) -> dict[str, Tensor]:
        """What the heads give each span: means, the largest head, both against the uniform share.

        Returns:
            Numbers by column, [layers, batch, probes, spans] or without the last axis.
        """
        mean = self.mass.mean(2)
        largest, head = self.mass.nan_to_num(nan=-1.0).max(2)
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

    def wholes(
        self, sink: Bool[Tensor, "batch keys"], positions: Int[Tensor, "batch probes"]
    ) -> dict[str, Tensor]:
        """What whole rows are like: entropy (nats), shares of sinks, of eliminated and of masked keys.

        Args:
            sink: Which keys are sinks.
            positions: Index of each probed query.

        Returns:
            Numbers by column, [layers, batch, probes].
        """
        entropy = torch.special.entr(self.weights).sum(-1)
        threshold = ELIMINATED_BELOW * self.rest / self.n_outside[:, :, None]
        counted = (self.outside[:, :, None] > 0) & self.measured[..., None]
        below = (self.weights < threshold[..., None]) & counted
        pairs = self.measured.sum(2) * self.n_outside
        given = torch.einsum("lbhpk,bk->lbhp", self.weights, sink.to(self.weights.dtype)).mean(2)
        has_sink = sink.any(-1)[:, None].expand_as(given)
        return {
            "entropy": entropy.mean(2),
            "n_eff": entropy.exp().mean(2),
            "sink_mass": given.where(has_sink, torch.nan),
            "eliminated_frac": below.sum((2, 4)) / pairs,  # 0 / 0 = NaN: no head to measure
            "masked_frac": 1.0 - self.n_keys.double() / (positions + 1),
        }
