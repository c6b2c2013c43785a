"""Keep one map of each model in the cache, where commands find it by the digest of the weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from elimtool.analysis.map.known import HeadRoles, head_roles, stated_roles
from elimtool.engine.options import TraceOptions
from elimtool.errors import ElimError
from elimtool.model import store
from elimtool.model.model import Model
from elimtool.run.reader import open_run
from elimtool.tasks.batch.options import BatchOptions
from elimtool.tasks.batch.state import State
from elimtool.tasks.batch.work import Worker
from elimtool.tasks.map.api import map_model
from elimtool.tasks.map.options import MapOptions
from elimtool.version import __version__

MAP_VERSION = 1
"""Raised when the default map changes, so that older ones are made anew."""


def cached_map(model: Model) -> Path:
    """Name the cache's directory for the map of a model, whether it was made or not."""
    digest = model.hashes()["weights_sha256"]
    return store.cache_dir() / "maps" / f"{digest[:32]}-v{MAP_VERSION}"


def is_default(options: MapOptions, *others: Any) -> bool:
    """Tell whether a map of such options is one that the cache keeps: all parts, on the package's text.

    Args:
        options: What is mapped.
        others: Corpus, labels and tagger, where they were given.
    """
    return options == MapOptions() and not any(others)


def is_stale(directory: Path) -> bool:
    """Tell whether a map was begun by another version of elimtool, which cannot go on with it."""
    state = State(directory)
    if not state.is_there:
        return False
    try:
        return state.plan().manifest.elimtool != __version__
    except ElimError:
        return True


def ensure_map(model: Model, progress: Callable[[str], None] | None = None) -> Path:
    """Make the map of a model with the default settings, unless the cache has it; return its directory.

    Raises:
        ElimError: The model cannot be mapped, or the cache cannot be written.
    """
    place = cached_map(model)
    if _roles_in(place) is None:
        map_model(model, out=place, overwrite=is_stale(place), progress=progress)
    return place


def with_roles(options: TraceOptions, model: Model, run: Path | None = None) -> TraceOptions:
    """Add the roles of the model's heads to options that have none, where they are at hand.

    Args:
        options: What is measured.
        model: The model.
        run: Directory of a batch. One that was begun goes on with the roles that it has, or with none, so
            that a map which was made meanwhile changes no byte of it.
    """
    if options.roles is not None:
        return options
    if run is not None and (state := State(run)).is_there:
        roles = stated_roles(state.plan().manifest)
    else:
        roles = _roles_in(cached_map(model))
    return options if roles is None else replace(options, roles=roles)


class NamingWorker(Worker):
    """Traces prompts, with the roles of the model's heads where they are at hand.

    Args:
        model: The model.
        trace: What to measure.
        batch: Options of the run.
        say: Called with a line of text when something slow begins.
        run: Directory of the run.
    """

    def __init__(
        self,
        model: Model,
        trace: TraceOptions,
        batch: BatchOptions,
        say: Callable[[str], None] | None = None,
        run: Path | None = None,
    ) -> None:
        super().__init__(model, with_roles(trace, model, run), batch, say)


def _roles_in(directory: Path) -> HeadRoles | None:
    """Read the roles of a map in the cache; ``None`` if it is not there, not finished or damaged."""
    if not directory.is_dir():
        return None
    try:
        return head_roles(open_run(directory))
    except ElimError:
        return None
