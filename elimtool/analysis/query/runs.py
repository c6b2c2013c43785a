"""Find the runs that a query is about, by directories, patterns, and folders of runs."""

from __future__ import annotations

from collections.abc import Sequence
from glob import glob
from pathlib import Path

from elimtool.errors import ElimError, Exit
from elimtool.run import Run, open_run
from elimtool.run.layout import MANIFEST
from elimtool.run.several import is_several, open_found


def find_runs(places: Sequence[str | Path], findings: bool = False) -> dict[str, Run]:
    """Open runs by their directories.

    Args:
        places: Run directories; folders whose folders are runs; patterns such as ``runs/*``, of which what
            is not a run is left out.
        findings: Whether folders of what was found in several runs count too.

    Returns:
        The runs by their paths as given, in that order; those of a folder or pattern by name.

    Raises:
        ElimError: A directory is not a run or damaged, or no run is found (exit code 5).
    """
    found: dict[str, Run] = {}
    for place in places:
        for path in _directories(Path(place), findings):
            found.setdefault(path.as_posix(), open_found(path) if findings else open_run(path))
    if not found:
        named = ", ".join(map(str, places)) or "nothing"
        raise ElimError(f"there is no run in {named}", "name run directories, or 'runs/*'", Exit.NOTHING)
    return found


def _directories(place: Path, findings: bool) -> list[Path]:
    def can_be_read(path: Path) -> bool:
        return (path / MANIFEST).is_file() or (findings and is_several(path))

    if not place.exists() and any(sign in str(place) for sign in "*?["):
        matching = sorted(glob(str(place)))  # noqa: PTH207 (Path.glob takes no absolute pattern)
        return [Path(one) for one in matching if can_be_read(Path(one))]
    if place.is_dir() and not can_be_read(place):
        inside = sorted(filter(can_be_read, place.iterdir()))
        return inside or [place]
    return [place]
