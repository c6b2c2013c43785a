"""Install hooks that change or watch a running model, and remove them after the pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from elimtool.errors import ElimError
from elimtool.model.experts import Routed, experts_of, n_experts
from elimtool.model.interventions.edits import Change, Cut, Intervention, Site
from elimtool.model.interventions.reference import ReferenceActivations
from elimtool.model.view import Batch
from elimtool.numerics.transfer import sent

Plan = Sequence[Intervention]
"""Interventions on one prompt, in order."""


def hook_point(bridge: Any, site: Site) -> nn.Module:
    """Find the hook point whose output is a site's value.

    Raises:
        ElimError: The architecture does not show it.
    """
    block = bridge.blocks[max(site.layer, 0)]
    if site.kind == "residual":
        return block.hook_in if site.layer < 0 else block.hook_out  # type: ignore[no-any-return]
    part: Any = getattr(block, "mlp" if site.kind == "mlp" else "attn", None)
    projection: Any = getattr(part, "out" if site.kind == "mlp" else "o", None)
    if site.kind == "heads":
        point = getattr(projection, "hook_in", None)
    else:
        behind: Any = getattr(block, "ln2_post" if site.kind == "mlp" else "ln1_post", None)
        places = [behind, projection, part] if isinstance(behind, nn.Module) else [projection, part]
        point = next((place.hook_out for place in places if hasattr(place, "hook_out")), None)
    if not isinstance(point, nn.Module):
        what = "MLP" if site.kind == "mlp" else site.kind
        raise ElimError(
            f"layer {site.layer} of this architecture does not show its {what}",
            "elimtool cannot intervene there",
        )
    return point


def shows_weights(block: Any) -> bool:
    """Tell whether a block of the bridge shows attention weights: state spaces, for example, have none."""
    return hasattr(getattr(block, "attn", None), "hook_pattern")


@contextmanager
def installed(
    bridge: Any, batch: Batch, plans: Sequence[Plan], reference: ReferenceActivations | None = None
) -> Iterator[None]:
    """While open, run every forward pass of ``batch`` under its rows' interventions.

    Args:
        bridge: The ``TransformerBridge``.
        batch: The batch that runs; hooks of other batches would not fit.
        plans: Interventions of each row of the batch.
        reference: Activations of reference text, where an intervention needs them.

    Raises:
        ElimError: A prompt lacks what an intervention names, or the architecture does not let it act; the
            latter is known only after the pass.
    """
    changes, cuts = _gathered(batch, plans, len(bridge.blocks), reference)
    # a layer of another kind has no edges; that some layer has them is checked with the intervention
    cuts = {layer: cut for layer, cut in cuts.items() if shows_weights(bridge.blocks[layer])} or cuts
    pending: set[object] = {*changes, *cuts}  # places whose hooks have not run yet

    def change(site: Site, _module: nn.Module, _args: Any, out: Tensor) -> Tensor:
        pending.discard(site)
        return _changed(site, out, batch, changes[site], int(bridge.cfg.n_heads))

    def weigh(site: Site, module: nn.Module, args: Any, named: dict[str, Any]) -> Any:
        if (routed := Routed.of(args, named, n_experts(module))) is None:
            return None
        pending.discard(site)
        return routed.replaced(args, named, _weighed(routed, batch, changes[site]))

    def mask(layer: int, args: Any, named: dict[str, Any]) -> Any:
        if "attention_mask" not in named:
            return None
        pending.discard(layer)
        sample = next(value for value in (*args, *named.values()) if _floating(value))
        return args, {**named, "attention_mask": _masked(named["attention_mask"], cuts[layer], sample)}

    with ExitStack() as hooks:
        for site in changes:
            hooks.enter_context(_at(bridge, site, change, weigh))
        for layer in cuts:
            attention: Any = getattr(bridge.blocks[layer], "attn", None)
            if isinstance(attention, nn.Module):
                hook = attention.register_forward_pre_hook(
                    lambda _m, args, named, i=layer: mask(i, args, named), with_kwargs=True
                )
                hooks.enter_context(hook)
        yield
        if pending:
            raise _unheard(pending)


def _at(bridge: Any, site: Site, change: Callable[..., Any], weigh: Callable[..., Any]) -> Any:
    """Hook a site: ``change`` gets its value, or ``weigh`` the arguments of its experts."""
    if site.kind != "experts":
        return hook_point(bridge, site).register_forward_hook(partial(change, site))
    experts = experts_of(bridge.blocks[site.layer])
    assert experts is not None  # ``Component.check`` looked
    return experts.register_forward_pre_hook(partial(weigh, site), with_kwargs=True)


@contextmanager
def watching(
    bridge: Any, batch: Batch, sites: Sequence[Site], see: Callable[[Site, Tensor], None]
) -> Iterator[None]:
    """While open, pass every site's value in a pass of ``batch``, [batch, keys, width], to ``see``."""
    with ExitStack() as hooks:
        for site in sites:
            hook = hook_point(bridge, site).register_forward_hook(
                lambda _m, _i, out, s=site: see(s, _by_token(s, out, batch))
            )
            hooks.enter_context(hook)
        yield


