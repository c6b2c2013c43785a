"""``elimtool query``: SQL over the tables of many runs, and the history of one number over them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elimtool.cli import options as shared
from elimtool.cli.blocks import spread
from elimtool.errors import ElimError, nearest

if TYPE_CHECKING:
    from elimtool.analysis.query.history import MetricQuery
    from elimtool.cli.output import Output

HISTORY = "History of a number"
FORMATS = ("table", "csv", "json", "parquet")
PICTURES = ("png", "svg", "pdf")
DRAWN = ("html", *PICTURES)
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
    metric: Annotated[
        str | None,
        shared.option(
            "--metric",
            metavar="NAME",
            help="Follow this number over the runs instead: a metric of checks (final_logprob) or a column"
            " (survival.target_logprob), mean over the prompts that all runs have.",
            panel=HISTORY,
        ),
    ] = None,
    over: Annotated[
        str | None,
        shared.option(
            "--over",
            metavar="WHAT",
            help="Order of the runs: started, revision or label. Without: started.",
            panel=HISTORY,
        ),
    ] = None,
    by: Annotated[
        str | None,
        shared.option("--by", metavar="WHAT", help="prompt: a series for each prompt.", panel=HISTORY),
    ] = None,
    target: Annotated[
        str | None,
        shared.option("-t", "--target", help="Target to follow. Without: the mean over all.", panel=HISTORY),
    ] = None,
    chain: Annotated[
        str | None, shared.option("--chain", metavar="NAME", help="Sampler chain, likewise.", panel=HISTORY)
    ] = None,
    span: Annotated[
        str | None, shared.option("--span", metavar="NAME", help="Span, likewise.", panel=HISTORY)
    ] = None,
    layers: Annotated[
        str | None,
        shared.option("--layers", metavar="LAYERS", help="Layers such as 12 or 10-20.", panel=HISTORY),
    ] = None,
    agg: Annotated[
        str | None,
        shared.option(
            "--agg",
            metavar="HOW",
            help="How the values of a prompt become one, as in checks. Without: mean.",
            panel=HISTORY,
        ),
    ] = None,
    floor: Annotated[
        float | None,
        shared.option(
            "--floor",
            metavar="X",
            help="Noise floor in the metric's unit (check --noise measures it); limits are 10 times as wide.",
            panel=HISTORY,
        ),
    ] = None,
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
            help="table, csv, json or parquet; of a --metric also html (a page), png, svg or pdf. Without: by"
            " --out's name.",
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
    if out is not None:
        from elimtool.files.destination import check_file

        check_file(out, overwrite)
    if metric is not None:
        from elimtool.analysis.query.history import MetricQuery

        if limit is not None:
            raise ElimError("`limit` goes with SQL: a history has every run", "leave it out")
        asked = MetricQuery(
            metric, target, chain, span, layers, agg or "mean", over or "started", _by(by), floor
        )
        _history(output, arguments or [], asked, kind, out, overwrite)
        return
    alone: dict[str, object] = {"over": over, "by": by, "target": target, "chain": chain, "span": span}
    alone |= {"layers": layers, "agg": agg, "floor": floor}
    if named := [name for name, value in alone.items() if value is not None]:
        raise ElimError(f"`{named[0]}` goes with `metric`", "name a number to follow, or leave it out")
    if kind in DRAWN:
        noun = "page" if kind == "html" else "picture"
        raise ElimError(f"a {noun} shows the history of a number", "name one with `metric`")
    sql, *places = arguments or [""]
    if not sql or not places:
        raise ElimError(
            "give one SELECT statement and the runs that it is about",
            "such as: elimtool query \"SELECT * FROM runs\" 'runs/*'; --example prints ten",
        )
    from elimtool.analysis.query.runs import find_runs
    from elimtool.analysis.query.sql import select

    most = limit if limit is not None else SHOWN if kind == "table" and out is None else 0
    with output.progress("reading the runs"):
        rows, more = select(sql, find_runs(places, findings=True), limit=most or None)
    _put(output, rows, more, kind, out, overwrite)


def _by(given: str | None) -> bool:
    if given not in (None, "prompt"):
        raise ElimError(f"`by` '{given}' is not valid", "prompt: a series for each prompt")
    return given is not None


def _history(
    output: Output, places: list[str], asked: MetricQuery, kind: str, out: Path | None, overwrite: bool
) -> None:
    """Print how a number moved over runs, or write its rows."""
    from elimtool.analysis.query.history import follow
    from elimtool.analysis.query.runs import find_runs

    if not places:
        raise ElimError("name the runs to follow", "such as: elimtool query --metric final_logprob 'runs/*'")
    with output.progress("reading the runs"):
        found = follow(find_runs(places), asked)
    for note in found.notes if kind != "table" else ():
        output.note(note)
    if kind == "html" and out is not None:
        from elimtool.report.html.history import write_history

        write_history(found, out, overwrite)
        output.wrote(out)
        return
    if kind in PICTURES and out is not None:
        from elimtool.report.figures.draw import write_picture
        from elimtool.report.figures.history import history

        write_picture(history(found), out, kind, overwrite)
        output.wrote(out)
        return
    if kind != "table" or out is not None:
        _put(output, found.table, False, kind, out, overwrite)
        return
    from elimtool.report.query.history import history_lines
    from elimtool.report.screen import Screen

    console = output.console
    for line in history_lines(found, Screen(console.width, console.encoding)):
        console.print(line)


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
    if given is not None and given not in (known := (*FORMATS, *DRAWN)):
        raise ElimError(f"--format '{given}' is unknown", nearest(given, known))
    if as_json and given not in (None, "json"):
        raise ElimError(f"`as_json` and --format {given} were both given", "leave one of the two out")
    suffix = out.suffix.lower().lstrip(".") if out is not None else ""
    by_name = suffix if suffix in (*FORMATS, *DRAWN) else "table"
    kind = given or ("json" if as_json else by_name)
    if kind in ("parquet", *DRAWN) and out is None:
        raise ElimError(f"--format {kind} needs a file", "name it with `out`")
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
