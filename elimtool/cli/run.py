"""``elimtool run``: show how far a run is, and join the slices of a job array."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from elimtool.cli import options as shared
from elimtool.cli.output import Output

app = typer.Typer(help="Show the progress of a run, or join the slices of one.", no_args_is_help=True)


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

    total = f" of {found['total']:,}" if found["total"] is not None else ""
    output.line(f"{found['run']}: {found['state']}")
    output.line(f"{found['prompts']:,}{total} prompts, {found['errors']:,} of them errors")
    output.line(f"model {found['model']}, started {found['started']}")
    if found["finished"]:
        output.line(f"finished {found['finished']}")
    if found.get("seconds"):
        rate = found["tokens"] / found["seconds"]
        output.line(
            f"{found['shards']:,} shards in {duration(found['seconds'])} of work, {rate:,.0f} tokens/s,"
            f" {found['bytes'] / 1e6:,.1f} MB"
        )
    if found["state"] == "interrupted":
        output.line("run the same command again to go on")


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
