"""Report how far a run is, from the markers in its directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from elimtool.errors import ElimError
from elimtool.run import layout, open_run
from elimtool.tasks.batch.run import TOTAL, BatchProgress
from elimtool.tasks.batch.state import State


def status(directory: Path) -> dict[str, Any]:
    """Report the state and the counts of a run.

    Returns:
        ``state`` (``running``, ``interrupted`` or ``finished``), ``model``, ``input``, ``started``,
        ``finished``, ``prompts``, ``total`` (``None`` if not counted), ``errors``, ``tokens``,
        ``slice``, ``shards``, ``seconds`` (of work in shards) and ``bytes``; a run of ``trace`` lacks
        ``input``, ``tokens`` and these.

    Raises:
        ElimError: The directory holds no run.
    """
    state = State(directory)
    if not state.is_there:
        return _without_markers(directory)
    plan = state.plan()
    progress = BatchProgress(shards=state.done())
    finished = open_run(directory).manifest.finished if (directory / layout.MANIFEST).is_file() else None
    return {
        "run": str(directory),
        "state": "finished" if finished else "running" if state.is_locked() else "interrupted",
        "model": plan.manifest.model,
        "input": plan.facts["input"],
        "slice": plan.facts["slice"],
        "started": plan.manifest.started,
        "finished": finished,
        "prompts": progress.prompts,
        "total": state.kept(TOTAL),
        "errors": progress.errors,
        "tokens": progress.tokens,
        "shards": len(progress.shards),
        "seconds": round(sum(one.seconds for one in progress.shards.values()), 3),
        "bytes": sum(progress.summed("size").values()),
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
