"""Sum what single keys carry over spans, and summarise whole rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from elimtool.metrics.attention_sums import AttentionSums, products
from elimtool.metrics.carried_vectors import CarriedRows, Share

PARTS = (
    ("first", "residual"),
    ("first", "mlp"),
    ("first", "bias"),
    ("mlp", "residual"),
    ("mlp", "mlp"),
)
"""Parts that are no keys: of the step with attention (with the MLP in parallel blocks), and of the MLP's."""

SHARES = ("contribution", "alignment", "length")
"""What is said of every part of a step, the last axis of ``CarriedSums.others``."""

SPANS = ("norm_share", "block_share", *SHARES)
"""Columns of spans."""

WHOLES = ("sink_norm_share", "sink_value_ratio", "mixing", "clipped")
"""Columns of whole rows."""


@dataclass(frozen=True, slots=True)
class CarriedSums:
    """Columns of what some layers' rows carry; NaN where that is not known.

    Attributes:
        known: Where the weights and values rebuild what attention put out.
        spans: [layers, batch, probes, spans] by column.
        wholes: [layers, batch, probes] by column.
        heads: Shares of spans by head, [layers, batch, heads, probes, spans].
        sinks: Share of the sinks by head, [layers, batch, heads, probes].
        others: Parts that are no keys, in the order of ``PARTS``, with ``SHARES``.
        norms: |t_ij| of each head and key, up to a factor of the query; ``None`` where nothing is known.
    """

    known: Bool[Tensor, "layers batch probes"]
    spans: dict[str, Tensor]
    wholes: dict[str, Tensor]
    heads: Float[Tensor, "layers batch heads probes spans"]
    sinks: Float[Tensor, "layers batch heads probes"]
    others: Float[Tensor, "layers batch probes parts shares"]
    norms: Float[Tensor, "layers batch heads probes keys"] | None

    @classmethod
    def unknown(cls, rows: AttentionSums) -> CarriedSums:
        """Return columns of rows of which only the weights are known."""
        spans = torch.full_like(rows.sizes, torch.nan)
        wholes = torch.full_like(rows.n_keys, torch.nan)
        parts = wholes[..., None, None].expand(*wholes.shape, len(PARTS), len(SHARES))
        return cls(
            torch.zeros_like(wholes, dtype=torch.bool),
            dict.fromkeys(SPANS, spans),
            dict.fromkeys(WHOLES, wholes),
            torch.full_like(rows.mass, torch.nan),
            torch.full_like(rows.rest, torch.nan),
            parts,
            None,
        )

    @classmethod
    def of(
        cls,
        carried: CarriedRows,
        rows: AttentionSums,
        members: Float[Tensor, "batch spans keys"],
        sink: Bool[Tensor, "batch keys"],
    ) -> CarriedSums:
        """Sum what heads carry over spans.

        Args:
            carried: What they carry; without vectors some columns are NaN.
            rows: The same attention rows, summed.
            members: 1 for the tokens of each span.
            sink: Which keys are sinks.
        """
        known, sinks, norms = carried.rebuilt, sink.double(), carried.norms.double()
        summed = products(norms, members.double(), sinks)
        total = norms.sum(-1)
        heads = (summed[..., :-1] / total[..., None]).where((rows.sizes > 0)[:, :, None], torch.nan)
        of_sink = (summed[..., -1] / total).where(sink.any(-1)[:, None, None], torch.nan)
        spans = {"norm_share": heads.mean(2)}
        wholes = {"sink_norm_share": of_sink.mean(2), "mixing": carried.mixing}
        squared = carried.result.double().square().sum(-1)
        some = rows.sizes > 0

        def over(values: Tensor) -> Tensor:
            return products(values, members.double(), sinks)[..., :-1].where(some, torch.nan)

        spans["alignment"] = over(carried.along) / squared[..., None]
        nothing = CarriedSums.unknown(rows)
        others = nothing.others
        if any(carried.vectors):
            tokens, length = carried.tokens, squared.sqrt()
            first = carried.steps.get("attention") or carried.steps["block"]
            whole = tokens.taken.sum(-1) + sum(one.taken for one in first.values())
            spans |= {
                "block_share": over(tokens.length) / tokens.length.sum(-1, keepdim=True),
                "contribution": over(tokens.taken) / whole[..., None],
                "length": over(tokens.length) / length[..., None],
            }
            clipped = rows.visible & (tokens.taken == 0)
            wholes["clipped"] = (clipped.sum(-1) / rows.n_keys.double()).where(~whole.isnan(), torch.nan)
            wholes["sink_value_ratio"] = value_ratio(carried.sizes, rows.visible, rows.outside)
            others = _others(carried, whole, squared)

        def masked(values: dict[str, Tensor], default: dict[str, Tensor]) -> dict[str, Tensor]:
            full = default | values
            return {
                name: one.where(known.reshape(*known.shape, *(1,) * (one.ndim - 3)), torch.nan)
                for name, one in full.items()
            }

        each = known[:, :, None]
        return cls(
            known,
            masked(spans, nothing.spans),
            masked(wholes, nothing.wholes),
            heads.where(each[..., None], torch.nan),
            of_sink.where(each, torch.nan),
            others.where(known[..., None, None], torch.nan),
            carried.norms,
        )


