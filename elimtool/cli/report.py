"""``elimtool report``: a run directory as one HTML page, or one of its figures as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from elimtool.cli import options as shared
from elimtool.cli.output import Output
from elimtool.errors import ElimError


def report(
    directory: Annotated[Path, typer.Argument(help="A run directory: what -o named.", metavar="DIR")],
    out: Annotated[
        Path | None,
        shared.option(
            "-o",
            "--out",
            metavar="FILE",
            help="The file to write. Without: report.html here.",
            panel=shared.OUTPUT,
        ),
    ] = None,
    overwrite: Annotated[
        bool, shared.switch("--overwrite", help="Replace the file if there is one.", panel=shared.OUTPUT)
    ] = False,
    quiet: shared.Quiet = False,
    config: shared.Config = None,
) -> None:
    """Draw a run: one HTML page that needs no network, to look at, to mail and to keep."""
    del config  # its values are the other parameters' defaults by now
    from elimtool.report.html.page import write_page
    from elimtool.run import open_run

    output = Output(quiet)
    path = out or Path("report.html")
    check_file(path, overwrite)
    run = open_run(directory)
    with output.progress(f"drawing {directory}"):
        size = write_page(run, path)
    output.line(str(path))
    count = run.manifest.counts.get("prompts", 0)
    output.note(f"wrote {path}: {count:,} {'prompt' if count == 1 else 'prompts'}, {size / 1e6:.1f} MB")


def check_file(path: Path, overwrite: bool) -> None:
    """Refuse a file that cannot be written, before anything is drawn.

    Raises:
        ElimError: It exists, it is a directory, or its folder does not exist.
    """
    if path.is_dir():
        raise ElimError(f"{path} is a directory", "give the name of a file with -o")
    if path.exists() and not overwrite:
        raise ElimError(f"{path} exists", "give another -o, or --overwrite to replace it")
    if not path.absolute().parent.is_dir():
        raise ElimError(f"{path.parent} does not exist", "make the folder, or choose another -o")
