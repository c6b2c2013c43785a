"""``elimtool run``: show how far a run is and what it holds, and join the slices of a job array."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elimtool.cli import completing
from elimtool.cli import options as shared
from elimtool.cli.output import Output
from elimtool.errors import ElimError

if TYPE_CHECKING:
    from elimtool.files.rows import Selected
    from elimtool.run import Run

AGAIN = {"interrupted": "go on", "damaged": "measure damaged shards anew"}
"""What the command that wrote a run does when it is run again, by state."""

app = typer.Typer(
    help="Show how far a run is and what it holds, or join the slices of one.", no_args_is_help=True
)


@app.command("status")
def status_(
    directory: Annotated[Path, typer.Argument(help="Directory of a run or comparison.", metavar="DIR")],
    as_json: shared.Json = False,
) -> None:
    """Show whether a run is running, interrupted or finished, with its prompts, errors and time."""
    from elimtool.run.comparison import is_comparison

    output = Output()
    if is_comparison(directory):
        _comparison(output, directory, as_json)
        return
    from elimtool.tasks.batch.status import status

    found = status(directory)
    if as_json:
        output.json(found)
    else:
        _print(output, found)


def _comparison(output: Output, directory: Path, as_json: bool) -> None:
    """Describe a comparison, which is always finished."""
    from elimtool.run.comparison import open_comparison

    found = open_comparison(directory)
    states = found.arrow("pairs").column("status").to_pylist()
    facts = {
        "comparison": str(directory),
        "state": "finished",
        "kind": found.kind,
        "a": found.a.model,
        "b": found.b.model,
        "started": found.manifest.started,
        "finished": found.manifest.finished,
        "pairs": len(states),
        "errors": states.count("error"),
    }
    if as_json:
        output.json(facts)
        return
    output.line(f"{directory}: comparison of two {found.kind}, finished")
    output.line(f"{facts['pairs']:,} pairs, {facts['errors']:,} of them errors")
    output.line(f"A {facts['a']}, B {facts['b']}, finished {facts['finished']}")


def _print(output: Output, found: dict[str, Any]) -> None:
    from elimtool.cli.progress import duration
    from elimtool.tasks.batch.place import replaced

    total = f" of {found['total']:,}" if found["total"] is not None else ""
    output.line(f"{found['run']}: {found['state']}")
    for line in found.get("damaged", ()):
        output.line(line)
    if found.get("replaces"):
        output.line(replaced(Path(found["run"])))
    output.line(f"{found['prompts']:,}{total} prompts, {found['errors']:,} of them errors")
    if found["model"] is None:
        output.line("it was begun, and has not loaded its model yet")
    else:
        output.line(f"model {found['model']}, started {found['started']}")
    if found["finished"]:
        output.line(f"finished {found['finished']}")
    if found.get("seconds"):
        rate = found["tokens"] / found["seconds"]
        output.line(
            f"{found['shards']:,} shards in {duration(found['seconds'])} of work, {rate:,.0f} tokens/s,"
            f" {found['bytes'] / 1e6:,.1f} MB"
        )
    if found["state"] in AGAIN:
        output.line(f"run the same command again to {AGAIN[found['state']]}")


@app.command("show")
def show(
    directory: Annotated[Path, typer.Argument(help="Directory of a run.", metavar="DIR")],
    table: Annotated[
        str | None,
        typer.Argument(
            help="Table to print. Without: which there are.",
            metavar="TABLE",
            autocompletion=completing.tables_of_run,
        ),
    ] = None,
    where: Annotated[
        list[str] | None,
        shared.option(
            "--where",
            metavar="CONDITION",
            help="Print only rows such as outcome=survived, final_rank>10 or cut_chain=null; repeatable, all"
            " must hold.",
        ),
    ] = None,
    columns: Annotated[
        list[str] | None,
        shared.option("--columns", metavar="NAMES", help="Print these columns, such as target,final_rank."),
    ] = None,
    limit: Annotated[
        int, shared.option("--limit", metavar="N", help="Print at most N rows; 0 for all.")
    ] = 20,
    as_json: shared.Json = False,
) -> None:
    """Print rows of a run's table, or the tables that it has."""
    from elimtool.run.several import open_found

    if limit < 0:
        raise ElimError(f"`limit` must be a number of rows from 0, got {limit}")
    run = open_found(directory)
    Output().plugins(run)
    if table is None:
        if where or columns:
            raise ElimError(
                "`where` and `columns` go with a table",
                f"name one: {', '.join((*run.tables, *run.findings))}",
            )
        _tables(Output(), run, as_json)
        return
    from elimtool.run.rows import select_rows

    names = [name.strip() for one in columns or () for name in one.split(",")] or None
    found = select_rows(run, table, where=where or (), columns=names, limit=limit or None)
    _rows(Output(), found, as_json, names is not None)


def _tables(output: Output, run: Run, as_json: bool) -> None:
    """Print the tables of a run with what a row of each stands for."""
    counts = {name: run.manifest.counts.get(name, 0) for name in run.tables}
    counts |= {name: run.arrow(name).num_rows for name in run.findings}
    if as_json:
        output.json(counts)
        return
    width = max(map(len, counts), default=0)
    for name, count in counts.items():
        output.line(f"{name:{width}}  {count:>11,} rows  {run.definition(name).row}".rstrip())


def _rows(output: Output, found: Selected, as_json: bool, every_column: bool) -> None:
    if as_json:
        from elimtool.run.parts import json_rows

        rows = json_rows(found.rows)
        output.json({"rows": rows, "n_selected": found.n_selected, "n_rows": found.n_rows})
        return
    from elimtool.report.rows import row_lines
    from elimtool.report.screen import Screen

    console = output.console
    for line in row_lines(found, Screen(console.width, console.encoding), every_column):
        output.line(line.plain)


@app.command("merge")
def merge_(
    directories: Annotated[
        list[Path], typer.Argument(help="The directories of --shard 0/n to n-1/n.", metavar="DIR...")
    ],
    out: Annotated[
        Path,
        shared.option(
            "-o", "--out", metavar="DIR", help="Directory to write the run to.", panel=shared.OUTPUT
        ),
    ],
    overwrite: shared.Overwrite = False,
    quiet: shared.Quiet = False,
) -> None:
    """Join the slices of a job array (batch --shard i/n) into one run; prints its directory."""
    from elimtool.tasks.batch.merge import merge

    output = Output(quiet)
    prompts = merge(directories, out, overwrite)
    output.line(str(out))
    output.note(f"{prompts:,} prompts")