@contextmanager
def putting(bridge: Any, batch: Batch, site: Site, edits: list[tuple[int, Change]]) -> Iterator[None]:
    """While open, make changes of single rows of ``batch`` at one site; each is of a row's number."""
    n_heads = int(bridge.cfg.n_heads)
    with hook_point(bridge, site).register_forward_hook(
        lambda _m, _i, out: _changed(site, out, batch, edits, n_heads)
    ):
        yield


def _gathered(
    batch: Batch, plans: Sequence[Plan], n_layers: int, reference: ReferenceActivations | None
) -> tuple[dict[Site, list[tuple[int, Change]]], dict[int, Tensor]]:
    """Sort the rows' edits by place: changes by site, cut edges by layer as [batch, queries, keys]."""
    changes: dict[Site, list[tuple[int, Change]]] = {}
    cuts: dict[int, Tensor] = {}
    n = batch.ids.shape[1]
    for row, (one, plan) in enumerate(zip(batch.encoded, plans, strict=True)):
        for intervention in plan:
            for edit in intervention.edits(one, n_layers, reference):
                if isinstance(edit, Change):
                    changes.setdefault(edit.site, []).append((row, edit))
                    continue
                edges = _edges(edit, n)
                if bool(edges.any()):
                    whole = cuts.setdefault(edit.layer, torch.zeros(len(plans), n, n, dtype=torch.bool))
                    whole[row] |= edges
    return changes, {layer: sent(edges, batch.ids.device) for layer, edges in cuts.items()}


def _edges(cut: Cut, n: int) -> Tensor:
    """Make a mask [queries, keys] of the cut edges that causal attention has, without those to itself."""
    queries, keys = (torch.tensor(indices, dtype=torch.long) for indices in (cut.queries, cut.keys))
    edges = torch.zeros(n, n, dtype=torch.bool)
    edges[queries[:, None], keys] = True
    return edges.tril(-1)


def _by_token(site: Site, out: Any, batch: Batch) -> Tensor:
    """Reshape a site's value to [batch, keys, width]; OPT flattens tokens for its MLP."""
    if isinstance(out, Tensor) and out.numel() % batch.ids.numel() == 0:
        if out.shape[:2] == batch.ids.shape and out.ndim == 3:
            return out
        if out.ndim == 2 and len(out) == batch.ids.numel():
            return out.reshape(*batch.ids.shape, -1)
    raise ElimError(
        f"layer {site.layer} of this architecture does not show its {site.kind} token by token",
        "elimtool cannot intervene there",
    )


def _changed(site: Site, out: Tensor, batch: Batch, edits: list[tuple[int, Change]], n_heads: int) -> Tensor:
    new = _by_token(site, out, batch).clone()  # the model may use the tensor elsewhere too
    width = new.shape[-1]
    if site.kind == "heads" and width % n_heads:
        raise ElimError(
            f"layer {site.layer}: {width} channels do not divide into {n_heads} heads",
            "elimtool cannot intervene there",
        )
    for row, edit in edits:
        size = width // n_heads
        columns = slice(None) if edit.head is None else slice(edit.head * size, (edit.head + 1) * size)
        where = sent(torch.tensor(edit.positions, dtype=torch.long), new.device)
        if edit.values is None:
            new[row, where, columns] *= edit.factor
        else:
            new[row, where, columns] = sent(edit.values, new.device).to(new.dtype)
    return new.reshape(out.shape)


def _weighed(routed: Routed, batch: Batch, edits: list[tuple[int, Change]]) -> Tensor:
    """Scale the weights of experts at some tokens; which experts run stays as it is."""
    _, chosen, weights = routed.values
    new = weights.clone()
    for row, edit in edits:
        if routed.place is None and edit.factor not in (0, 1):  # the output is not proportional to its input
            raise ElimError(
                f"`scale` expert.{edit.site.layer}.{edit.head}={edit.factor:g}: this architecture multiplies"
                " what its experts read, not what they write",
                "use 0, or `ablate`",
            )
        tokens = torch.zeros(batch.ids.shape, dtype=torch.bool)
        tokens[row, list(edit.positions)] = True
        scaled = sent(tokens.flatten()[:, None], new.device) & (chosen == edit.head)
        new = torch.where(scaled, new * edit.factor, new)
    return new


def _masked(mask: Tensor | None, edges: Tensor, sample: Tensor) -> Tensor:
    """Hide the cut edges in a layer's mask."""
    least = torch.finfo(sample.dtype).min
    if mask is None or mask.ndim != 4:
        # a layer without a mask is causal; once it has one, only the mask makes it so
        n = edges.shape[1]
        mask = torch.full((1, 1, n, n), least, dtype=sample.dtype, device=sample.device).triu(1)
    cut = edges[:, None].to(mask.device)
    spare = mask.shape[-1] - cut.shape[-1]
    if spare:  # some families pad their mask
        cut = torch.nn.functional.pad(cut, (0, spare))
    whole = mask.expand(len(edges), *mask.shape[1:])
    return whole & ~cut if mask.dtype == torch.bool else whole.masked_fill(cut, least)


def _floating(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _unheard(pending: set[object]) -> ElimError:
    first = sorted(pending, key=str)[0]
    where = f"layer {first.layer}" if isinstance(first, Site) else f"the attention of layer {first}"
    return ElimError(
        f"{where} did not run through its hooks: nothing was changed there",
        "elimtool cannot intervene on this architecture at this place",
    )
