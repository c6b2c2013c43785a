"""Report how far a run is, from the markers in its directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from elimtool.errors import ElimError
from elimtool.files.replacing import earlier
from elimtool.run import layout, open_run
from elimtool.run.damage import damage, in_words
from elimtool.tasks.batch.run import TOTAL, BatchProgress
from elimtool.tasks.batch.state import State


def status(directory: Path) -> dict[str, Any]:
    """Report the state and the counts of a run.

    Returns:
        ``state`` (``running``, ``interrupted``, ``finished``, or ``damaged``: finished, and lacks what it
        had), ``damaged`` (what is wrong, a line for each shard), ``replaces`` (directory of the run that it
        replaces, until it is finished), ``model``, ``input``, ``started``,
        ``finished``, ``prompts``, ``total`` (``None`` if not counted), ``errors``, ``tokens``,
        ``slice``, ``shards``, ``seconds`` (of work in shards) and ``bytes``; a run of ``trace`` lacks
        ``input``, ``tokens`` and these.

    Raises:
        ElimError: The directory holds no run.
    """
    state = State(directory)
    if not state.is_there:
        begun = state.folder.is_dir() and not (directory / layout.MANIFEST).is_file()
        return _before_its_plan(state) if begun else _without_markers(directory)
    plan = state.plan()
    progress = BatchProgress(shards=state.done())
    damaged = in_words(damage(directory))
    finished = _finished(directory)
    total = state.kept(TOTAL)
    if not isinstance(total, int | None):
        damaged, total = [*damaged, f"{TOTAL} holds no number of prompts"], None
    if finished and not damaged and total not in (None, progress.prompts):
        damaged = [f"markers of {total - progress.prompts:,} prompts are missing"]
    return {
        "run": str(directory),
        "state": _state(state, finished, damaged),
        "damaged": damaged,
        "replaces": _replaces(directory),
        "model": plan.manifest.model,
        "input": plan.facts["input"],
        "slice": plan.facts["slice"],
        "started": plan.manifest.started,
        "finished": finished,
        "prompts": progress.prompts,
        "total": total,
        "errors": progress.errors,
        "tokens": progress.tokens,
        "shards": len(progress.shards),
        "seconds": round(sum(one.seconds for one in progress.shards.values()), 3),
        "bytes": sum(progress.summed("size").values()),
    }


def _state(state: State, finished: str | None, damaged: list[str]) -> str:
    if state.is_locked():
        return "running"
    if not finished:
        return "interrupted"
    return "damaged" if damaged else "finished"


def _finished(directory: Path) -> str | None:
    """When the run ended; None where it did not, or where its manifest is damaged."""
    if not (directory / layout.MANIFEST).is_file():
        return None
    try:
        return open_run(directory).manifest.finished
    except ElimError:
        return None


def _replaces(directory: Path) -> str | None:
    kept = earlier(directory)
    return str(kept[-1]) if kept else None


def _before_its_plan(state: State) -> dict[str, Any]:
    """Report on a batch that was begun and has not loaded its model yet."""
    return {
        "run": str(state.directory),
        "state": "running" if state.is_locked() else "interrupted",
        "damaged": [],
        "replaces": _replaces(state.directory),
        **dict.fromkeys(("model", "input", "slice", "started", "finished", "total")),
        **dict.fromkeys(("prompts", "errors", "tokens", "shards", "seconds", "bytes"), 0),
    }


def _without_markers(directory: Path) -> dict[str, Any]:
    """Report on a run of ``elimtool trace``, which is finished or no run at all."""
    try:
        run = open_run(directory)
    except ElimError as error:
        raise ElimError(error.message, "give the directory that the batch was written to") from error
    table = run.arrow("prompts")
    return {
        "run": str(directory),
        "state": "finished",
        "model": run.manifest.model,
        "started": run.manifest.started,
        "finished": run.manifest.finished,
        "prompts": table.num_rows,
        "total": table.num_rows,
        "errors": table.column("status").to_pylist().count("error"),
    }