def _others(carried: CarriedRows, first: Tensor, squared: Tensor) -> Tensor:
    """Divide the parts that are no keys by the sums of their steps."""
    steps = carried.steps
    shares = {("first", name): one for name, one in (steps.get("attention") or steps["block"]).items()}
    totals, squares = {"first": first}, {"first": squared}
    if "mlp" in steps:
        shares |= {("mlp", name): one for name, one in steps["mlp"].items()}
        totals["mlp"] = torch.stack([one.taken for one in steps["mlp"].values()]).sum(0)
        squares["mlp"] = carried.after.double().square().sum(-1)
    absent = torch.full_like(squared, torch.nan)
    found = []
    for step, name in PARTS:
        one: Share | None = shares.get((step, name))
        if one is None:
            found.append(torch.stack([absent] * len(SHARES), -1))
        else:
            square = squares[step]
            found.append(
                torch.stack([one.taken / totals[step], one.along / square, one.length / square.sqrt()], -1)
            )
    return torch.stack(found, -2)


def value_ratio(
    sizes: Float[Tensor, "layers batch heads some keys"],
    visible: Bool[Tensor, "layers batch probes keys"],
    outside: Bool[Tensor, "layers batch probes keys"],
) -> Float[Tensor, "layers batch probes"]:
    """Compare the size of what heads would carry from sinks with that from other keys.

    Returns:
        Median over heads of the mean over visible sink keys over the median over the other visible keys; NaN
        where either set is empty.
    """
    here = (visible & ~outside)[:, :, None]
    mean = (sizes * here).sum(-1, dtype=torch.float64) / here.sum(-1)
    ordered = sizes.masked_fill(~outside[:, :, None], torch.inf).sort(-1).values
    count = outside.sum(-1)[:, :, None, :, None]
    ends = [(count - 1).clamp(min=0) // 2, (count // 2).clamp(max=sizes.shape[-1] - 1)]
    middle = [ordered.gather(-1, end.expand(*ordered.shape[:-1], 1))[..., 0] for end in ends]
    ratio = mean / ((middle[0] + middle[1]) / 2)
    return median(ratio).where(outside.any(-1), torch.nan)


def median(values: Float[Tensor, "layers batch heads probes"]) -> Float[Tensor, "layers batch probes"]:
    """Return the median over heads, the mean of the middle two of an even number; NaN if any is."""
    ordered, count = values.sort(2).values, values.shape[2]
    found = (ordered[:, :, (count - 1) // 2] + ordered[:, :, count // 2]) / 2
    return found.where(~values.isnan().any(2), torch.nan)


def joined(found: Sequence[CarriedSums]) -> CarriedSums:
    """Join the columns of some probes each."""
    one = found[0]
    if len(found) == 1:
        return one
    return CarriedSums(
        torch.cat([part.known for part in found], 2),
        {name: torch.cat([part.spans[name] for part in found], 2) for name in one.spans},
        {name: torch.cat([part.wholes[name] for part in found], 2) for name in one.wholes},
        torch.cat([part.heads for part in found], 3),
        torch.cat([part.sinks for part in found], 3),
        torch.cat([part.others for part in found], 2),
        None,
    )
