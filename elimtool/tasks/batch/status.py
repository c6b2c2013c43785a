"""How far a run directory is, read off its markers: in progress, interrupted, or finished."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from elimtool.errors import ElimError
from elimtool.run import layout, open_run
from elimtool.tasks.batch.run import TOTAL
from elimtool.tasks.batch.state import State


def status(directory: Path) -> dict[str, Any]:
    """What is known of a run.

    Returns:
        ``state`` (``running``, ``interrupted`` or ``finished``), ``model``, ``input``, ``started``,
        ``finished``, ``prompts``, ``total`` (``None`` where it was not counted), ``errors``, ``tokens``,
        ``slice``, ``shards``, ``seconds`` (of work in shards) and ``bytes``; a run of ``trace`` lacks
        ``input``, ``tokens`` and these.

    Raises:
        ElimError: The directory holds no run.
    """
    state = State(directory)
    if not state.is_there:
        return _without_markers(directory)
    plan = state.plan()
    done = state.done().values()
    finished = _finished(directory)
    return {
        "run": str(directory),
        "state": "finished" if finished else "running" if state.is_locked() else "interrupted",
        "model": plan.manifest.model,
        "input": plan.facts["input"],
        "slice": plan.facts["slice"],
        "started": plan.manifest.started,
        "finished": finished,
        "prompts": sum(one.prompts for one in done),
        "total": state.kept(TOTAL),
        "errors": sum(one.errors for one in done),
        "tokens": sum(one.tokens for one in done),
        "shards": len(done),
        "seconds": round(sum(one.seconds for one in done), 3),
        "bytes": sum(sum(one.size.values()) for one in done),
    }


def _finished(directory: Path) -> str | None:
    if not (directory / layout.MANIFEST).is_file():
        return None
    return open_run(directory).manifest.finished


def _without_markers(directory: Path) -> dict[str, Any]:
    """A run of ``elimtool trace``: finished, or no run at all."""
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
