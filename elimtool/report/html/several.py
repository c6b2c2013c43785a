"""Gather the data of a page of what commands found in several runs: sentences and figures, no prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from elimtool.files.destination import write_file
from elimtool.report.figures.words import SCREEN
from elimtool.report.html.page import filled
from elimtool.report.html.payload import lens_name, only_figures
from elimtool.report.populations.sections import sections
from elimtool.run.reader import Run


def front(found: Run) -> dict[str, Any]:
    """Gather what the page shows, in the form of ``payload.front``.

    Args:
        found: From ``open_found``.
    """
    manifest = found.manifest
    asked: list[Any] = [found.analysis(one).manifest.options for one in found.analyses]
    names = dict.fromkeys(name for one in asked for name in one.get("runs", {}))
    facts = {
        "model": SCREEN.visible(manifest.model),
        "facts": [
            manifest.dtype,
            *([f"lens {lens_name(manifest.lens)}"] if manifest.lens else []),
            f"elimtool {manifest.elimtool}",
        ],
        "finished": "",
    }
    listed = f"Runs: {', '.join(SCREEN.visible(name) for name in names)}."
    page = only_figures([], f"{len(names):,} runs together", facts, [listed])
    return page | {"analyses": [one.to_json() for one in sections(found)]}


def write_findings(found: Run, path: Path, overwrite: bool = False) -> int:
    """Write the page of what was found in several runs to a file, complete or not at all.

    Returns:
        Its size in bytes.

    Raises:
        ElimError: What was found is damaged; the file is there and not to be replaced, or cannot be written.
    """
    content = "".join(filled(front(found), ())).encode()
    write_file(path, content, overwrite)
    return len(content)
