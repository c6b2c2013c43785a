"""Find the mixtures of experts of a model, and read what their routers chose while it runs.

Since transformers 5 the experts of most families are one module that is called with tokens, indices of the
chosen experts and their weights. So single experts are run by that module itself, with one index and weight
at a time, and nothing here knows how a family stores or computes them. Llama 4 calls its module with every
token for every expert, times the router's score, which is 0 for experts that are not chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from elimtool.model.mixture import Mixture, router_scores
from elimtool.model.taps import Taps
from elimtool.model.view import Batch

Cut = Callable[[Tensor], Tensor]
"""Cuts the probed rows out of a tensor of all tokens."""

ROUTERS = ("gate", "router")
SHARED = ("shared_expert", "shared_experts", "shared_mlp")


class MixtureReader:
    """Watches the experts of one block.

    Args:
        parts: Modules ``experts``, ``router``, ``shared``, and ``around`` them where the bridge does not
            show that one's output as the MLP's; all but the first may be missing.
    """

    def __init__(self, parts: Mapping[str, nn.Module]) -> None:
        self.parts = parts
        self.seen: dict[str, Any] = {}
        self.scaled = False  # whether each expert gets every token times its weight
        self.kind: Callable[[Tensor], Tensor] | None = None

    @classmethod
    def of(cls, block: Any) -> MixtureReader | None:
        """Find the experts of a block of the bridge; ``None`` where it has none."""
        around = _mixture(block)
        if around is None:
            return None
        found = {"experts": _inside(around.experts)}
        if around is not getattr(getattr(block, "mlp", None), "original_component", None):
            found["around"] = around
        for role, names in (("router", ROUTERS), ("shared", SHARED)):
            for name in names:
                if isinstance(one := getattr(around, name, None), nn.Module):
                    found[role] = _inside(one)
        return cls(found)

    def attach(self, taps: Taps, batch: Batch) -> None:
        """Watch the experts in the next pass."""
        self.seen.clear()

        def cut(values: Tensor) -> Tensor:
            flat = values.reshape(batch.running.numel(), -1).index_select(0, batch.places.to(values.device))
            return flat.view(*batch.positions.shape, -1).to(batch.ids.device)

        def leave(out: Tensor) -> None:
            self.scaled = out.ndim == 2 and len(out) > batch.running.numel()
            several = out.reshape(n_experts(experts), -1, out.shape[-1]) if self.scaled else None
            self.seen["outputs"] = cut(out if several is None else several.sum(0))

        experts = self.parts["experts"]
        enter = partial(self._enter, cut)
        taps.handles.append(experts.register_forward_pre_hook(enter, with_kwargs=True))
        taps.after(experts, leave)
        if "router" in self.parts:
            taps.handles.append(self.parts["router"].register_forward_hook(partial(self._route, cut)))
        for name, part in (("shared", self.parts.get("shared")), ("whole", self.parts.get("around"))):
            if part is not None:
                taps.after(part, lambda out, name=name: self.seen.__setitem__(name, cut(out)))  # type: ignore[misc]

    def _enter(self, cut: Cut, experts: nn.Module, args: Any, named: dict[str, Any]) -> None:
        """Keep what the experts are called with."""
        routed = Routed.of(args, named, n_experts(experts))
        if routed is None:
            return
        if routed.place is not None:
            self.seen["inputs"], self.seen["chosen"], self.seen["weights"] = map(cut, routed.values)
        elif "weights" in self.seen:  # an intervention may have taken the input of an expert away
            reads = (routed.values[0] != 0).any(-1).view(n_experts(experts), -1).T
            self.seen["weights"] = self.seen["weights"] * cut(reads).gather(-1, self.seen["chosen"])

    def _route(self, cut: Cut, router: nn.Module, args: Any, out: Any) -> None:
        """Keep what the router says."""
        several = isinstance(out, tuple)
        if several and len(out) == 2 and out[0].shape == out[1].shape:  # Llama 4: scores, logits
            scores, logits = map(cut, out)
            chosen = logits.topk(int(router.top_k), -1).indices  # type: ignore[arg-type]
            weights = scores.gather(-1, chosen)
            self.seen |= {"inputs": cut(args[0]), "chosen": chosen, "weights": weights}
            self.seen |= {"logits": logits, "routed": (chosen, weights)}
            return
        self.seen["logits"] = cut(out[0] if several else out)
        if several and len(out) > 2 and out[1].shape == out[2].shape:
            self.seen["routed"] = cut(out[2]), cut(out[1])

    def take(self, whole: Tensor | None) -> Mixture | None:
        """Return what the pass showed, and forget it; ``None`` where the experts are called in another way.

        Args:
            whole: Output of the layer.
        """
        seen, self.seen = self.seen, {}
        if "inputs" not in seen:
            return None
        whole = seen.get("whole", whole)
        if whole is None or seen["outputs"].shape != whole.shape:  # a projection is behind the experts
            whole = seen["outputs"]
            seen.pop("shared", None)
        chosen, order = seen["chosen"].sort(-1)
        logits = seen.get("logits")
        if logits is not None and logits.shape[-1] != n_experts(self.parts["experts"]):
            logits = None
        return Mixture(
            inputs=seen["inputs"],
            chosen=chosen,
            weights=seen["weights"].gather(-1, order),
            outputs=seen["outputs"],
            whole=whole,
            shared=seen.get("shared"),
            logits=logits,
            scores=self._scores(logits, *seen.get("routed", (seen["chosen"], seen["weights"]))),
            count=n_experts(self.parts["experts"]),
            run=self._run,
        )

    def _run(self, tokens: Tensor, *routed: Tensor) -> Tensor:
        experts = self.parts["experts"]
        where = next(experts.parameters()).device  # not of the tokens where a model is spread over devices
        given = (tokens, *routed)
        if where.type != "meta":
            given = tuple(part.to(where) for part in given)
        # not calls: the hooks are for the pass itself
        if not self.scaled:
            return experts.forward(*given).to(tokens.device)  # type: ignore[no-any-return]
        count = n_experts(experts)
        factors = given[2].new_zeros(len(tokens), count).scatter(-1, given[1], given[2])
        out: Tensor = experts.forward((given[0] * factors.T[:, :, None]).flatten(0, 1))
        return out.view(count, *tokens.shape).sum(0).to(tokens.device)

    def _scores(self, logits: Tensor | None, chosen: Tensor, weights: Tensor) -> Tensor | None:
        if logits is None:
            return None
        if self.kind is None:  # once a model: an intervention may have changed later weights
            self.kind = router_scores(logits, chosen, weights)
        return None if self.kind is None else self.kind(logits)


@dataclass(frozen=True, slots=True)
class Routed:
    """The arguments of a call of experts: tokens, and for each the chosen experts and their weights.

    Attributes:
        values: Tokens [tokens, width], indices and weights [tokens, k].
        place: Where the weights stand: index of a positional argument, or name; ``None`` where each expert
            gets tokens that are already multiplied: all experts are then chosen, with weight 1.
    """

    values: tuple[Tensor, Tensor, Tensor]
    place: int | str | None

    @classmethod
    def of(cls, args: Any, named: Mapping[str, Any], count: int = 0) -> Routed | None:
        """Read them; ``None`` for experts that are called in another way.

        Args:
            args: Arguments of the call.
            named: Those given by name.
            count: Number of experts; without it, calls with the tokens alone are not read.
        """
        given: list[tuple[int | str, Any]] = [*enumerate(args), *named.items()]
        tensors = [(place, one) for place, one in given if isinstance(one, Tensor)]
        if count and len(tensors) == 1 and args and args[0].ndim == 2 and len(args[0]) % count == 0:
            tokens = args[0]
            weights = tokens.new_ones(len(tokens) // count, count)
            every = torch.arange(count, device=tokens.device).expand(weights.shape)
            return cls((tokens, every, weights), None)
        if len(tensors) != 3:
            return None
        (_, tokens), (_, chosen), (place, weights) = tensors
        if chosen.is_floating_point() or chosen.shape != weights.shape or not weights.is_floating_point():
            return None
        return cls((tokens, chosen, weights), place)

    def replaced(self, args: Any, named: Mapping[str, Any], weights: Tensor) -> tuple[Any, dict[str, Any]]:
        """Return the arguments with other weights."""
        if self.place is None:
            return (args[0] * weights.T.reshape(-1, 1), *args[1:]), dict(named)
        if isinstance(self.place, str):
            return args, {**named, self.place: weights}
        return (*args[: self.place], weights, *args[self.place + 1 :]), dict(named)


def experts_of(block: Any) -> nn.Module | None:
    """Find the module that holds the experts of a block of the bridge; ``None`` where none can be read."""
    around = _mixture(block)
    return None if around is None else _inside(around.experts)


def unread_experts(block: Any) -> str | None:
    """Name the class of a block's experts that ``experts_of`` does not find; ``None`` for dense blocks."""
    inside = getattr(block, "original_component", block).modules()
    names = (type(module).__name__ for module in inside)
    return next((name for name in names if name.endswith("Experts")), None)


def _mixture(block: Any) -> Any:
    """Find the module inside a block that has experts and a router (JetMoe's attention has no router)."""
    whole = getattr(block, "original_component", block)
    inside = (one for one in whole.modules() if one is not whole and _inside(one) is one)
    return next((one for one in inside if {"experts"} < {"experts", *ROUTERS} & one._modules.keys()), None)


def n_experts(experts: nn.Module) -> int:
    """Count the experts of a module: those that its weights have, [experts, ...]."""
    stated = getattr(experts, "num_experts", None)
    return int(stated if stated is not None else next(experts.parameters()).shape[0])


def _inside(module: nn.Module) -> nn.Module:
    """Return the module that a component of the bridge wraps, or the module itself."""
    inner = module._modules.get("_original_component")
    return module if inner is None else inner
