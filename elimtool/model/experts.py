"""Find the mixtures of experts of a model, and read what their routers chose while it runs.

Since transformers 5 the experts of most families are one module that is called with tokens, indices of the
chosen experts and their weights. So single experts are run by that module itself, with one index and weight
at a time, and nothing here knows how a family stores or computes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from elimtool.model.mixture import Mixture, router_scores
from elimtool.model.taps import Taps
from elimtool.model.view import Batch

ROUTERS = ("gate", "router")
SHARED = ("shared_expert", "shared_experts", "shared_mlp")


class MixtureReader:
    """Watches the experts of one block.

    Args:
        parts: Modules ``experts``, ``router`` and ``shared``; the last two may be missing.
    """

    def __init__(self, parts: Mapping[str, nn.Module]) -> None:
        self.parts = parts
        self.seen: dict[str, Any] = {}
        self.kind: Callable[[Tensor], Tensor] | None = None

    @classmethod
    def of(cls, block: Any) -> MixtureReader | None:
        """Find the experts of a block of the bridge; ``None`` where it has none."""
        experts = experts_of(block)
        if experts is None:
            return None
        around = block.mlp.original_component
        found = {"experts": experts}
        for role, names in (("router", ROUTERS), ("shared", SHARED)):
            for name in names:
                if isinstance(one := getattr(around, name, None), nn.Module):
                    found[role] = _inside(one)
        return cls(found)

    def attach(self, taps: Taps, batch: Batch) -> None:
        """Watch the experts in the next pass."""
        self.seen.clear()

        def cut(values: Tensor) -> Tensor:
            flat = values.reshape(batch.ids.numel(), -1).index_select(0, batch.places.to(values.device))
            return flat.view(*batch.positions.shape, -1).to(batch.ids.device)

        def enter(_module: nn.Module, args: Any, named: dict[str, Any]) -> None:
            routed = Routed.of(args, named)
            if routed is not None:
                self.seen["inputs"], self.seen["chosen"], self.seen["weights"] = map(cut, routed.values)

        def route(_module: nn.Module, _args: Any, out: Any) -> None:
            several = isinstance(out, tuple)
            self.seen["logits"] = cut(out[0] if several else out)
            if several and len(out) > 2 and out[1].shape == out[2].shape:
                self.seen["routed"] = cut(out[2]), cut(out[1])

        experts = self.parts["experts"]
        taps.handles.append(experts.register_forward_pre_hook(enter, with_kwargs=True))
        taps.after(experts, lambda out: self.seen.__setitem__("outputs", cut(out)))
        if "router" in self.parts:
            taps.handles.append(self.parts["router"].register_forward_hook(route))
        if "shared" in self.parts:
            taps.after(self.parts["shared"], lambda out: self.seen.__setitem__("shared", cut(out)))

    def take(self, whole: Tensor | None) -> Mixture | None:
        """Return what the pass showed, and forget it; ``None`` where the experts are called in another way.

        Args:
            whole: Output of the layer.
        """
        seen, self.seen = self.seen, {}
        if whole is None or "inputs" not in seen or seen["outputs"].shape != whole.shape:
            return None
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
        given = (tokens, *routed) if where.type == "meta" else (part.to(where) for part in (tokens, *routed))
        out: Tensor = experts.forward(*given)  # not a call: the hooks are for the pass itself
        return out.to(tokens.device)

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
        place: Where the weights stand: index of a positional argument, or name.
    """

    values: tuple[Tensor, Tensor, Tensor]
    place: int | str

    @classmethod
    def of(cls, args: Any, named: Mapping[str, Any]) -> Routed | None:
        """Read them; ``None`` for experts that are called in another way."""
        given: list[tuple[int | str, Any]] = [*enumerate(args), *named.items()]
        tensors = [(place, one) for place, one in given if isinstance(one, Tensor)]
        if len(tensors) != 3:
            return None
        (_, tokens), (_, chosen), (place, weights) = tensors
        if chosen.is_floating_point() or chosen.shape != weights.shape or not weights.is_floating_point():
            return None
        return cls((tokens, chosen, weights), place)

    def replaced(self, args: Any, named: Mapping[str, Any], weights: Tensor) -> tuple[Any, dict[str, Any]]:
        """Return the arguments with other weights."""
        if isinstance(self.place, str):
            return args, {**named, self.place: weights}
        return (*args[: self.place], weights, *args[self.place + 1 :]), dict(named)


def experts_of(block: Any) -> nn.Module | None:
    """Find the module that holds the experts of a block of the bridge; ``None`` where it has none."""
    around: Any = getattr(getattr(block, "mlp", None), "original_component", None)
    experts = getattr(around, "experts", None)
    return _inside(experts) if isinstance(experts, nn.Module) else None


def n_experts(experts: nn.Module) -> int:
    """Count the experts of a module: those that its weights have, [experts, ...]."""
    stated = getattr(experts, "num_experts", None)
    return int(stated if stated is not None else next(experts.parameters()).shape[0])


def _inside(module: nn.Module) -> nn.Module:
    """Return the module that a component of the bridge wraps, or the module itself."""
    inner = module._modules.get("_original_component")
    return module if inner is None else inner
