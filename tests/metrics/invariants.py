"""What must hold of weights, norms, contributions and sources in every model: sums, changes that do nothing.

Called by the tests that loop over families, on the model that these have loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

import elimtool
from elimtool import TraceOptions
from elimtool.metrics.attention_sums import AttentionSums
from elimtool.metrics.carried_sums import CarriedSums
from elimtool.metrics.carried_vectors import CarriedRows
from elimtool.metrics.metric import Settings
from elimtool.metrics.sources import Sources
from elimtool.model.carried import Carried
from elimtool.model.view import LayerView
from elimtool.prompts.prompt import NULL, SINK

NEAR = {"atol": 2e-5, "rtol": 1e-4}
TABLES = (
    "attention",
    "attention_heads",
    "attention_layers",
    "head_context",
    "contributions",
    "rollout",
    "encoding_walk",
    "encoding_steps",
)
FACTOR = 3.0


def assert_sums(model: Any, text: str) -> None:
    """Trace a prompt, and compare the sums of every table of shares with 1."""
    options = TraceOptions(
        position="0,5,-1", heads=True, samplers=(), lens="raw", rollout=True, tables=TABLES
    )
    run = elimtool.trace(model, text, options=options)
    layers = run.table("attention_layers")
    _rollout(run, layers)
    _walk(run, layers)
    if layers["no_weights"].notna().all():
        assert "attention" not in run.tables
        return
    spans = run.table("attention")
    known = layers[layers["undecomposed"].isna() & layers["no_weights"].isna()]
    key = ["position", "layer"]
    places = set(zip(known["position"], known["layer"], strict=True))
    spans["known"] = [place in places for place in zip(spans["position"], spans["layer"], strict=True)]
    assert spans.groupby("known")["norm_share"].count().get(False, 0) == 0
    np.testing.assert_allclose(spans.groupby(key)["mass"].sum(), 1, atol=1e-5)
    own = spans[spans["known"]]
    assert (own["norm_share"].notna() == own["mass"].notna()).all()
    for column in ("norm_share", "block_share"):
        np.testing.assert_allclose(own.groupby(key)[column].sum(), 1, atol=1e-5)
        assert own[column].dropna().between(0, 1 + 1e-6).all()
    assert (own[own["span"] == NULL]["norm_share"] == 0).all()
    np.testing.assert_array_equal(
        layers["null_mass"].notna(),
        [(spans[(spans["layer"] == layer)]["span"] == NULL).any() for layer in layers["layer"]],
    )
    _heads(run, known)
    parts = run.table("contributions") if "contributions" in run.tables else spans.iloc[:0]
    if len(known):
        sums = parts.groupby([*key, "block_step"])[["contribution", "alignment"]].sum()
        at = [place[:2] in places for place in sums.index]
        np.testing.assert_allclose(sums[at], 1, atol=1e-5)
        first = known[known["position"] == 0]
        assert (first["mixing"] == 0).all()  # the first query has only its own token
        assert ((known["mixing"] >= 0) & (known["mixing"] <= 1)).all()


def _heads(run: Any, known: Any) -> None:
    if not len(known):
        return
    heads, own = run.table("attention_heads"), ["position", "layer", "head"]
    sums = heads.groupby(own)["norm_share"].sum(min_count=1).dropna()
    assert len(sums) == len(known) * heads["head"].nunique()
    np.testing.assert_allclose(sums, 1, atol=1e-5)
    first = heads[(heads["position"] == 0) & (heads["span"] == SINK)]["norm_share"].dropna()
    np.testing.assert_allclose(first, 1, atol=1e-6)  # a row of one key
    contexts = run.table("head_context").merge(heads[heads["span"] == SINK], on=own, suffixes=("", "_span"))
    # a window may hide the sink: its share is null as a span, and 0 of the row
    np.testing.assert_allclose(contexts["sink_mass"], contexts["mass"].fillna(0), atol=1e-6)


def _rollout(run: Any, layers: Any) -> None:
    rows = run.table("rollout")
    whole = layers["undecomposed"].isna().all() and layers["no_weights"].isna().all()
    assert rows["undecomposed"].isna().all() == whole
    assert rows["rollout"].isna().all() != whole
    if whole:
        for column in ("rollout", "rollout_null"):
            np.testing.assert_allclose(rows.groupby("position")[column].sum(), 1, atol=1e-9)
        np.testing.assert_allclose(rows[rows["position"] == 0]["lift"].dropna(), 0, atol=1e-9)


def _walk(run: Any, layers: Any) -> None:
    walk, steps = run.table("encoding_walk"), run.table("encoding_steps")
    lengths = steps.pivot_table(
        index=["position", "layer"], columns="kind", values="step_length", dropna=False
    )
    blocks = lengths["block"]
    np.testing.assert_allclose(blocks.groupby("position").sum(), walk["length_blocks"], rtol=1e-9)
    assert (walk["displacement"] <= walk["length_blocks"] * (1 + 1e-6)).all()
    split = walk["undecomposed"].isna()
    assert (walk["length"].notna() == split).all() and (walk["aggregation_share"].notna() == split).all()
    assert (walk["length_blocks"] <= walk["length"] * (1 + 1e-6))[split].all()
    if layers["undecomposed"].isna().all() and layers["no_weights"].isna().all():
        assert split.all() and walk["self_share"].notna().all()


def measured(view: LayerView, carried: Carried, weights: Tensor, some: slice) -> dict[str, Tensor]:
    """Every column of what some rows carry, each token a span; the first one is the sink."""
    batch, keys = weights.shape[0], weights.shape[-1]
    assert view.visible is not None
    members = torch.eye(keys).repeat(batch, 1, 1)
    sink = torch.arange(keys).repeat(batch, 1) == 0
    rows = AttentionSums.of(weights[None, :, :, some], view.visible[None, :, some], members, sink)
    parts = CarriedRows([carried], rows.weights, view.batch.positions[:, some], some, (True,) * batch)
    found = CarriedSums.of(parts, rows, members, sink)
    assert bool(found.known.all())
    each = {"heads": found.heads[0], "mass": rows.mass[0], "others": found.others[0]}
    return {name: one[0] for name, one in (found.spans | found.wholes).items()} | each


def changed(carried: Carried, **parts: Any) -> Carried:
    """Replace parts; what is computed once from others is given as it is."""
    computed = {"scale": carried.scale, "constant": carried.constant, "gate": carried.gate}
    fields = {name: one for name, one in parts.items() if name not in computed}
    made = replace(carried, **fields)
    vars(made).update(computed | {name: one for name, one in parts.items() if name in computed})
    return made


def turned(carried: Carried, turn: Tensor) -> Carried:
    """The same layer with the basis of the residual stream turned."""
    output = replace(carried.output, weight=turn @ carried.output.whole, gain=None, kept={})
    before, after, first, second = (
        one.float() @ turn.T for one in (carried.before, carried.after, *carried.added)
    )
    return changed(
        carried,
        output=output,
        before=before,
        after=after,
        added=(first, second),
        constant=carried.constant @ turn.T,
    )


def scaled(carried: Carried, all_of_it: bool) -> Carried:
    """The same layer with its values, or everything, larger by a factor."""
    values = carried.values * FACTOR
    heads = replace(carried.heads, inputs=carried.heads.inputs * FACTOR)
    if not all_of_it:
        return changed(carried, values=values, heads=heads)
    before, after, first, second = (one * FACTOR for one in (carried.before, carried.after, *carried.added))
    constant = carried.constant * FACTOR
    return changed(
        carried,
        values=values,
        heads=heads,
        before=before,
        after=after,
        added=(first, second),
        constant=constant,
    )


def with_groups_reversed(carried: Carried, weights: Tensor) -> tuple[Carried, Tensor, Tensor]:
    """The same layer with its groups of heads in another order: carried, weights, and the order of heads."""
    count, groups = carried.heads.count, carried.values.shape[1]
    order = torch.arange(count).view(groups, -1).flip(0).flatten()

    def of(values: Tensor) -> Tensor:
        return values.unflatten(-1, (count, -1))[..., order, :].flatten(-2)

    output = replace(carried.output, weight=of(carried.output.weight), kept={})
    heads = replace(carried.heads, inputs=of(carried.heads.inputs), weight=of(carried.heads.weight))
    gate = None if carried.gate is None else carried.gate[:, :, order]
    made = changed(carried, values=carried.values.flip(1), heads=heads, output=output, gate=gate)
    return made, weights[:, order], order


def assert_changes_do_nothing(views: Sequence[LayerView]) -> None:
    """Turn the basis, scale, reorder heads and keys of a layer, and compare what is measured."""
    for view in views[:0:-1]:
        carried, weights = view.carried, view.attention
        if carried is None or weights is None or not bool(carried.rebuilds(slice(None), weights).all()):
            continue
        _layer(view, carried, weights, slice(weights.shape[2] - 2, weights.shape[2]))
        _sources(view, carried, weights)
        return


def _layer(view: LayerView, carried: Carried, weights: Tensor, some: slice) -> None:
    plain = measured(view, carried, weights, some)
    lengths = torch.einsum("bphks,hds->bphkd", carried.each(some, weights.shape[-1]), carried.map).norm(
        dim=-1
    )
    norms = weights[:, :, some] * lengths.transpose(1, 2)
    norms = (norms / norms.sum(-1, keepdim=True)).where(plain["mass"].isfinite(), torch.nan)
    torch.testing.assert_close(plain["heads"], norms.to(plain["heads"].dtype), **NEAR, equal_nan=True)
    width, keys = carried.before.shape[-1], weights.shape[-1]
    generator = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64))[0].float()
    same(plain, measured(view, turned(carried, turn), weights, some), without=("contribution", "clipped"))
    # distances in the 1-norm stand on the channels: these may be flipped and change places
    signs = torch.ones(width).where(torch.arange(width) % 2 == 0, -1.0)
    flips = torch.eye(width)[torch.randperm(width, generator=generator)] * signs
    same(plain, measured(view, turned(carried, flips), weights, some))
    same(plain, measured(view, scaled(carried, True), weights, some))
    values_only = measured(view, scaled(carried, False), weights, some)
    for name in ("norm_share", "block_share", "heads", "sink_norm_share", "sink_value_ratio"):
        torch.testing.assert_close(values_only[name], plain[name], **NEAR, equal_nan=True)
    reordered, moved, order = with_groups_reversed(carried, weights)
    other = measured(view, reordered, moved, some)
    for name in ("heads", "mass"):
        other[name] = other[name][:, order.argsort()]
    same(plain, other)
    _keys(view, carried, weights, some, plain, keys)
    _equal_values(view, carried, weights, some)


def same(one: dict[str, Tensor], other: dict[str, Tensor], without: Sequence[str] = ()) -> None:
    """Compare all columns but some."""
    for name, values in one.items():
        if name == "others" and without:  # contribution is the first of its columns
            torch.testing.assert_close(other[name][..., 1:], values[..., 1:], **NEAR, equal_nan=True)
        elif name not in without:
            torch.testing.assert_close(
                other[name], values, **NEAR, equal_nan=True, msg=lambda said, name=name: f"{name}: {said}"
            )


def _keys(
    view: LayerView, carried: Carried, weights: Tensor, some: slice, plain: dict[str, Tensor], keys: int
) -> None:
    """Keys in another order give every span what it had; the sink and the queries' own keep their places."""
    order = torch.arange(keys)
    order[1 : keys - 2] = order[1 : keys - 2].flip(0)
    assert view.visible is not None
    moved = replace(view, visible=view.visible[..., order])
    other = measured(moved, changed(carried, values=carried.values[:, :, order]), weights[..., order], some)
    for name in ("heads", "mass", "norm_share", "block_share", "contribution", "alignment", "length"):
        other[name] = other[name][..., order.argsort()]
    same(plain, other)


