"""Find the runs that a query is about, by directories, patterns, and folders of runs."""

from __future__ import annotations

from collections.abc import Sequence
from glob import glob
from pathlib import Path

from elimtool.errors import ElimError, Exit
from elimtool.run import Run, open_run
from elimtool.run.layout import MANIFEST


def find_runs(places: Sequence[str | Path]) -> dict[str, Run]:
    """Open runs by their directories.

    Args:
        places: Run directories; folders whose folders are runs; patterns such as ``runs/*``, of which what
            is not a run is left out.

    Returns:
        The runs by their paths as given, in that order; those of a folder or pattern by name.

    Raises:
        ElimError: A directory is not a run or damaged, or no run is found (exit code 5).
    """
    found: dict[str, Run] = {}
    for place in places:
        for path in _directories(Path(place)):
            found.setdefault(path.as_posix(), open_run(path))
    if not found:
        named = ", ".join(map(str, places)) or "nothing"
        raise ElimError(f"there is no run in {named}", "name run directories, or 'runs/*'", Exit.NOTHING)
    return found


def _directories(place: Path) -> list[Path]:
    if not place.exists() and any(sign in str(place) for sign in "*?["):
        matching = sorted(glob(str(place)))  # noqa: PTH207 (Path.glob takes no absolute pattern)
        return [Path(one) for one in matching if (Path(one) / MANIFEST).is_file()]
    if place.is_dir() and not (place / MANIFEST).is_file():
        inside = sorted(one for one in place.iterdir() if (one / MANIFEST).is_file())
        return inside or [place]
    return [place]
