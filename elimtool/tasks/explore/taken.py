"""Make files of a state for the user to take along: its report, its tables, a picture of one figure."""

from __future__ import annotations

import base64
import io
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from elimtool.errors import ElimError
from elimtool.report.figures.draw import DRAW, picture
from elimtool.report.figures.prompt import figures
from elimtool.report.html.page import page
from elimtool.tasks.explore.answer import probe_at
from elimtool.tasks.explore.states import TracedState

PICTURES = ("png", "svg")


def report(state: TracedState) -> dict[str, Any]:
    """Write the report of a state, one file that needs nothing else."""
    return _file("report.html", "text/html", page(state.run).encode())


def archive(state: TracedState) -> dict[str, Any]:
    """Pack the run of a state, as ``elimtool trace -o`` writes it, into a ZIP file."""
    packed = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "run"
        state.run.save(written)
        with zipfile.ZipFile(packed, "w") as file:  # Parquet is compressed already
            for path in sorted(one for one in written.rglob("*") if one.is_file()):
                file.write(path, path.relative_to(folder))
    return _file("run.zip", "application/zip", packed.getvalue())


def drawing(state: TracedState, position: int, name: str, title: str, form: str) -> dict[str, Any]:
    """Draw a figure for print.

    Args:
        state: What was traced.
        position: Which probed position.
        name: Name of the figure.
        title: Its title, as several may have one name.
        form: ``png`` or ``svg``.

    Raises:
        ElimError: There is no such figure or format, or matplotlib is not installed.
    """
    if form not in PICTURES:
        raise ElimError(f"a picture must be {' or '.join(PICTURES)}, got '{form}'")
    drawn = [one for one in figures(probe_at(state, position)) if one.kind in DRAW]
    found = next((one for one in drawn if (one.name, one.title) == (name, title)), None)
    if found is None:
        raise ElimError(f"there is no picture '{name}'", "take the whole report along")
    kind = "image/png" if form == "png" else "image/svg+xml"
    return _file(f"{name}.{form}", kind, picture(found, form))


def _file(name: str, kind: str, content: bytes) -> dict[str, Any]:
    return {"name": name, "type": kind, "base64": base64.b64encode(content).decode()}
