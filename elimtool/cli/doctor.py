"""``elimtool doctor``: say what is here, what is missing, and the line that installs it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from elimtool.cli import options as shared
from elimtool.cli.output import Output
from elimtool.errors import Exit

if TYPE_CHECKING:
    from elimtool.tasks.doctor import Examination


def doctor(as_json: shared.Json = False) -> None:
    """Say what is installed, where models run and are kept, what is missing, and the line that installs it.

    Exits with 2 if something is missing that no trace works without.
    """
    from elimtool.tasks.doctor import examine

    output = Output()
    found = examine()
    if as_json:
        output.json({**asdict(found), "fit": found.fit})
    else:
        _print(output, found)
    if not found.fit:
        raise typer.Exit(Exit.USAGE)


def _print(output: Output, found: Examination) -> None:
    output.line(f"elimtool {found.elimtool}, Python {found.python}, {found.system}")
    needed = [f"{one.name} {one.version or '-'}" for one in found.packages if one.extra is None]
    output.folded("needs     ", ", ".join(needed) or "unknown")
    for extra in sorted({one.extra for one in found.packages if one.extra}):
        listed = [f"{one.name} {one.version or '-'}" for one in found.packages if one.extra == extra]
        output.folded(f"{extra:10}", ", ".join(listed))
    output.line("")
    for device in found.devices:
        memory = f", {device.memory / 1e9:,.0f} GB" if device.memory else ""
        output.line(f"{'device':10}{device.name}: {device.what}{memory}")
    for cache in found.caches:
        state = f"{cache.size / 1e6:,.0f} MB, {cache.free / 1e9:,.0f} GB free"
        output.folded("cache     ", f"{cache.what}: {cache.path} ({state}; {cache.variable})")
    for model in found.models:
        state = f"ready, {'with' if model.lens else 'without'} its lens" if model.ready else "not fetched"
        output.folded("model     ", f"{model.name}: {state}")
    for name, path in found.programs.items():
        output.folded("tests     ", f"{name}: {path or 'not found (only tests of the HTML page need it)'}")
    for name, value in found.variables.items():
        output.folded("set       ", f"{name}={value}")
    output.line("")
    for one in found.problems:
        output.folded("MISSING   " if one.needed else "could do  ", one.what)
        output.line(f"{'':10}{one.fix}")
    if not found.problems:
        output.line("nothing is missing")