def _equal_values(view: LayerView, carried: Carried, weights: Tensor, some: slice) -> None:
    """Where all keys have one value, each head carries from them what it weighs."""
    values = carried.values[:, :, -1:].expand_as(carried.values)
    each = values[:, :, -1].repeat_interleave(carried.heads.count // values.shape[1], dim=1)[:, None]
    gathered = weights.sum(-1).transpose(1, 2)[..., None] * each
    if carried.gate is not None:
        gathered = gathered * carried.gate
    heads = replace(carried.heads, inputs=gathered.flatten(-2).to(carried.heads.inputs.dtype))
    found = measured(view, changed(carried, values=values, heads=heads), weights, some)
    mass = found["mass"] / found["mass"].nansum(-1, keepdim=True)
    torch.testing.assert_close(found["heads"], mass.to(found["heads"].dtype), **NEAR, equal_nan=True)


def _sources(view: LayerView, carried: Carried, weights: Tensor) -> None:
    """A token's value scales its own cells alone, hidden keys have none, equal values follow the weights."""
    assert view.visible is not None
    batch, generator = view.batch, torch.Generator().manual_seed(1)
    rows = batch.rows
    toward = torch.randn(len(rows[0]), 1, carried.before.shape[-1], generator=generator)

    def cells(values: Tensor) -> Any:
        made = Sources(batch, Settings())
        made.observe(replace(view, carried=changed(carried, values=values)))
        made._flush()
        found, seen = made.cells(rows, toward)
        return found[:, 0, 0, :, : seen.shape[-1]], seen[:, 0], made.parts  # rows, heads, spans

    plain, seen, parts = cells(carried.values)
    token = int(parts.members[0, 2].nonzero()[0])
    larger = carried.values.clone()
    larger[:, :, token] *= FACTOR
    other, _, _ = cells(larger)
    factor = np.ones(plain.shape[-1])
    factor[2] = FACTOR
    np.testing.assert_allclose(other, plain * factor, atol=2e-4, rtol=1e-3)
    hidden = ~np.broadcast_to(seen[:, None], plain.shape)
    assert (plain[hidden] == 0).all()
    last = view.visible[rows[0], rows[1]].float() @ parts.members[0].float().T > 0
    np.testing.assert_array_equal(seen, last.numpy())
    even, _, _ = cells(carried.values[:, :, -1:].expand_as(carried.values).clone())
    mass = torch.einsum("hik,sk->ihs", weights[0], parts.members[0].to(weights.dtype)).numpy()
    total = even.sum(-1, keepdims=True) * mass / mass.sum(-1, keepdims=True)
    np.testing.assert_allclose(even, total, atol=2e-4, rtol=1e-3)
