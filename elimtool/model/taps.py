"""Watch components of a bridge while the model runs, whether they are in it or were left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn


class Taps:
    """Hooks on inputs and outputs of components, at their hook points or at the modules inside.

    Args:
        kept: Components that are in the model during the pass; ``None`` for all.
    """

    def __init__(self, kept: set[nn.Module] | None) -> None:
        self.kept = kept
        self.handles: list[Any] = []

    def into(self, component: Any, function: Callable[[Tensor], None]) -> None:
        """Show the component's input to ``function``."""
        if self._stays(component):
            self.after(component.hook_in, function)
            return

        def show(_module: nn.Module, args: Sequence[Any], named: dict[str, Any]) -> None:
            function(args[0] if args else named["hidden_states"])

        self.handles.append(component.original_component.register_forward_pre_hook(show, with_kwargs=True))

    def out_of(self, component: Any, function: Callable[[Tensor], None]) -> None:
        """Show the component's output to ``function``."""
        self.after(component.hook_out if self._stays(component) else component.original_component, function)

    def after(self, module: nn.Module, function: Callable[[Tensor], None]) -> None:
        """Show a module's output (the first of several) to ``function``."""

        def show(_module: nn.Module, _inputs: Any, out: Any) -> None:
            function(out[0] if isinstance(out, tuple) else out)

        self.handles.append(module.register_forward_hook(show))

    def remove(self) -> None:
        """Remove all hooks."""
        for handle in self.handles:
            handle.remove()
        self.handles.clear()

    def _stays(self, component: Any) -> bool:
        return self.kept is None or component in self.kept or component.original_component is None
