"""List the commands, and turn errors into messages and exit codes."""

from __future__ import annotations

import errno
import gc
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, TextIO, cast

import typer

from elimtool.cli import (
    attribute,
    audit,
    batch,
    check,
    compare,
    coverage,
    doctor,
    explore,
    export,
    lens,
    locate,
    map,
    mcp,
    models,
    population,
    query,
    report,
    samplers,
    sweep,
    trace,
)
from elimtool.cli import options as shared
from elimtool.cli import run as runs
from elimtool.cli.naming import running, with_flags
from elimtool.cli.safe import SafeGroup, log_safely
from elimtool.errors import ElimError, Exit
from elimtool.report.visible import safe, writable
from elimtool.version import __version__

OWN = Path(__file__).parents[1]
"""Where elimtool's own files are."""

app = typer.Typer(
    name="elimtool",
    cls=SafeGroup,
    help="Shows what a language model eliminated, where, by which component, and by how much.",
    epilog="Start with: elimtool trace 'The capital of France is' -t Paris",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("trace", no_args_is_help=True, epilog=shared.EPILOG)(trace.trace)
app.command("attribute", no_args_is_help=True, epilog=shared.EPILOG)(attribute.attribute)
app.command("batch", no_args_is_help=True, epilog=batch.EPILOG)(batch.batch)
app.command("audit", no_args_is_help=True, epilog=population.EPILOG)(audit.audit)
app.command("coverage", no_args_is_help=True, epilog=population.EPILOG)(coverage.coverage)
app.command("sweep", no_args_is_help=True, epilog=population.EPILOG)(sweep.sweep)
app.command("check", no_args_is_help=True, epilog=shared.EPILOG)(check.check)
app.command("locate", no_args_is_help=True, epilog=shared.EPILOG)(locate.locate)
app.command("map", no_args_is_help=True, epilog=map.EPILOG)(map.map_)
app.command("compare", no_args_is_help=True, epilog=compare.EPILOG)(compare.compare)
app.command("export", no_args_is_help=True, epilog=export.EPILOG)(export.export)
app.command("query", no_args_is_help=True, epilog=query.EPILOG)(query.query)
app.command("report", no_args_is_help=True)(report.report)
app.command("explore")(explore.explore)
app.command("mcp")(mcp.mcp)
app.command("doctor")(doctor.doctor)
app.add_typer(lens.app, name="lens")
app.add_typer(models.app, name="models")
app.add_typer(runs.app, name="run")
app.add_typer(samplers.app, name="samplers")


COLLECT_AFTER = 100_000
"""Objects allocated between two runs of the cycle collector; Python's default is 2000 or less."""


def _version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"elimtool {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def elimtool(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Shows what a language model eliminated, where, by which component, and by how much."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with an exit code of ``elimtool.errors.Exit``."""
    # Imports and models are millions of objects that live to the end. Looking for cycles among them less
    # often, and not at all at shutdown, saves a second.
    gc.set_threshold(COLLECT_AFTER)
    _reopen_streams()
    log_safely()
    code = run(lambda: app(arguments, prog_name="elimtool"), sys.argv[1:] if arguments is None else arguments)
    gc.freeze()
    sys.exit(code)


def run(command: Callable[[], object], arguments: Sequence[str] = ()) -> int:
    """Run a command, report an error in one line on stderr, and return the exit code.

    Args:
        command: The call to run.
        arguments: The command line; it says whose flags messages name.
    """
    try:
        command()
    except ElimError as error:
        ran = running(typer.main.get_command(app), arguments)
        _say(f"error: {with_flags(error.message, ran)}")
        hint, *table = with_flags(error.hint, ran).split("\n")
        for line in (f"hint: {hint}", *table) if hint else ():
            _say(line)
        return error.exit_code
    except KeyboardInterrupt:
        _say("interrupted")
        return Exit.INTERRUPTED
    except SystemExit as leaving:
        # Typer and Rich leave with 1 only where standard output was closed under them.
        if leaving.code == 1:
            return _broken_pipe()
        if leaving.code == Exit.INTERRUPTED:
            _say("interrupted")
        return leaving.code if isinstance(leaving.code, int) else Exit.OK
    except BrokenPipeError:
        return _broken_pipe()
    except Exception as error:  # what nothing else explains is a defect: it is logged and said
        if isinstance(error, OSError) and _said_of_a_file(error):
            return Exit.USAGE
        _say(f"error: this is a defect of elimtool; the traceback is in {_log_traceback()}")
        return Exit.DEFECT
    return Exit.OK


def _said_of_a_file(error: OSError) -> bool:
    """Say what a full disk or a path that cannot be used is about; tell whether it was said."""
    if error.errno == errno.ENOSPC:
        _drop_output()
        _say(f"error: {error.strerror}")
        _say("hint: free some space where standard output goes")
        return True
    named = isinstance(error.filename, str | bytes | os.PathLike)  # one that no command looked at before
    if named and not Path(os.fsdecode(error.filename)).is_relative_to(OWN):
        _say(f"error: cannot use {os.fsdecode(error.filename)}: {error.strerror}")
        if error.errno == errno.ENAMETOOLONG:  # never one of elimtool's own
            _say("hint: choose a shorter name")
            return True
        log = _log_traceback()  # a defect may look like a path of the user's
        _say(f"hint: check the path and its permissions; if you did not name it, see the traceback in {log}")
        return True
    return False


def _say(line: str) -> None:
    """Print one line on stderr, whatever its encoding; do nothing where stderr is closed."""
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    text = writable(encoding)(safe(" ".join(line.split("\n"))))
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def _broken_pipe() -> int:
    """End quietly when nobody reads standard output any more."""
    _drop_output()
    return Exit.BROKEN_PIPE


def _drop_output() -> None:
    """Drop what standard output did not take, so that the interpreter does not complain when it flushes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _reopen_streams() -> None:
    """Replace streams that were closed from the start (``>&-``): stdout by a broken pipe, stderr by nothing.

    Python sets them to None: a result would look like a defect, and errors would go to standard output.
    """
    if sys.stdout is None:
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 1)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if not isinstance(sys.stderr, _Notes):
        sys.stderr = cast(TextIO, _Notes(sys.stderr))


class _Notes:
    """Standard error that drops what cannot be written: a full disk there must not end a good command."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text, or drop it."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, or drop what is left."""
        with suppress(OSError):
            self._stream.flush()


def _log_traceback() -> str:
    """Write the current traceback to a new log file; to stderr if no file can be written."""
    import tempfile
    import traceback
    from pathlib import Path

    text = f"elimtool {__version__}, Python {sys.version}\n{sys.argv}\n\n{traceback.format_exc()}"
    try:
        from elimtool.model.store import cache_dir

        folder = cache_dir() / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=folder, suffix=".log", delete=False, encoding="utf-8"
        ) as file:
            file.write(text)
        return str(Path(file.name))
    except (OSError, ElimError):
        _say(text)
        return "the lines above"
