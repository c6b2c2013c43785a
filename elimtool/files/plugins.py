"""Find what installed packages add to elimtool, by entry points, when a name needs it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from elimtool.errors import ElimError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")


@dataclass(frozen=True)
class Plugin:
    """What one entry point names.

    Attributes:
        name: Its name in elimtool.
        distribution: Name and version of the installed package that brings it.
    """

    name: str
    distribution: str

    def __str__(self) -> str:
        return f"plugin '{self.name}' of {self.distribution}"

    def failed(self, what: str) -> ElimError:
        """Return the error for something that the plugin does wrong."""
        return ElimError(f"{self}: {what}", "tell its authors, or uninstall it")


ORIGINS: dict[Any, Plugin] = {}
"""The plugin of each class that was loaded from one."""


class Registry(dict[str, T], Generic[T]):
    """Built-in parts by name, and those of installed packages behind them.

    Iterating gives the built-in ones. A name that is not among them is looked for among the entry points of
    ``group``, which are read then, once.

    Args:
        own: The built-in parts.
        group: Name of the entry-point group.
        check: Returns what is wrong with a loaded object for a name; empty if nothing is.
        taken: Names that no plugin may have, besides the built-in ones.
    """

    def __init__(
        self, own: dict[str, T], group: str, check: Callable[[str, Any], str], taken: Collection[str] = ()
    ) -> None:
        super().__init__(own)
        self.own = tuple(own)
        self.group = group
        self.check = check
        self.taken = taken

    @cached_property
    def _entries(self) -> dict[str, tuple[EntryPoint, Plugin]]:
        from importlib.metadata import entry_points

        found: dict[str, tuple[EntryPoint, Plugin]] = {}
        for entry in sorted(entry_points(group=self.group), key=lambda one: (one.name, one.value)):
            package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
            plugin = Plugin(entry.name, package)
            if not entry.name.isidentifier():
                raise plugin.failed("its name must be of letters, digits and underscores")
            if entry.name in self.own or entry.name in self.taken:
                raise plugin.failed("elimtool has something of that name already")
            if entry.name in found and found[entry.name][1] != plugin:
                raise plugin.failed(f"{found[entry.name][1].distribution} has one of that name too")
            found[entry.name] = entry, plugin
        return found

    def __contains__(self, name: object) -> bool:
        if super().__contains__(name):
            return True
        return isinstance(name, str) and name.isidentifier() and name in self._entries

    def __missing__(self, name: str) -> T:
        if name not in self._entries:
            raise KeyError(name)
        entry, plugin = self._entries[name]
        try:
            loaded: T = entry.load()
        except Exception as error:  # code of others may raise anything
            raise plugin.failed(f"cannot be loaded: {type(error).__name__}: {error}") from error
        if wrong := self.check(name, loaded):
            raise plugin.failed(wrong)
        ORIGINS[loaded] = plugin
        self[name] = loaded
        return loaded

    def everything(self) -> Iterator[str]:
        """Return all names: the built-in ones, then those of installed packages."""
        yield from self.own
        yield from self._entries
