"""``elimtool query``: SQL over the tables of many runs, and the history of one number over them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elimtool.cli import options as shared
from elimtool.cli.blocks import spread
from elimtool.errors import ElimError, nearest

if TYPE_CHECKING:
    from elimtool.cli.output import Output

FORMATS = ("table", "csv", "json", "parquet")
SHOWN = 50
"""Rows that a terminal shows unless ``--limit`` says otherwise."""
EPILOG = (
    "Each table of a run (elimtool run show RUN) is a view over all runs, with the columns run, model,"
    " revision, label and started in front; runs has a row for each run. --example prints ten queries."
)


@spread
def query(
    *,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            help="One SELECT statement, then run directories, folders of runs or 'runs/*'.",
            metavar="SQL RUN...",
            show_default=False,
        ),
    ] = None,
    example: Annotated[bool, shared.switch("--example", help="Print ten useful queries.")] = False,
    limit: Annotated[
        int | None,
        shared.option(
            "--limit", metavar="N", help="Most rows; 0 for all. Without: 50 on the screen, all in a file."
        ),
    ] = None,
    format: Annotated[
        str | None,
        shared.option(
            "--format",
            metavar="TYPE",
            help="table, csv, json or parquet. Without: by the name of --out, else table.",
            panel=shared.OUTPUT,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        shared.option("-o", "--out", metavar="FILE", help="Write the rows here.", panel=shared.OUTPUT),
    ] = None,
    overwrite: Annotated[
        bool, shared.switch("--overwrite", help="Replace the file if there is one.", panel=shared.OUTPUT)
    ] = False,
    printed: shared.CommonOptions,
) -> None:
    """Ask many runs at once, in SQL: their tables are views, nothing else can be read, nothing written."""
    output = printed.output
    if example:
        _examples(output, printed.as_json)
        return
    if limit is not None and limit < 0:
        raise ElimError(f"`limit` must be a number of rows from 0, got {limit}")
    kind = _format(format, out, printed.as_json)
    sql, *places = arguments or [""]
    if not sql or not places:
        raise ElimError(
            "give one SELECT statement and the runs that it is about",
            "such as: elimtool query \"SELECT * FROM runs\" 'runs/*'; --example prints ten",
        )
    if out is not None:
        from elimtool.files.destination import check_file

        check_file(out, overwrite)
    from elimtool.analysis.query.runs import find_runs
    from elimtool.analysis.query.sql import select

    most = limit if limit is not None else SHOWN if kind == "table" and out is None else 0
    with output.progress("reading the runs"):
        rows, more = select(sql, find_runs(places), limit=most or None)
    _put(output, rows, more, kind, out, overwrite)


def _examples(output: Output, as_json: bool) -> None:
    from elimtool.analysis.query.examples import EXAMPLES

    if as_json:
        output.json([{"tells": tells, "sql": sql} for tells, sql in EXAMPLES])
        return
    for tells, sql in EXAMPLES:
        output.line(f"-- {tells}")
        output.line(f"{sql}\n")


def _format(given: str | None, out: Path | None, as_json: bool) -> str:
    """Choose the format: what is given, else what the name of the file says."""
    if given is not None and given not in FORMATS:
        raise ElimError(f"--format '{given}' is unknown", nearest(given, FORMATS))
    if as_json and given not in (None, "json"):
        raise ElimError(f"`as_json` and --format {given} were both given", "leave one of the two out")
    suffix = out.suffix.lower().lstrip(".") if out is not None else ""
    kind = given or ("json" if as_json else suffix if suffix in FORMATS else "table")
    if kind == "parquet" and out is None:
        raise ElimError("--format parquet needs a file", "name it with `out`")
    return kind


def _put(output: Output, rows: Any, more: bool, kind: str, out: Path | None, overwrite: bool) -> None:
    """Print the rows, or write them to a file."""
    from elimtool.report.query.rows import rendered, table_lines
    from elimtool.report.screen import Screen

    if out is not None:
        from elimtool.files.destination import write_file

        write_file(out, rendered(rows, kind), overwrite)
        output.wrote(out)
        output.note(f"wrote {out}: {rows.num_rows:,} rows{', more are past the limit' if more else ''}")
        return
    if kind == "table":
        console = output.console
        for line in table_lines(rows, more, Screen(console.width, console.encoding)):
            output.line(line.plain)
        return
    output.text(rendered(rows, kind).decode())
    if more:
        output.note(f"{rows.num_rows:,} rows: more are past the limit")
