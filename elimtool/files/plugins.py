"""Find what packages and modules of others add to elimtool, when a name needs it."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from elimtool.errors import ElimError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")


@dataclass(frozen=True)
class Plugin:
    """Where a part that is not elimtool's own comes from.

    Attributes:
        name: Its name in elimtool.
        distribution: Name and version of the package that brings it; ``module:name`` without a package.
        source: ``module:name`` of the object.
        installed: Whether an entry point names it, so that it is there in every command.
    """

    name: str
    distribution: str
    source: str = ""
    installed: bool = True

    def __str__(self) -> str:
        return f"plugin '{self.name}' of {self.distribution}"

    def failed(self, what: str) -> ElimError:
        """Return the error for something that the plugin does wrong."""
        instead = "uninstall it" if self.installed else "leave it out of `plugins`"
        return ElimError(f"{self}: {what}", f"tell its authors, or {instead}")

    def facts(self) -> dict[str, str | None]:
        """Return its entry in ``run.json``: package and version, object, SHA-256 of the object's file."""
        module = sys.modules.get(self.source.partition(":")[0])
        file = getattr(module, "__file__", None)
        digest = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else None
        package = None if self.distribution == self.source else self.distribution
        return {"distribution": package, "source": self.source, "sha256": digest}


ORIGINS: dict[Any, Plugin] = {}
"""The plugin of each class that was loaded from one."""


def named(text: str) -> Any:
    """Import the object that ``module:name`` means, from the working directory too.

    Raises:
        ElimError: The text has another form, or the object cannot be imported.
    """
    module, colon, name = text.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
        raise ElimError(f"`plugins` must be like MODULE:NAME, got '{text}'", "such as near_sampler:Near")
    if (here := str(Path.cwd())) not in sys.path and "" not in sys.path:
        sys.path.append(here)
    try:
        found = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:  # code of others may raise anything
        why = f"{type(error).__name__}: {error}"
        raise ElimError(
            f"`plugins`: '{text}' cannot be loaded: {why}",
            f"see what python -c 'import {module}' says here",
        ) from error
    return found


def installed(group: str) -> list[str]:
    """Names that installed packages bring to an entry-point group; nothing of theirs is imported."""
    from importlib.metadata import entry_points

    return sorted(entry_points(group=group).names)


def given(name: str, made: Any) -> Plugin:
    """Say where an object or class comes from that a user gives as it is."""
    kind = made if isinstance(made, type) else type(made)
    source = f"{kind.__module__}:{kind.__qualname__}"
    return Plugin(name, _package_of(kind.__module__) or source, source, installed=False)


def _package_of(module: str) -> str:
    """Name and version of the installed package that brings a module; empty for none."""
    from importlib.metadata import packages_distributions, version

    packages = {*packages_distributions().get(module.partition(".")[0], [])}
    return " ".join(f"{one} {version(one)}" for one in packages) if len(packages) == 1 else ""


class Registry(dict[str, T], Generic[T]):
    """Built-in parts by name, and those of installed packages behind them.

    Iterating gives the built-in ones, and others once they are loaded. A name that is not among them is
    looked for among the entry points of ``group``, which are read then, once.

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
        self.origins: dict[str, Plugin] = {}
        """The plugin of each part that is loaded and not built in."""

    @cached_property
    def _entries(self) -> dict[str, tuple[EntryPoint, Plugin]]:
        from importlib.metadata import entry_points

        found: dict[str, tuple[EntryPoint, Plugin]] = {}
        for entry in sorted(entry_points(group=self.group), key=lambda one: (one.name, one.value)):
            package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
            plugin = Plugin(entry.name, package, entry.value)
            if not entry.name.isidentifier():
                raise plugin.failed("its name must be of letters, digits and underscores")
            self._refuse_taken(plugin)
            if entry.name in found and found[entry.name][1] != plugin:
                raise plugin.failed(f"{found[entry.name][1].distribution} has one of that name too")
            found[entry.name] = entry, plugin
        return found

    def _refuse_taken(self, plugin: Plugin) -> None:
        if plugin.name in self.own or plugin.name in self.taken:
            raise plugin.failed("elimtool has something of that name already")

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
        except (Exception, SystemExit) as error:  # code of others may raise anything
            raise plugin.failed(f"cannot be loaded: {type(error).__name__}: {error}") from error
        self._keep(loaded, plugin)
        return loaded

    def _keep(self, loaded: T, plugin: Plugin) -> None:
        if wrong := self.check(plugin.name, loaded):
            raise plugin.failed(wrong)
        if isinstance(loaded, type):
            ORIGINS[loaded] = plugin
        self.origins[plugin.name] = plugin
        self[plugin.name] = loaded

    def add(self, name: str, made: T) -> None:
        """Make a part known by its name, in place of one that was added under it before.

        Raises:
            ElimError: The name is that of another part, or something is wrong with it.
        """
        plugin = given(name, made)
        self._refuse_taken(plugin)
        if name not in self._entries:
            self._keep(made, plugin)
        elif self[name] is not made:
            if given(name, self[name]).source != plugin.source:
                raise plugin.failed(f"{self._entries[name][1].distribution} has one of that name too")
            self._keep(made, self._entries[name][1])  # its module was loaded anew, or a test watches it

    @property
    def installed(self) -> tuple[str, ...]:
        """Names that installed packages bring."""
        return tuple(self._entries)

    def everything(self) -> Iterator[str]:
        """Return all names: the built-in ones, then those of others."""
        yield from self.own
        yield from dict.fromkeys((*(name for name in self if name not in self.own), *self._entries))
