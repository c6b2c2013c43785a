"""Find where the bridge's components stand in the wrapped model, and put back what a pass changes there."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
"""Where PyTorch keeps a module's hooks, by id."""


@dataclass(frozen=True, slots=True)
class Unchanged:
    """What passes change in a model, as it was before one.

    Attributes:
        hooks: The id that the next hook on any module got: ids rise, so that of older ones is lower.
        forwards: Methods ``forward`` of single modules.
        attention: Attention implementation of each configuration.
        training: Modules in training mode.
        trained: Parameters that take gradients.
    """

    hooks: int
    forwards: dict[nn.Module, Any]
    attention: list[Any]
    training: list[nn.Module]
    trained: list[nn.Parameter]


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in the model for a component of the bridge or for the module that it wraps.

    Attributes:
        holder: The parent's modules by name.
        name: Name of the place in ``holder``.
        component: The bridge's component.
        original: The module that it wraps; ``None`` where a family leaves the part out, such as its rotary
            embedding.
        outside: The one of both that is there between passes.
        parts: The component, and those of its parts that have no place in the model.
        points: Their hook points.
    """

    holder: dict[str, nn.Module | None]
    name: str
    component: Any
    original: Any
    outside: nn.Module
    parts: tuple[nn.Module, ...]
    points: tuple[nn.Module, ...]


class Slots:
    """The modules of a wrapped model and of the bridge around them.

    Args:
        bridge: The ``TransformerBridge``.
    """

    def __init__(self, bridge: Any) -> None:
        self.bridge = bridge
        self.hf = bridge.original_model

    @cached_property
    def slots(self) -> list[Slot]:
        """Every component of the bridge that is in the model, or can be."""
        places = [
            (one._modules, name, child)
            for one in self._inside
            for name, child in one._modules.items()
            if child is not None
        ]
        standing: set[nn.Module] = {child for _, _, child in places if _wraps(child)}
        loose = {  # parts of GPT-2's attention: the bridge calls them, the model has the modules inside
            inner: part
            for component in standing
            for part in _parts(component, standing)[1:]
            if (inner := part._modules["_original_component"]) in self._inside
        }
        standing |= set(loose.values())
        slots = []
        for holder, name, child in places:
            component: Any = loose.get(child, child)
            if component in standing:
                parts = _parts(component, standing)
                own = [one for part in parts for one in part._modules.values()]
                points = tuple(one for one in own if one is not None and hasattr(one, "hook_conversion"))
                original = component.original_component
                slots.append(Slot(holder, name, component, original, child, parts, points))
        return slots

    @cached_property
    def _inside(self) -> dict[nn.Module, None]:
        """The modules of the model alone, without those of the bridge."""
        found: dict[nn.Module, None] = {self.hf: None}
        stack = [self.hf]
        while stack:
            for child in stack.pop()._modules.values():
                one = child._modules["_original_component"] if _wraps(child) else child
                if one is not None and one not in found:
                    found[one] = None
                    stack.append(one)
        return found

    @cached_property
    def _everything(self) -> list[nn.Module]:
        """The modules of the model and of the bridge, whichever of them stand in it."""
        return list(dict.fromkeys([*self._inside, *self.bridge.modules()]))

    def state(self) -> Unchanged:
        """Note hooks and replaced methods, for ``restore``; between passes."""
        assert self.slots is not None  # found while every module is at its place
        for block in getattr(self.bridge, "blocks", ()):
            # the bridge puts hooks of its own on in its first pass, and only then: they stay
            getattr(block, "_maybe_wire_capture_hooks", lambda: None)()
        forwards: dict[nn.Module, Any] = {}
        training: list[nn.Module] = []
        trained: list[nn.Parameter] = []
        for module in self._everything:  # thousands before every call: each is looked at once
            own = module.__dict__
            if "forward" in own:
                forwards[module] = own["forward"]
            if own["training"]:
                training.append(module)
            if own["_parameters"]:
                trained += [
                    one for one in own["_parameters"].values() if one is not None and one.requires_grad
                ]
        attention = [one._attn_implementation_internal for one in self._configs]
        return Unchanged(RemovableHandle.next_id, forwards, attention, training, trained)

    def train(self, before: Unchanged, on: bool) -> None:
        """Take the model out of training for a pass, or back into what was in training before it."""
        for module in before.training:
            module.training = on
        for parameter in before.trained:
            parameter.requires_grad_(on)

    def restore(self, before: Unchanged) -> None:
        """Put everything back that a pass changes, wherever it was interrupted."""
        for slot in self.slots:
            slot.holder[slot.name] = slot.outside
        for module in self._everything:
            for kind in HOOKS:
                hooks = module.__dict__[kind]
                for key in [one for one in hooks if one >= before.hooks]:
                    hooks.pop(key, None)
            if module in before.forwards:
                module.__dict__["forward"] = before.forwards[module]
            else:
                module.__dict__.pop("forward", None)
        for config, own in zip(self._configs, before.attention, strict=True):
            config._attn_implementation_internal = own

    @cached_property
    def _linear(self) -> list[nn.Linear]:
        return [one for one in self._inside if isinstance(one, nn.Linear)]

    @cached_property
    def attention(self) -> dict[nn.Module, int]:
        """Layer of each attention module that shows its weights on a hook point."""
        blocks = enumerate(self.bridge.blocks)
        parts: list[tuple[Any, int]] = [(getattr(block, "attn", None), layer) for layer, block in blocks]
        return {
            part.original_component: layer
            for part, layer in parts
            if hasattr(part, "hook_pattern") and isinstance(part.original_component, nn.Module)
        }

    @cached_property
    def _configs(self) -> list[Any]:
        configs = [getattr(module, "config", None) for module in self.hf.modules()]
        found = {id(one): one for one in configs if hasattr(one, "_attn_implementation_internal")}
        return list(found.values())


def _wraps(module: nn.Module | None) -> bool:
    """Tell whether a module is a component of the bridge around another one."""
    return module is not None and "hook_out" in module._modules and "_original_component" in module._modules


def _parts(component: nn.Module, standing: Collection[nn.Module]) -> tuple[nn.Module, ...]:
    """List a component and those of its parts that have no place in the model."""
    found = [component]
    for name, child in component._modules.items():
        if child is not None and name != "_original_component" and child not in standing and _wraps(child):
            found += _parts(child, standing)
    return tuple(found)
