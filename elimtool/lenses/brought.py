"""Find lenses of installed packages and of the user, and hold them to what a lens promises."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.files.plugins import Plugin, Registry
from elimtool.model.model import Model

CHOICES = ("raw", "ridge", "auto")
"""Names of elimtool's own lenses."""


def _fault(name: str, lens: Any) -> str:
    """Say what is wrong with the lens of a plugin."""
    if not callable(getattr(lens, "to_final", None)):
        return f"{lens!r} has no method to_final"
    if getattr(lens, "name", None) != name:
        return f"its entry point is called '{name}', and its name is {getattr(lens, 'name', None)!r}"
    return ""


LENSES: Registry[Any] = Registry({}, "elimtool.lenses", _fault, taken=CHOICES)
"""Classes that take a model, or lenses, by name; elimtool's own are opened by ``open_lens``."""


class BroughtLens:
    """A lens of a plugin; what it does wrong names the plugin.

    Args:
        lens: The lens.
        plugin: Where it comes from.
    """

    def __init__(self, lens: Any, plugin: Plugin) -> None:
        self.name: str = plugin.name
        self.plugin = plugin
        self._lens = lens

    @classmethod
    def open(cls, name: str, model: Model) -> BroughtLens:
        """Make a lens of ``LENSES`` for a model.

        Raises:
            ElimError: It cannot be made.
        """
        made = LENSES[name]
        plugin = LENSES.origins[name]
        try:
            return cls(made(model) if isinstance(made, type) else made, plugin)
        except ElimError:
            raise
        except Exception as error:  # code of others may raise anything
            raise plugin.failed(f"{type(error).__name__}: {error}") from error

    def to_final(self, residual: Float[Tensor, "rows width"], layer: int) -> Float[Tensor, "rows width"]:
        """Map residuals as the lens does.

        Raises:
            ElimError: It raises, or what it returns has another shape, type or device, or is not finite.
        """
        try:
            found = self._lens.to_final(residual.clone(), layer)
        except (ElimError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # code of others may raise anything
            raise self.plugin.failed(f"{type(error).__name__}: {error}") from error
        if not isinstance(found, Tensor):
            raise self.plugin.failed(f"to_final returns a {type(found).__name__}, not a tensor")
        for what in ("shape", "dtype", "device"):
            given, wanted = getattr(found, what), getattr(residual, what)
            if given != wanted:
                raise self.plugin.failed(f"to_final returns {what} {_told(given)}, not {_told(wanted)}")
        if not found.isfinite().all():
            raise self.plugin.failed(f"to_final returns numbers that are not finite, at layer {layer}")
        return found


def _told(value: Any) -> str:
    return str(tuple(value) if isinstance(value, torch.Size) else value)
