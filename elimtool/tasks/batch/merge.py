"""Merge the directories of ``--shard i/n`` into one run: the same files as of a run in one piece."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from elimtool.errors import ElimError
from elimtool.files.writing import sync_directory, write_text, writing
from elimtool.run import layout
from elimtool.tasks.batch.options import Slice
from elimtool.tasks.batch.state import Done, Plan, State, differences, prepare


def merge(directories: Sequence[Path], out: Path, overwrite: bool = False) -> int:
    """Join the slices of one run.

    Parts are linked where the file system can, else copied.

    Args:
        directories: One finished directory for every slice, in any order.
        out: The directory to make.
        overwrite: Remove the run that is there first.

    Returns:
        Number of prompts.

    Raises:
        ElimError: A slice is missing, comes twice, is not finished, or is of another run.
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
        markers.update({index: (state.directory, done) for index, done in state.done().items()})
    merged = prepare(out, overwrite)
    with merged.locked():
        facts = {**plans[0].facts, "slice": str(Slice())}
        merged.begin(Plan(plans[0].manifest, facts))
        for index, (directory, done) in sorted(markers.items()):
            for name in done.rows:
                _link(directory / name / layout.part_name(index), out / name / layout.part_name(index))
            merged.mark(done)
        _finish(merged, plans[0], [done for _, done in markers.values()])
    return sum(done.prompts for _, done in markers.values())


def _check(directories: Sequence[Path], plans: Sequence[Plan]) -> None:
    first = plans[0].manifest.model_dump(exclude={"started", "finished", "counts"})
    for directory, plan in zip(directories[1:], plans[1:], strict=True):
        other = plan.manifest.model_dump(exclude={"started", "finished", "counts"})
        if found := differences(first, other):
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
        except OSError:
            temporary = destination.with_name(f".{destination.name}.0.tmp")
            shutil.copyfile(source, temporary)
            temporary.replace(destination)
        sync_directory(destination.parent)


def _finish(state: State, plan: Plan, done: Sequence[Done]) -> None:
    counts: dict[str, int] = {}
    for one in done:
        for name, rows in one.rows.items():
            counts[name] = counts.get(name, 0) + rows
    path = state.directory / layout.MANIFEST
    with writing(path):
        write_text(path, plan.manifest.finish(counts).to_json())
