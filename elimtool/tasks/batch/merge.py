"""Merge the slices of a run that several processes worked on into one run directory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from elimtool.errors import ElimError
from elimtool.files.writing import sync_directory, writing
from elimtool.run import layout
from elimtool.run.damage import refuse_damaged
from elimtool.tasks.batch.options import Slice
from elimtool.tasks.batch.place import BatchPlace
from elimtool.tasks.batch.run import BatchProgress
from elimtool.tasks.batch.state import Done, Plan, State, differences


def merge(directories: Sequence[Path], out: Path, overwrite: bool = False) -> int:
    """Join the slices of one run; the files are those of a run in one piece.

    Args:
        directories: One finished directory for every slice, in any order.
        out: The directory to make.
        overwrite: Replace a run in ``out``.

    Returns:
        Number of prompts.

    Raises:
        ElimError: A slice is missing, given twice, not finished, or part of another run.
    """
    states = [State(directory) for directory in directories]
    plans = [state.plan() for state in states]
    _check(directories, plans)
    markers: dict[int, tuple[Path, Done]] = {}
    for state in states:
        if not (state.directory / layout.MANIFEST).is_file():
            raise ElimError(
                f"{state.directory} is not finished", f"see elimtool run status {state.directory}"
            )
        refuse_damaged(state.directory)
        markers.update({index: (state.directory, done) for index, done in state.done().items()})
    place = BatchPlace(out, overwrite)
    with place.held():
        merged, folder = place.state, place.state.directory
        facts = {**plans[0].facts, "slice": str(Slice())}
        merged.begin(Plan(plans[0].manifest, facts))
        for index, (directory, done) in sorted(markers.items()):
            for name in done.rows:
                _link(directory / name / layout.part_name(index), folder / name / layout.part_name(index))
            merged.mark(done)
        shards = BatchProgress(shards={index: done for index, (_, done) in markers.items()})
        merged.finish(plans[0].manifest, shards.summed("rows"))
        place.settle()
        place.finish()
    return shards.prompts


def _check(directories: Sequence[Path], plans: Sequence[Plan]) -> None:
    for directory, plan in zip(directories[1:], plans[1:], strict=True):
        if found := differences(plans[0].compared, plan.compared):
            name, old, new = found[0]
            raise ElimError(
                f"{directory} belongs to another run than {directories[0]}: {name} is {new!r}, not {old!r}",
                "merge directories that differ in `shard` alone",
            )
    slices = [Slice.parse(plan.facts["slice"]) for plan in plans]
    count = slices[0].count
    given = sorted(one.index for one in slices)
    if any(one.count != count for one in slices) or given != list(range(count)):
        shown = ", ".join(sorted(str(one) for one in slices))
        raise ElimError(
            f"these directories are the slices {shown}", f"give each of 0/{count} to {count - 1}/{count} once"
        )


def _link(source: Path, destination: Path) -> None:
    with writing(destination):
        destination.parent.mkdir(exist_ok=True)
        destination.unlink(missing_ok=True)
        try:
            os.link(source, destination)
        except OSError:  # another file system, or one without hard links
            temporary = destination.with_name(f".{destination.name}.0.tmp")
            shutil.copyfile(source, temporary)
            temporary.replace(destination)
        sync_directory(destination.parent)
